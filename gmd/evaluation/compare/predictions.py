"""The predictions of a run on samples, read back from `predictions.csv` and scored one by one."""

from collections.abc import Sequence
from math import nan
from pathlib import Path

from gmd.data.text_files import EVALUATE_AGAIN, LARGEST, brief, damaged, read_csv
from gmd.scoring.outcomes import Outcome, Outcomes
from gmd.scoring.read_back import number, one_of, whole_number
from gmd.scoring.sequences.tables import prediction_columns, subset_columns, target_column
from gmd.subsets import Subset, all_subsets

Predicted = tuple[str, ...]  # (sample, step)
Scores = dict[Subset, list[float]]  # of one prediction: a number for each outcome


def read_predictions(
    path: Path, modalities: Sequence[str], outcomes: Outcomes
) -> tuple[dict[Predicted, Scores], dict[Predicted, str]]:
    """Reads the predictions of a run.

    Args:
        path: of the file.
        modalities: those of the run.
        outcomes: what it predicts.

    Returns the scores of each subset that the sample has, of each outcome the absolute error, or 1 of the right and 0
        of a wrong class, NaN where it has no label; and the targets, as the file has them.
    Raises UserError, which names the line, for what `gmd evaluate` does not write.
    """
    subsets = all_subsets(modalities)
    columns = prediction_columns(subsets, outcomes)
    values: dict[Predicted, Scores] = {}
    targets: dict[Predicted, str] = {}
    lines = read_csv(path, columns)
    next(lines)
    for line, cells in lines:
        named = dict(zip(columns, cells, strict=True))
        item = (named["sample"], named["step"])
        try:
            whole_number(item[1], "step")
            if item in values:
                raise ValueError(f"{brief(item[0])} has a prediction of step {item[1]} before it already")
            values[item] = _scores(named, subsets, outcomes)
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
        targets[item] = " ".join(named[target_column(outcome)] for outcome in outcomes)
    return values, targets


def _scores(cells: dict[str, str], subsets: list[Subset], outcomes: Outcomes) -> Scores:
    """Returns each subset's scores on one line, without the subsets that the sample lacks: their cells are empty.

    cells: column -> what the line has there
    Raises ValueError for a number that is none, and a class that is not one of the run's.
    """
    first = outcomes[0]
    present = [subset for subset in subsets if cells[subset_columns(subset, first)[0]] != ""]
    return {subset: [_score(cells, subset, outcome, len(outcomes) > 1) for outcome in outcomes] for subset in present}


def _score(cells: dict[str, str], subset: Subset, outcome: Outcome, may_lack: bool) -> float:
    """Returns the score of one subset's prediction of an outcome. may_lack: whether there may be no label"""
    target, what = cells[target_column(outcome)], target_column(outcome)
    column, *probabilities = subset_columns(subset, outcome)
    labelled = target != "" or not may_lack
    if outcome.classes is None:
        predicted = number(cells[column], column, -LARGEST, LARGEST)
        return abs(predicted - number(target, what, -LARGEST, LARGEST)) if labelled else nan
    one_of(cells[column], column, outcome.classes)
    for name in probabilities:
        number(cells[name], name, 0, 1)
    return float(cells[column] == one_of(target, what, outcome.classes)) if labelled else nan
