"""Gathers what a run's folder holds and makes one page of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

import gmd
from gmd.config import TrainBrats, TrainConfig
from gmd.files import replacing
from gmd.report import curves, facts
from gmd.report import folds_page as folds
from gmd.report.cases import case_pictures
from gmd.report.conflicts import gradient_conflicts
from gmd.report.history import read_history
from gmd.report.stale_results import outdated_folds, outdated_results
from gmd.report.subset_table import SubsetTable, column_title, lower_is_better, read_table
from gmd.training.folds import fold_folders, whole
from gmd.training.saved_run import read_config, read_splits

METHODS_WITH_SURGERY = ("gmd", "cggm-gmd")


class Section(NamedTuple):
    """`id`: also of its template."""

    id: str
    title: str


class Tile(NamedTuple):
    """A figure that people want first."""

    value: str
    name: str
    about: str


SUBSETS = Section("subsets", "Every subset of the modalities")
CONFIGURATION = Section("configuration", "Configuration")
OF_A_RUN = (
    SUBSETS,
    Section("curves", "Training"),
    Section("conflicts", "Conflicts between the gradients"),
    Section("dominance", "Dominance of the modalities"),
    Section("cases", "Best and worst cases"),
    Section("resources", "Resources"),
    CONFIGURATION,
    Section("data", "Data and splits"),
)
OF_FOLDS = (SUBSETS, Section("folds", "Folds"), CONFIGURATION)


def write_report(run: Path) -> Path:
    """RUN/report.html: all that the folder tells of a run, trained to the end or not, evaluated or not, in one file.

    Of the folder of a cross-validation: the folds side by side, and what they score together; then also a report of
    each fold. Nothing in a page comes from the network, and whatever stands in the run's files is shown as text.

    Raises UserError: no run there, or one of its files is damaged.
    """
    run = Path(run)
    of_folds = fold_folders(run)
    for fold in of_folds:
        write_report(fold)
    page = _of_folds(run, of_folds) if of_folds else _of_run(run)
    path = run / "report.html"
    with replacing(path) as unfinished:
        unfinished.write_text(_environment().get_template("report.html.j2").render(page), encoding="utf-8")
    return path


def _of_run(run: Path) -> dict:
    config, described = read_config(run), read_splits(run)
    history = read_history(run, config.modalities)
    score = _score_name(config, described)
    best = curves.best_validation(history.epochs)
    validated = (
        [Tile(f"{best['validation']:.3f}", "best validation", f"{score}, epoch {best['epoch']}")] if best else []
    )
    return _common(run, config, validated) | {
        "sections": OF_A_RUN if isinstance(config, TrainBrats) else [s for s in OF_A_RUN if s.id != "cases"],
        "state": facts.state(history, config),
        "outdated": outdated_results(run),
        "training": curves.training_plots(history, score),
        "conflicts": gradient_conflicts(history),
        "surgical": config.method in METHODS_WITH_SURGERY,
        "dominance": _sentences(run / "dominance.txt"),
        "dominance_plots": curves.dominance_plots(history),
        "resources": facts.resources(history),
        "splits": facts.splits(described),
        "data": facts.data_facts(described),
    }


def _of_folds(run: Path, folders: Sequence[Path]) -> dict:
    of_folds = [folds.read_fold(folder) for folder in folders]
    first = of_folds[0]
    score = _score_name(first.config, first.described)
    mean = folds.mean_validation(of_folds)
    validated = [Tile(f"{mean:.3f}", "best validation", f"{score}, mean of the folds")] if mean is not None else []
    return _common(run, whole(first.config, run), validated) | {
        "sections": OF_FOLDS,
        "state": f"Cross-validation: {len(of_folds)} of {first.config.folds} folds are here.",
        "outdated": outdated_folds(run, folders),
        "folds": of_folds,
        "fold_plot": folds.validation_plot(of_folds, score),
    }


def _common(run: Path, config: TrainConfig, validated: list[Tile]) -> dict:
    """What the pages of a run and of a cross-validation share."""
    table = read_table(run / "evaluation", config.modalities)
    return {
        "run": run,
        "config": config,
        "headline": f"{config.TASK}, trained by {config.method} on {', '.join(config.modalities)}.",
        "tables": [*([table] if table else []), *_tables_of_other_data(run, config)],
        "tiles": [*(_tiles(table) if table else []), *validated],
        "segments": isinstance(config, TrainBrats),
        "cases": case_pictures(run / "evaluation"),
        "options": facts.options(config),
        "command": facts.command(config),
        "version": gmd.__version__,
    }


def _environment() -> Environment:
    # every value is escaped, whatever the template's suffix; a name that is missing is an error and not a gap
    environment = Environment(
        loader=PackageLoader("gmd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"column_title": column_title}
    environment.tests |= {"lower_is_better": lower_is_better}
    return environment


def _score_name(config: TrainConfig, described: dict) -> str:
    """What the validation's score is, as the tasks call it."""
    if isinstance(config, TrainBrats):
        return "hard Dice"
    return "accuracy" if described["about"]["classes"] else "Acc-2 neg/non-neg"


def _tiles(table: SubsetTable) -> list[Tile]:
    """All modalities, the mean of the subsets, and the subset that is worst off."""
    rows, column = table.subsets(), table.columns[table.main]
    if not rows:
        return []
    what = "Dice, mean of the regions" if column == "mean" else column
    found = [(row, f"all {len(row.marks)} modalities", what) for row in rows if all(row.marks)]
    found += [(row, f"mean of {len(rows)} subsets", what) for row in table.rows if row.marks is None][:1]
    found.append((rows[-1], "worst subset", rows[-1].label))
    return [Tile(row.cells[table.main].text, name, about) for row, name, about in found]


def _tables_of_other_data(run: Path, config: TrainConfig) -> list[SubsetTable]:
    """What `gmd evaluate RUN --data OTHER` has written, into a folder for each."""
    folders = sorted(path.parent for path in (run / "evaluation").glob("*/table.csv"))
    return [read_table(folder, config.modalities) for folder in folders]


def _sentences(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
