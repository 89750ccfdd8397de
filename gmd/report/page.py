"""The page of a run, or of a cross-validation: gathers what its folder holds and fills in the templates."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment

import gmd
from gmd.config import TrainBrats, TrainConfig
from gmd.config.surgery import WITH_SURGERY
from gmd.data.text_files import read_utf8
from gmd.decoration import decoration
from gmd.files import real_path, replacing
from gmd.output_paths import check_file
from gmd.report import cross_validation
from gmd.report.anonymous import anonymous_page
from gmd.report.configuration import command, options
from gmd.report.conflicts import gradient_conflicts
from gmd.report.curves import dominance_plots, training_plots
from gmd.report.data_splits import data_facts, splits
from gmd.report.embedded_pictures import embed_pictures
from gmd.report.further_tables import read_further
from gmd.report.history import read_history
from gmd.report.html_templates import html_templates
from gmd.report.outdated_results import outdated_folds, outdated_results
from gmd.report.progress import pace, progress
from gmd.report.resources import resources
from gmd.report.subset_groups import between, ends, is_long, is_one_of_many
from gmd.report.subset_table import SubsetTable, read_table
from gmd.report.tiles import Tile, tiles
from gmd.scoring.outcomes import score_name
from gmd.scoring.shapley import read_shapley
from gmd.scoring.table_text import column_title, lower_is_better
from gmd.training.outcomes import outcomes_of
from gmd.training.run_files import EVALUATION, MISSING_PICTURE, PICTURES_OF_CASES, REPORT, SHAPLEY
from gmd.training.saved_run import SavedSplits, cross_validation_config, read_config, read_splits

MOST_SENTENCES = 2**20  # bytes


class Section(NamedTuple):
    """A section of the page. Its `id` is also the name of its template."""

    id: str
    title: str


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


def write_report(run: Path, anonymous: bool = False) -> Path:
    """Writes report.html into a run's folder and returns its path: all that the folder tells of the run, in one file.

    The run may be trained to the end or not, evaluated or not. The report of a cross-validation has the folds side by
    side, and what they score together; each fold gets a report of its own, too. Nothing in a page comes from the
    internet, and whatever stands in the run's files is shown as text.

    run: the folder of a run or of a cross-validation
    anonymous: whether to leave out who and where: names and pictures of cases, paths, machines, times
    Raises UserError: no run there, folds that are none, one of the files is damaged, or no page can be written there.
    """
    run = Path(run)
    path = run / REPORT
    check_file(path, "the report")
    folds = cross_validation.existing_folds(run)
    for fold in folds:
        write_report(fold, anonymous)
    page = _cross_validation_page(run, folds) if folds else _run_page(run)
    page = anonymous_page(page) if anonymous else page
    with replacing(path) as unfinished:
        unfinished.write_text(
            _environment().get_template("report.html.j2").render(page), encoding="utf-8", errors="backslashreplace"
        )
    return path


def _run_page(run: Path) -> dict[str, object]:
    """Returns what the templates show of one run."""
    config, described = read_config(run), read_splits(run)
    history = read_history(run, config.modalities)
    score = _score_name(config, described)
    best = history.best_validation()
    validated = [Tile(f"{best.score:.3f}", "best validation", f"{score}, epoch {best.epoch}")] if best else []
    return _common(run, config, validated) | {
        "sections": OF_A_RUN if isinstance(config, TrainBrats) else [s for s in OF_A_RUN if s.id != "cases"],
        "state": progress(history, config),
        "outdated": outdated_results(run),
        "training": training_plots(history, score),
        "conflicts": gradient_conflicts(history),
        "pace": pace(history),
        "surgical": config.method in WITH_SURGERY,
        "dominance": _sentences(run / "dominance.txt"),
        "dominance_plots": dominance_plots(history),
        "resources": resources(history),
        "splits": splits(described),
        "data": data_facts(described),
    }


def _cross_validation_page(run: Path, folders: Sequence[Path]) -> dict[str, object]:
    """Returns what the templates show of a cross-validation. folders: its folds"""
    folds = [cross_validation.read_fold(folder) for folder in folders]
    first = folds[0]
    score = _score_name(first.config, first.described)
    mean = cross_validation.mean_validation(folds)
    validated = [Tile(f"{mean:.3f}", "best validation", f"{score}, mean of the folds")] if mean is not None else []
    return _common(run, cross_validation_config(first.config, run), validated) | {
        "sections": OF_FOLDS,
        "state": f"Cross-validation: {len(folds)} of {first.config.folds} folds are here.",
        "outdated": outdated_folds(run, folders),
        "folds": folds,
        "fold_plot": cross_validation.validation_plot(folds, score),
    }


def _common(run: Path, config: TrainConfig, validated: list[Tile]) -> dict[str, object]:
    """Returns what the templates show of runs and cross-validations alike.

    validated: the tile of the best validation
    """
    table = read_table(run / EVALUATION, config.modalities)
    tables = [*([table] if table else []), *_tables_of_other_data(run, config)]
    pictures, wrong = embed_pictures(run / EVALUATION, PICTURES_OF_CASES)
    curves = [embed_pictures(table.path.parent, {"curve": MISSING_PICTURE}) for table in tables]
    return {
        "anonymous": False,
        "run": run,
        "name": real_path(run).name,
        "config": config,
        "headline": f"{config.TASK}, trained by {config.method} on {', '.join(config.modalities)}.",
        "tables": tables,
        "contributions": [read_shapley(table.path.parent / SHAPLEY, config.modalities) for table in tables],
        "further_tables": [read_further(table.path.parent, config.modalities) for table in tables],
        "missing_curves": [found.get("curve") for found, _ in curves],
        "wrong_curves": [reason for _, wrong_ones in curves for reason in wrong_ones],
        "tiles": [*(tiles(table) if table else []), *validated],
        "segments": isinstance(config, TrainBrats),
        "cases": pictures,
        "wrong_pictures": wrong,
        "options": options(config),
        "command": command(config),
        "version": gmd.__version__,
    }


def _environment() -> Environment:
    """Returns the templates, with the filters and tests that they use."""
    environment = html_templates("gmd.report")
    environment.filters |= {"column_title": column_title, "ends": ends, "between": between, "tiles": tiles}
    environment.tests |= {"lower_is_better": lower_is_better, "long": is_long, "one_of_many": is_one_of_many}
    return environment


def _score_name(config: TrainConfig, described: SavedSplits) -> str:
    """Returns what the validation's score is called. described: the run's splits.json"""
    if isinstance(config, TrainBrats):
        return "hard Dice"
    return score_name(outcomes_of(described["about"]))


def _tables_of_other_data(run: Path, config: TrainConfig) -> list[SubsetTable]:
    """Returns the tables that `gmd evaluate RUN --data OTHER` has written, each into a folder of its own."""
    folders = sorted(path.parent for path in (run / EVALUATION).glob("*/table.csv"))
    return [table for folder in folders if (table := read_table(folder, config.modalities))]


def _sentences(path: Path) -> list[str]:
    """Returns the lines of a text file; none if there is no file. One that cannot be read is told on stderr."""
    if not path.exists():
        return []
    read = partial(read_utf8, path, MOST_SENTENCES, "surrogateescape")
    return (decoration("the report lacks a sentence", read) or "").splitlines()
