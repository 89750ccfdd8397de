"""What the page of a cross-validation shows of its folds, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from gmd.config import TrainBrats
from gmd.errors import UserError
from gmd.report.curves import validation_line
from gmd.report.data_splits import splits
from gmd.report.facts import NOT_RECORDED, Fact, duration
from gmd.report.history import History, read_history
from gmd.report.svg_plot import Plot, make_plot, modality_style
from gmd.training.saved_run import SavedSplits, fold_folders, read_config, read_splits


@dataclass(frozen=True)
class Fold:
    """One run of a cross-validation.

    Attributes:
        name: of its folder: "fold0" and so on.
        config: its configuration, in which `folds` and `fold` are set.
        described: its splits.json.
        history: its training so far.
        facts: its column in the page's table.
    """

    name: str
    config: TrainBrats
    described: SavedSplits
    history: History
    facts: Sequence[Fact]


def existing_folds(folder: Path) -> list[Path]:
    """Returns the folds of a cross-validation, in order; none if the folder is a run itself, or holds no folds.

    Raises UserError if one of them was not trained as a fold.
    """
    folders = fold_folders(folder)
    for run in folders:
        _fold_config(run)
    return folders


def read_fold(run: Path) -> Fold:
    """Reads a fold from its folder. Raises UserError if it is none, or if one of its files is damaged."""
    config, described = _fold_config(run), read_splits(run)
    history = read_history(run, config.modalities)
    return Fold(run.name, config, described, history, _facts(history, config, described))


def _fold_config(run: Path) -> TrainBrats:
    """Returns the configuration of a fold. Raises UserError if the run was not trained as one."""
    config = read_config(run)
    if not isinstance(config, TrainBrats) or config.folds is None:
        raise UserError(
            f"{run}: was trained on {config.TASK} as a run by itself, expected a fold of a cross-validation; report it "
            "by itself, or move it out of this folder"
        )
    return config


def validation_plot(folds: Sequence[Fold], score: str) -> Plot | None:
    """Returns the score of each fold over its steps; None before any has one. score: what it is called"""
    lines = [
        validation_line(fold.history)._replace(label=fold.name, title=fold.name, style=modality_style(number))
        for number, fold in enumerate(folds)
    ]
    return make_plot(f"Validation of each fold: {score}", lines)


def mean_validation(folds: Sequence[Fold]) -> float | None:
    """Returns the mean over the folds of their best validation; None before each has one."""
    scores = [best.score for fold in folds if (best := fold.history.best_validation())]
    return fmean(scores) if len(scores) == len(folds) else None


def _facts(history: History, config: TrainBrats, described: SavedSplits) -> list[Fact]:
    """Returns a fold's column in the page's table: cases, epochs, best validation, time."""
    best = history.best_validation()
    seconds = [epoch.seconds for epoch in history.epochs if epoch.seconds is not None]
    counts = " / ".join(str(len(split.names)) for split in splits(described))
    return [
        Fact("train / validation / test", counts),
        Fact("epochs", f"{history.finished_epochs} of {config.epochs}"),
        Fact("best validation", f"{best.score:.3f}, epoch {best.epoch}" if best else "none yet"),
        Fact("time", duration(sum(seconds)) if seconds else NOT_RECORDED),
    ]
