"""Results that do not say how good a run is now: a report shows them, and says above them that they are outdated."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from gmd.data.text_files import read_utf8
from gmd.evaluation.outdated import scored_channels, why_outdated
from gmd.evaluation.results_folder import recorded_data
from gmd.training.run_files import EVALUATION

FIRST = "; a network of gmd 0.1 has to be trained anew first"  # which only then scored channels, or a later one


def outdated_results(run: Path) -> list[str]:
    """Returns a sentence for each outdated evaluation of a run, on its own test cases or on other data."""
    sentences = []
    for table in sorted((run / EVALUATION).rglob("table.csv")):
        if changed := why_outdated(run, table.parent):
            command = ["gmd", "evaluate", str(run)]
            if data := recorded_data(table.parent):
                command += ["--data", data]
            first = FIRST if scored_channels(table.parent) else ""
            sentences.append(
                f"{table.parent.relative_to(run)} is outdated: {changed}. Score anew by: {shlex.join(command)}{first}"
            )
    return sentences


def outdated_folds(folder: Path, folds: Sequence[Path]) -> list[str]:
    """Returns a sentence if the table of a cross-validation is outdated.

    So it is if a fold was trained anew, or evaluated by itself, after all had been scored together, and if an earlier
    gmd has scored them.
    folder: the --out of the training; folds: the runs in it
    """
    together = folder / EVALUATION / "cases.csv"
    if not together.exists():
        return []
    found = [f"of {fold.name} {changed}" for fold in folds if (changed := why_outdated(fold, fold / EVALUATION))]
    if _scores(together) != [score for fold in folds for score in _scores(fold / EVALUATION / "cases.csv")]:
        found.append("it is not what the folds' own evaluations say now")
    if not found:
        return []
    command = shlex.join(["gmd", "evaluate", str(folder)])
    first = FIRST if any(scored_channels(fold / EVALUATION) for fold in folds) else ""
    return [f"evaluation is outdated: {'; '.join(found)}. Score anew by: {command}{first}"]


def _scores(path: Path) -> list[str]:
    """Returns the lines of a `cases.csv` below its header; none if there is no file."""
    return read_utf8(path, errors="surrogateescape").splitlines()[1:] if path.exists() else []
