"""A comparison in words and tables, for people and for programs."""

import math

from gmd.evaluation.compare.comparison import Comparison, Line
from gmd.evaluation.compare.paired import LEVEL, RESAMPLES, Difference
from gmd.evaluation.compare.run_scores import METRICS
from gmd.scoring.table_text import Line as TableLine
from gmd.scoring.table_text import csv_text, lines_markdown
from gmd.subsets import subset_name


def comparison_markdown(comparison: Comparison) -> str:
    """For each run and metric a table of the differences and a sentence on their mean; then how to read them."""
    parts = []
    for run in comparison.names[1:]:
        for metric in dict.fromkeys(metric for metric, _ in comparison.columns):
            lines = [line for line in comparison.lines if line.run == run and line.column[0] == metric]
            parts.append(f"{_title(comparison, run, metric)}\n\n{_table(comparison, run, lines)}")
    notes = [f"Note: {note}." for note in comparison.notes]
    sentences = [_sentence(comparison, line) for line in mean_lines(comparison)]
    return "\n".join([*parts, _legend(comparison), "", *(f"{text}\n" for text in (*notes, *sentences))])


def comparison_csv(comparison: Comparison) -> str:
    """A line for each run, metric, region and subset, `mean` of the subsets among them, with all digits.

    Dice and accuracy are fractions here, not points. The interval's cells are empty where there is none.
    """
    words = [f"{word}s" for word in comparison.words]
    header = ["baseline", "run", "metric", "region", "subset", *words, "baseline_mean", "run_mean", "difference"]
    lines = [[*header, "low", "high"]]
    for run, subset, (metric, region), told in comparison.lines:
        numbers = [told.base, told.other, told.difference, *("" if math.isnan(x) else x for x in (told.low, told.high))]
        name = subset_name(subset) if subset else "mean"
        lines.append([comparison.names[0], run, metric, region, name, told.items, told.units, *numbers])
    return csv_text(lines)


def mean_lines(comparison: Comparison) -> list[Line]:
    """Of each run and metric the one line that sums it up: the mean over subsets and regions."""
    return [line for line in comparison.lines if line.subset is None and line.column[1] in ("", "mean")]


def _title(comparison: Comparison, run: str, metric: str) -> str:
    unit = METRICS[metric].unit
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    return f"{run} - {comparison.names[0]}: {metric}{f' in {unit}' if unit else ''}, {better} is better"


def _table(comparison: Comparison, run: str, lines: list[Line]) -> str:
    """A row for each subset and their mean: both means, and the difference in each region."""
    regions = list(dict.fromkeys(line.column[1] for line in lines))
    rows = []
    for subset in (*comparison.subsets, None):
        told = {line.column[1]: line.difference for line in lines if line.subset == subset}
        metric = METRICS[lines[0].column[0]]
        whole = told[regions[-1]]
        means = [f"{metric.scale * value:.{metric.digits}f}" for value in (whole.base, whole.other)]
        cells = [*means, *(_difference(told[region], metric.scale, metric.digits) for region in regions)]
        label = subset_name(subset) if subset else f"mean of {len(comparison.subsets)}"
        rows.append(TableLine(label, subset, whole.items, cells))
    headers = [f"{name} mean".strip() for name in (comparison.names[0], run)]
    columns = [*headers, *(f"difference {region}".strip() for region in regions)]
    return lines_markdown(rows, comparison.modalities, f"{comparison.words[0]}s", columns)


def _difference(told: Difference, scale: float, digits: int) -> str:
    """As `+1.3 [+0.2, +2.4] *`, marked if its interval does not hold 0."""
    value, low, high = (f"{scale * number:+.{digits}f}" for number in (told.difference, told.low, told.high))
    interval = "" if math.isnan(told.low) else f" [{low}, {high}]"
    return f"{value}{interval}{' *' if told.excludes_zero else ''}"


def _sentence(comparison: Comparison, line: Line) -> str:
    metric, told = METRICS[line.column[0]], line.difference
    unit = f" {metric.unit}" if metric.unit else ""
    value, *interval = _difference(told, metric.scale, metric.digits).removesuffix(" *").split(" ", 1)
    count = f"{told.items} {comparison.words[0]}{'s' * (told.items > 1)}"
    if told.units != told.items:
        count += f" of {told.units} {comparison.words[1]}{'s' * (told.units > 1)}"
    subsets = f"mean of the {len(comparison.subsets)} subsets" if len(comparison.subsets) > 1 else "the one subset"
    where = " ".join([f"{value}{unit}", *interval])
    return f"{line.run} - {comparison.names[0]}: {line.column[0]}, {subsets} {where}, {count}"


def _legend(comparison: Comparison) -> str:
    item, unit = comparison.words
    return (
        f"[low, high]: {LEVEL:.0%} bootstrap interval of the paired difference (BCa, {RESAMPLES:,} resamples of the "
        f"{unit}s, seed {comparison.seed}). *: it does not hold 0; with so many rows some will not by chance. The mean "
        f"over the subsets is taken within each {item}."
    )
