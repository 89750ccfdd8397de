"""The tables of what was measured beside Dice and HD95: a row per subset of the modalities, a column per region."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from gmd.config.metrics import LESION_WISE, LESION_WISE_2023, SURFACE_DICE, VOLUME, Metrics, metric_of
from gmd.names import POST_PROCESSED
from gmd.scoring.segmentation.tables import Score
from gmd.scoring.table_text import ABSENT, Line, lines_csv, lines_markdown, shown_number
from gmd.subsets import Subset, all_subsets, subset_name

# what stands above the tables for people: metric -> how it is measured, and its columns that have a table each
ABOUT: dict[str, tuple[str, dict[str, str]]] = {
    LESION_WISE: (
        "Lesion by lesion, by BraTS_evaluation and panoptica: ",
        {
            "lesion_dice": "Dice, mean over the lesions that were matched; of metastases over all of 20 mm³ or more. "
            "To cite them: https://github.com/BrainLesion/panoptica#citation.",
            "lesion_hd95": "HD95 in mm of the same lesions; 373 where none was matched.",
            "lesion_f1": "F1 of the lesions: 2 TP / (2 TP + FP + FN).",
        },
    ),
    LESION_WISE_2023: (
        "Lesion by lesion, by the rule of BraTS 2023: ",
        {
            "lesion2023_dice": "Dice, mean over lesions and false positives; 0 for what is missed or invented.",
            "lesion2023_hd95": "HD95 in mm; 374 for what is missed or invented.",
        },
    ),
    SURFACE_DICE: ("", {"surface_dice": "Normalised surface Dice: the share of both surfaces within the tolerance."}),
    VOLUME: (
        "",
        {
            "error_ml": "How far the volumes of prediction and truth are apart, in ml.",
            "relative_error": "How far they are apart as a share of the true volume, of cases that have one.",
        },
    ),
}
MEAN = "mean"
Cells = dict[str, float]  # region or the mean over regions -> number, NaN where no case has one


def regions_of_scores(scores: Iterable[Score]) -> tuple[str, ...]:
    """Returns the regions that something was measured of beside Dice and HD95: all but ET after post-processing."""
    return tuple(dict.fromkeys(score.region for score in scores if score.region != POST_PROCESSED))


def further_csv(scores: Sequence[Score], metrics: Metrics, modalities: Sequence[str]) -> str:
    """Returns the table for programs: a column for each number of each region, and of the mean over the regions.

    A column is called after the region and the number, `WT lesion_dice`. A number that no case of a subset has, as the
    lesion-wise scores of a region that is empty everywhere, is `nan`, one of a subset that no case has `absent`.
    """
    columns = [column for metric in metrics.further for column in metrics.columns_of(metric)]
    titles = [f"{region} {column}" for region in (*regions_of_scores(scores), MEAN) for column in columns]
    by_column = {column: _lines_of(column, scores, modalities) for column in columns}
    lines = [line._replace(cells=[]) for line, _ in by_column[columns[0]]]
    for place, line in enumerate(lines):
        numbers = {column: by_column[column][place][1] for column in columns}
        named = (title.rpartition(" ") for title in titles)
        cells = [numbers[column][region] if numbers[column] else ABSENT for region, _, column in named]
        lines[place] = line._replace(cells=cells)
    return lines_csv(lines, modalities, "cases", titles)


def further_markdown(scores: Sequence[Score], metrics: Metrics, modalities: Sequence[str]) -> str:
    """Returns the tables for people: one for each number that is worth one, under a sentence of what it is."""
    parts = [about_further(scores)]
    for metric in metrics.further:
        for column in metrics.columns_of(metric):
            if about := about_column(column):
                parts += [f"{about}\n", _markdown(column, scores, modalities)]
    return "\n".join(parts)


def about_further(scores: Sequence[Score]) -> str:
    """Returns the sentences above all tables: over what the means are."""
    cases = len({score.case for score in scores})
    return (
        f"Means over {cases} case{'s' * (cases != 1)}, those of which a number is defined: a region without any lesion "
        "has no lesion-wise score. docs/metrics.md has the definitions. Label maps are scored, as in table.md.\n"
    )


def about_column(column: str) -> str:
    """Returns what a table of a metric's column is about; empty for a column that has no table of its own."""
    if metric := metric_of(column):
        beginning, shown = ABOUT[metric]
        for name, sentence in shown.items():
            if column == name or column.startswith(f"{name}_"):
                return f"{beginning}{sentence}{_tolerance(column) if metric == SURFACE_DICE else ''}"
    return ""


def _tolerance(column: str) -> str:
    return f" It is {column.rpartition('_')[2].removesuffix('mm')} mm."


def _markdown(column: str, scores: Sequence[Score], modalities: Sequence[str]) -> str:
    """Returns one table for people."""
    regions = (*regions_of_scores(scores), MEAN)
    lines = []
    for line, numbers in _lines_of(column, scores, modalities):
        cells = [shown_number(numbers[region], column) if numbers else ABSENT for region in regions]
        lines.append(line._replace(cells=cells))
    return lines_markdown(lines, modalities, "cases", regions)


def _lines_of(column: str, scores: Sequence[Score], modalities: Sequence[str]) -> list[tuple[Line, Cells]]:
    """Returns each subset's line, without cells, and its means over the cases; behind them the mean over the subsets.

    A subset that no case has is without numbers.
    """
    regions = regions_of_scores(scores)
    by_subset: dict[Subset, list[Score]] = {subset: [] for subset in all_subsets(modalities)}
    for score in scores:
        by_subset[score.subset].append(score)
    found: list[tuple[Line, Cells]] = []
    for subset, own in by_subset.items():
        line = Line(subset_name(subset), subset, len({score.case for score in own}), [])
        found.append((line, _means(column, own, regions) if own else {}))
    there = [cells for _, cells in found if cells]
    mean = {region: _mean(cells[region] for cells in there) for region in (*regions, MEAN)}
    return [*found, (Line(MEAN, None, None, []), mean)]


def _means(column: str, scores: Sequence[Score], regions: Sequence[str]) -> Cells:
    """Returns the mean of a number over the cases of one subset, for each region, and the mean of these means."""
    cells = {
        region: _mean(dict(score.further).get(column) for score in scores if score.region == region)
        for region in regions
    }
    return cells | {MEAN: _mean(cells.values())}


def _mean(numbers: Iterable[float | None]) -> float:
    """Returns the mean of those numbers that there are, NaN of none."""
    there = [number for number in numbers if number is not None and not math.isnan(number)]
    return fmean(there) if there else math.nan
