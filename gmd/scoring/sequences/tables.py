"""Makes the table of all subsets from the predictions on sequences, and the file of every single prediction."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from torch import Tensor

from gmd.data.sequences.samples import LARGEST_SCORE
from gmd.scoring.sequences.metrics import (
    CLASS_METRICS,
    class_metrics,
    number_metrics,
    sentiment_metric_names,
    sentiment_metrics,
)
from gmd.scoring.table_text import ABSENT, Line, column_means, csv_text, lines_csv, lines_markdown
from gmd.subsets import Subset, all_subsets, subset_name

Classes = Sequence[str] | None  # their names; None: the predictions are scores
Metrics = Mapping[str, float]  # name -> value

BEFORE_PREDICTIONS = 3  # columns of a file of predictions


class Predictions(NamedTuple):
    """Predictions in R rows, one for each sample, or for each of its steps.

    Attributes:
        names: [R], the sample's name.
        steps: [R], the step's number in the sample; 0 where a sample is predicted as a whole.
        targets: [R] float32 scores or int64 classes.
        subsets: subset -> [R, C] float32, the score (C = 1) or the probabilities of the classes; NaN where the sample
            lacks a modality of the subset. The key None stands for whatever each sample has.
    """

    names: list[str]
    steps: list[int]
    targets: Tensor
    subsets: dict[Subset | None, Tensor]


class Row(NamedTuple):
    """One subset's line of the table.

    Attributes:
        subset: the modalities that the predictions are made from; None: whatever each sample has.
        scored: the number of rows of the predictions that are scored.
        metrics: name -> value; empty if no sample has the subset.
    """

    subset: Subset | None
    scored: int
    metrics: dict[str, float]


def metric_names(rows: Sequence[Row], classes: Classes) -> tuple[str, ...]:
    """Returns the names of the metrics that the rows have, or would have if any sample had their subsets."""
    of_mosi = sentiment_metric_names(LARGEST_SCORE)
    return next((tuple(row.metrics) for row in rows if row.metrics), of_mosi if classes is None else CLASS_METRICS)


def subset_table(
    predictions: Predictions, modalities: Sequence[str], classes: Classes, largest_score: float | None = LARGEST_SCORE
) -> list[Row]:
    """Makes all 2^M - 1 rows, small subsets first. A subset that no sample has keeps its row, without numbers.

    largest_score: the end of the scale of scores, None for numbers that are on none, see `SequenceData`
    """
    return [table_row(predictions, subset, classes, largest_score) for subset in all_subsets(modalities)]


def table_row(
    predictions: Predictions, subset: Subset | None, classes: Classes, largest_score: float | None = LARGEST_SCORE
) -> Row:
    """Measures one subset, over all samples that have it and all their steps alike; None: what each sample has.

    largest_score: the end of the scale of scores, None for numbers that are on none, see `SequenceData`
    """
    there = ~predictions.subsets[subset].isnan().all(dim=1)
    values, targets = predictions.subsets[subset][there], predictions.targets[there]
    if not len(values):
        return Row(subset, 0, {})
    if classes is not None:
        return Row(subset, len(values), class_metrics(values, targets))
    if largest_score is None:
        return Row(subset, len(values), number_metrics(values[:, 0], targets))
    return Row(subset, len(values), sentiment_metrics(values[:, 0], targets, largest_score))


def mean_over_subsets(rows: Sequence[Row]) -> dict[str, float]:
    """Returns each metric's mean over the subsets with predictions, each counted once however many it has."""
    return column_means([row.metrics for row in rows if row.scored])


def table_markdown(
    rows: Sequence[Row], modalities: Sequence[str], classes: Classes, extra: Mapping[str, Metrics] | None = None
) -> str:
    """Returns the table for people, the mean over the subsets below them.

    extra: label -> metrics, for lines below the mean and no part of it, of some missing rate for example
    """
    present = sum(row.scored > 0 for row in rows)
    names = metric_names(rows, classes)
    return lines_markdown(_lines(rows, f"mean of {present}", names, extra or {}), modalities, "scored", names)


def table_csv(
    rows: Sequence[Row], modalities: Sequence[str], classes: Classes, extra: Mapping[str, Metrics] | None = None
) -> str:
    """Returns the table for programs: modalities as 1 and 0, all digits, `absent` where no sample has the subset."""
    names = metric_names(rows, classes)
    return lines_csv(_lines(rows, "mean", names, extra or {}), modalities, "scored", names)


def predictions_csv(predictions: Predictions, classes: Classes) -> str:
    """Returns the file of every single prediction, with a line for each sample and step.

    Columns: sample, step, target; then for each subset its score, or else its class and the probability of each. The
    subset None is called `present`. Floats have all digits; cells are empty where a sample does not have the subset.
    """
    header = prediction_columns(predictions.subsets, classes)
    targets = predictions.targets.tolist()
    targets = targets if classes is None else [classes[target] for target in targets]
    blocks = [_block(values, classes) for values in predictions.subsets.values()]
    beginnings = zip(predictions.names, predictions.steps, targets, strict=True)
    return csv_text([header, *(chain(*parts) for parts in zip(beginnings, *blocks, strict=True))])


def prediction_columns(subsets: Iterable[Subset | None], classes: Classes) -> list[str]:
    """Returns the header of `predictions_csv`; the columns of the subsets begin at BEFORE_PREDICTIONS."""
    return ["sample", "step", "target", *(name for subset in subsets for name in _names(subset, classes))]


def _lines(rows: Sequence[Row], label_of_mean: str, names: Sequence[str], extra: Mapping[str, Metrics]) -> list[Line]:
    """Returns the lines of the table: the subsets, their mean, and what else there is, by its label."""
    lines = [Line(_label(row.subset), row.subset, row.scored, _cells(row.metrics, names)) for row in rows]
    labelled = {label_of_mean: mean_over_subsets(rows), **extra}
    return [*lines, *(Line(label, None, None, _cells(metrics, names)) for label, metrics in labelled.items())]


def _cells(metrics: Metrics, names: Iterable[str]) -> list[float | str]:
    """Returns a line's numbers, or as many words for their absence."""
    return [metrics[name] if metrics else ABSENT for name in names]


def _label(subset: Subset | None) -> str:
    """Returns what tables call the subset."""
    return "present" if subset is None else subset_name(subset)


def _names(subset: Subset | None, classes: Classes) -> list[str]:
    """Returns the headers of one subset's columns: its prediction, and the probability of each class."""
    name = _label(subset)
    return [name, *(f"{name} p({kind})" for kind in classes or ())]


def _block(values: Tensor, classes: Classes) -> list[list]:
    """Returns one subset's cells, a list for each row, from its predictions [R, C]."""
    there = (~values.isnan().all(dim=1)).tolist()
    rows: list[list] = values.tolist()
    if classes is not None:
        rows = [[classes[kind], *row] for kind, row in zip(values.argmax(dim=1).tolist(), rows, strict=True)]
    return [row if present else [""] * len(row) for row, present in zip(rows, there, strict=True)]
