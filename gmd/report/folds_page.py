"""The page of a cross-validation: the folds side by side, scored together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from gmd.config import TrainConfig
from gmd.report import curves, facts
from gmd.report.facts import NOT_RECORDED, Fact
from gmd.report.history import History, read_history
from gmd.report.plots import Plot, make_plot, modality_style
from gmd.training.saved_run import read_config, read_splits


@dataclass(frozen=True)
class Fold:
    """One run of a cross-validation, and what the page says of it."""

    name: str
    config: TrainConfig
    described: dict
    history: History
    facts: Sequence[Fact]


def read_fold(run: Path) -> Fold:
    config, described = read_config(run), read_splits(run)
    history = read_history(run, config.modalities)
    return Fold(run.name, config, described, history, _facts(history, config, described))


def validation_plot(folds: Sequence[Fold], score: str) -> Plot | None:
    """The score of each fold over its steps."""
    lines = [
        curves.validation_line(fold.history)._replace(label=fold.name, title=fold.name, style=modality_style(number))
        for number, fold in enumerate(folds)
    ]
    return make_plot(f"Validation of each fold: {score}", lines)


def mean_validation(folds: Sequence[Fold]) -> float | None:
    """The mean over the folds of their best validation; None before each has one."""
    best = [curves.best_validation(fold.history.epochs) for fold in folds]
    return fmean(epoch["validation"] for epoch in best) if all(best) else None


def _facts(history: History, config: TrainConfig, described: dict) -> list[Fact]:
    best = curves.best_validation(history.epochs)
    seconds = [epoch["seconds"] for epoch in history.epochs if epoch["seconds"] is not None]
    counts = " / ".join(str(len(split.names)) for split in facts.splits(described))
    done = history.epochs[-1]["epoch"] if history.epochs else 0
    return [
        Fact("train / validation / test", counts),
        Fact("epochs", f"{done} of {config.epochs}"),
        Fact("best validation", f"{best['validation']:.3f}, epoch {best['epoch']}" if best else "none yet"),
        Fact("time", facts.duration(sum(seconds)) if seconds else NOT_RECORDED),
    ]
