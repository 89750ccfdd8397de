"""A comparison as text: markdown tables and sentences for people, CSV for programs."""

import math

from gmd.errors import MOST_OF_A_LINE
from gmd.evaluation.compare.comparison import Comparison, ComparisonRow
from gmd.evaluation.compare.contributions import ContributionRow
from gmd.evaluation.compare.paired import LEVEL, RESAMPLES, Difference
from gmd.evaluation.compare.run_scores import METRICS, Metric
from gmd.scoring.table_text import Line, csv_text, lines_markdown, markdown_text
from gmd.subsets import subset_name

SIGN_OF_ADDED = ("baseline", "run", "metric", "region", "modality")  # the first columns of `contributions_csv`


def comparison_markdown(comparison: Comparison) -> str:
    """Returns text for people: a table for each run and metric, how to read it, notes, a sentence on each mean."""
    parts = []
    for run in comparison.names[1:]:
        for metric in dict.fromkeys(metric for metric, _ in comparison.columns):
            parts += _tables(comparison, run, metric)
    notes = [f"Note: {markdown_text(note, MOST_OF_A_LINE)}." for note in comparison.notes]
    sentences = [_sentence(comparison, row) for row in mean_rows(comparison)]
    return "\n".join([*parts, _legend(comparison), "", *(f"{text}\n" for text in (*notes, *sentences))])


def comparison_csv(comparison: Comparison) -> str:
    """Returns the table for programs: a line for each run, metric, region and subset (or their `mean`), all digits.

    Dice and accuracy are fractions here, not points. The interval's cells are empty where there is none.
    """
    counts = [f"{comparison.item_noun}s", f"{comparison.unit_noun}s"]
    header = ["baseline", "run", "metric", "region", "subset", *counts, "baseline_mean", "run_mean", "difference"]
    lines: list[list[object]] = [[*header, "low", "high"]]
    for run, subset, (metric, region), found in comparison.rows:
        interval = ["" if math.isnan(end) else end for end in (found.low, found.high)]
        name = subset_name(subset) if subset else "mean"
        labels = [comparison.names[0], run, metric, region, name]
        lines.append([*labels, found.items, found.units, found.base, found.other, found.difference, *interval])
    return csv_text(lines)


def contributions_csv(comparison: Comparison) -> str:
    """Returns what each modality adds, for programs: a line for each run, metric, region and modality, all digits.

    Dice and accuracy are fractions, and MAE counts as what a modality takes away from it. The interval's cells are
    empty where there is none.
    """
    counts = [f"{comparison.item_noun}s", f"{comparison.unit_noun}s"]
    lines: list[list[object]] = [[*SIGN_OF_ADDED, *counts, "difference", "low", "high"]]
    for run, modality, (metric, region), found in comparison.contributions:
        interval = ["" if math.isnan(end) else end for end in (found.low, found.high)]
        labels = [comparison.names[0], run, metric, region, modality]
        lines.append([*labels, found.items, found.units, found.difference, *interval])
    return csv_text(lines)


def mean_rows(comparison: Comparison) -> list[ComparisonRow]:
    """Returns the one row of each run and metric that sums it up: the mean over subsets and regions."""
    return [row for row in comparison.rows if row.subset is None and row.column[1] in ("", "mean")]


def _tables(comparison: Comparison, run: str, metric: str) -> list[str]:
    """Returns the table of one run and metric, and that of what each modality adds, with their titles."""
    rows = [row for row in comparison.rows if row.run == run and row.column[0] == metric]
    tables = [f"{_title(comparison, run, metric)}\n\n{_table(comparison, run, rows)}"]
    if added := [row for row in comparison.contributions if row.run == run and row.column[0] == metric]:
        tables.append(f"{_title_of_added(comparison, added[-1])}\n\n{_table_of_added(comparison, added)}")
    return tables


def _title(comparison: Comparison, run: str, metric: str) -> str:
    """Returns the line above a table: which run minus which, in which metric and unit, and which sign is good."""
    unit = METRICS[metric].unit
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    return f"{_minus(comparison, run)}: {metric}{f' in {unit}' if unit else ''}, {better} is better"


def _minus(comparison: Comparison, run: str) -> str:
    """Returns which run minus which, in Markdown."""
    return f"{markdown_text(run)} - {markdown_text(comparison.names[0])}"


