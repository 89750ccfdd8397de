"""The predictions of a run on sequences, read back from `predictions.csv` and scored one by one."""

from collections.abc import Sequence
from pathlib import Path

from gmd.data.text_files import EVALUATE_AGAIN, LARGEST, brief, damaged, read_csv
from gmd.scoring.read_back import number, one_of, whole_number
from gmd.scoring.sequences.tables import BEFORE_PREDICTIONS, prediction_columns
from gmd.subsets import Subset, all_subsets, subset_name

Predicted = tuple[str, ...]  # (sample, step)
Scores = dict[Subset, list[float]]  # of one prediction


def read_predictions(
    path: Path, modalities: Sequence[str], classes: list[str] | None
) -> tuple[dict[Predicted, Scores], dict[Predicted, str]]:
    """Reads the predictions of a run.

    Args:
        path: of the file.
        modalities: those of the run.
        classes: their names; None: the predictions are scores.

    Returns the score of each subset that the sample has, the absolute error, or 1 of the right and 0 of a wrong class;
        and the targets, as the file has them.
    Raises UserError, which names the line, for what `gmd evaluate` does not write.
    """
    subsets = all_subsets(modalities)
    columns = prediction_columns(subsets, classes)
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
            values[item] = _scores(named, subsets, classes)
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
        targets[item] = named["target"]
    return values, targets


def _scores(cells: dict[str, str], subsets: list[Subset], classes: list[str] | None) -> Scores:
    """Returns each subset's score on one line, without the subsets that the sample lacks: their cells are empty.

    cells: column -> what the line has there
    Raises ValueError for a number that is none, and a class that is not one of the run's.
    """
    present = {subset: subset_name(subset) for subset in subsets if cells[subset_name(subset)] != ""}
    if classes is None:
        target = number(cells["target"], "target", -LARGEST, LARGEST)
        predicted = {subset: number(cells[name], name, -LARGEST, LARGEST) for subset, name in present.items()}
        return {subset: [abs(value - target)] for subset, value in predicted.items()}
    one_of(cells["target"], "target", classes)
    for subset in present:
        chosen, *probabilities = prediction_columns([subset], classes)[BEFORE_PREDICTIONS:]
        one_of(cells[chosen], chosen, classes)
        for name in probabilities:
            number(cells[name], name, 0, 1)
    return {subset: [float(cells[name] == cells["target"])] for subset, name in present.items()}
