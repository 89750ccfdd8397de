"""Makes the table of all subsets from the predictions of samples, and the file of every single prediction."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from torch import Tensor

from gmd.scoring.outcomes import Outcome, Outcomes, measured, metric_names
from gmd.scoring.table_text import ABSENT, Line, column_means, csv_text, lines_csv, lines_markdown
from gmd.subsets import Subset, all_subsets, subset_name

Metrics = Mapping[str, float]  # name -> value


class Predictions(NamedTuple):
    """Predictions in R rows, one for each sample, or for each of its steps.

    Attributes:
        names: [R], the sample's name.
        steps: [R], the step's number in the sample; 0 where a sample is predicted as a whole.
        targets: [R] float32 scores or int64 classes; of several outcomes [R, O] float32, NaN where there is no label.
        subsets: subset -> [R, C] float32, the score (C = 1) or the probabilities of the classes, of several outcomes
            one behind the other; NaN where the sample lacks a modality of the subset. The key None stands for whatever
            each sample has.
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


def subset_table(predictions: Predictions, modalities: Sequence[str], outcomes: Outcomes) -> list[Row]:
    """Makes all 2^M - 1 rows, small subsets first. A subset that no sample has keeps its row, without numbers."""
    return [table_row(predictions, subset, outcomes) for subset in all_subsets(modalities)]


def table_row(predictions: Predictions, subset: Subset | None, outcomes: Outcomes) -> Row:
    """Measures one subset, over all samples that have it and all their steps alike; None: what each sample has."""
    there = ~predictions.subsets[subset].isnan().all(dim=1)
    values, targets = predictions.subsets[subset][there], predictions.targets[there]
    return Row(subset, len(values), measured(values, targets, outcomes) if len(values) else {})


def mean_over_subsets(rows: Sequence[Row]) -> dict[str, float]:
    """Returns each metric's mean over the subsets with predictions, each counted once however many it has."""
    return column_means([row.metrics for row in rows if row.scored])


def table_markdown(
    rows: Sequence[Row], modalities: Sequence[str], outcomes: Outcomes, extra: Mapping[str, Metrics] | None = None
) -> str:
    """Returns the table for people, the mean over the subsets below them.

    extra: label -> metrics, for lines below the mean and no part of it, of some missing rate for example
    """
    present = sum(row.scored > 0 for row in rows)
    names = metric_names(outcomes)
    return lines_markdown(_lines(rows, f"mean of {present}", names, extra or {}), modalities, "scored", names)


def table_csv(
    rows: Sequence[Row], modalities: Sequence[str], outcomes: Outcomes, extra: Mapping[str, Metrics] | None = None
) -> str:
    """Returns the table for programs: modalities as 1 and 0, all digits, `absent` where no sample has the subset."""
    names = metric_names(outcomes)
    return lines_csv(_lines(rows, "mean", names, extra or {}), modalities, "scored", names)


def predictions_csv(predictions: Predictions, outcomes: Outcomes) -> str:
    """Returns the file of every single prediction, with a line for each sample and step.

    Columns: sample, step, target; then for each subset its score, or else its class and the probability of each. With
    several outcomes these are there for each, its name behind `target` and the subset. The subset None is called
    `present`. Floats have all digits; cells are empty where a sample does not have the subset, or no label.
    """
    columns = predictions.targets.view(len(predictions.targets), -1).unbind(dim=1)
    targets = [_targets(column, outcome) for column, outcome in zip(columns, outcomes, strict=True)]
    widths = [outcome.width for outcome in outcomes]
    blocks = [
        _block(values, outcome)
        for of_subset in predictions.subsets.values()
        for values, outcome in zip(of_subset.split(widths, dim=1), outcomes, strict=True)
    ]
    beginnings = zip(predictions.names, predictions.steps, *targets, strict=True)
    header = prediction_columns(predictions.subsets, outcomes)
    return csv_text([header, *(chain(*parts) for parts in zip(beginnings, *blocks, strict=True))])


def prediction_columns(subsets: Iterable[Subset | None], outcomes: Outcomes) -> list[str]:
    """Returns the header of `predictions_csv`."""
    targets = [target_column(outcome) for outcome in outcomes]
    return ["sample", "step", *targets, *(name for s in subsets for o in outcomes for name in subset_columns(s, o))]


def target_column(outcome: Outcome) -> str:
    """Returns the header of an outcome's target."""
    return f"target {outcome.name}".strip()


def subset_columns(subset: Subset | None, outcome: Outcome) -> list[str]:
    """Returns the headers of one subset's columns: its prediction, and the probability of each class."""
    name = f"{_label(subset)} {outcome.name}".strip()
    return [name, *(f"{name} p({kind})" for kind in outcome.classes or ())]


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


def _targets(column: Tensor, outcome: Outcome) -> list:
    """Returns the cells of the targets [R]: numbers or names of classes, empty without a label."""
    values = [
        value if there else None for value, there in zip(column.tolist(), column.isfinite().tolist(), strict=True)
    ]
    named = outcome.classes
    return ["" if value is None else value if named is None else named[int(value)] for value in values]


def _block(values: Tensor, outcome: Outcome) -> list[list]:
    """Returns one subset's cells of an outcome, a list for each row, from its predictions [R, C]."""
    there = (~values.isnan().all(dim=1)).tolist()
    rows: list[list] = values.tolist()
    if outcome.classes is not None:
        rows = [[outcome.classes[kind], *row] for kind, row in zip(values.argmax(dim=1).tolist(), rows, strict=True)]
    return [row if present else [""] * len(row) for row, present in zip(rows, there, strict=True)]