def _table(comparison: Comparison, run: str, rows: list[ComparisonRow]) -> str:
    """Returns the table of one run and metric: both means and each region's difference, by subset and on average.

    rows: those of the run and the metric
    """
    regions = list(dict.fromkeys(row.column[1] for row in rows))
    metric = METRICS[rows[0].column[0]]
    lines = []
    for subset in (*comparison.subsets, None):
        by_region = {row.column[1]: row.difference for row in rows if row.subset == subset}
        whole = by_region[regions[-1]]
        means = [f"{metric.scale * value:.{metric.digits}f}" for value in (whole.base, whole.other)]
        cells = [*means, *(_difference(by_region[region], metric) for region in regions)]
        label = subset_name(subset) if subset else f"mean of {len(comparison.subsets)}"
        lines.append(Line(label, subset, whole.items, cells))
    headers = [f"{name} mean".strip() for name in (comparison.names[0], run)]
    columns = [*headers, *(f"difference {region}".strip() for region in regions)]
    return lines_markdown(lines, comparison.modalities, f"{comparison.item_noun}s", columns)


def _title_of_added(comparison: Comparison, row: ContributionRow) -> str:
    """Returns the line above a table of what modalities add: of which run and metric, and over how many items.

    row: the last of the table, which is about the mean of the regions
    """
    name, metric, found = row.column[0], METRICS[row.column[0]], row.difference
    what = f"{metric.unit} of {name}" if metric.unit else name
    taken = "" if metric.higher_is_better else " that it takes away"
    count = f"{found.items} {comparison.item_noun}{'s' * (found.items > 1)} with all modalities"
    return (
        f"{_minus(comparison, row.run)}: Shapley value of each modality, in {what}{taken}, over {count}; above 0 it "
        "adds more than in the baseline"
    )


def _table_of_added(comparison: Comparison, rows: list[ContributionRow]) -> str:
    """Returns the table of what modalities add: a line for each, a column for each region. rows: of a run and metric"""
    regions = list(dict.fromkeys(row.column[1] for row in rows))
    metric = METRICS[rows[0].column[0]]
    lines = []
    for modality in comparison.modalities:
        by_region = {row.column[1]: row.difference for row in rows if row.modality == modality}
        lines.append(Line(modality, None, None, [_difference(by_region[region], metric) for region in regions]))
    return lines_markdown(lines, ["modality"], "", [f"difference {region}".strip() for region in regions])


def _difference(found: Difference, metric: Metric) -> str:
    """Returns a difference as `+1.3 [+0.2, +2.4] *`; the star says that its interval does not hold 0."""
    numbers = (found.difference, found.low, found.high)
    value, low, high = (f"{metric.scale * number:+.{metric.digits}f}" for number in numbers)
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return f"{value}{interval}{' *' if found.excludes_zero else ''}"


def _sentence(comparison: Comparison, row: ComparisonRow) -> str:
    """Returns the mean over the subsets in words: how large the difference is, and over how many items and units."""
    metric, found = METRICS[row.column[0]], row.difference
    unit = f" {metric.unit}" if metric.unit else ""
    value, *interval = _difference(found, metric).removesuffix(" *").split(" ", 1)
    count = f"{found.items} {comparison.item_noun}{'s' * (found.items > 1)}"
    if found.units != found.items:
        count += f" of {found.units} {comparison.unit_noun}{'s' * (found.units > 1)}"
    subsets = f"mean of the {len(comparison.subsets)} subsets" if len(comparison.subsets) > 1 else "the one subset"
    where = " ".join([f"{value}{unit}", *interval])
    return f"{_minus(comparison, row.run)}: {row.column[0]}, {subsets} {where}, {count}"


def _legend(comparison: Comparison) -> str:
    """Returns the sentences that say how to read the tables."""
    return (
        f"[low, high]: {LEVEL:.0%} bootstrap interval of the paired difference (BCa, {RESAMPLES:,} resamples of the "
        f"{comparison.unit_noun}s, seed {comparison.seed}). *: it does not hold 0; with so many rows some will not by "
        f"chance. The mean over the subsets is taken within each {comparison.item_noun}."
    )
