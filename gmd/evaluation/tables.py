"""The table of the missing-modality literature: a row per subset of the modalities, a column per region."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from gmd.evaluation.subset_lines import ABSENT, Line, column_means, csv_text, lines_csv, lines_markdown
from gmd.subsets import Subset, all_subsets, subset_name


class Score(NamedTuple):
    """Hard Dice in [0, 1] of one region of one case, predicted from one subset of the case's modalities."""

    case: str
    subset: Subset
    region: str
    dice: float


class Row(NamedTuple):
    """One subset's line of the table. `dice`: region -> mean over its cases; empty if there are none."""

    subset: Subset
    cases: int
    dice: dict[str, float]


def subset_table(scores: Iterable[Score], modalities: Sequence[str], regions: Sequence[str]) -> list[Row]:
    """All 2^M - 1 rows, small subsets first. A subset that no case has keeps its row, without numbers."""
    scores = list(scores)
    subsets = all_subsets(modalities)
    return [_row(subset, [s for s in scores if s.subset == subset], regions) for subset in subsets]


def mean_over_subsets(rows: Sequence[Row]) -> dict[str, float]:
    """Region -> mean over the subsets that exist, each counted once however many cases it has."""
    return column_means([row.dice for row in rows if row.cases])


def table_markdown(rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str]) -> str:
    """The table for people. Numbers of cases get a column only if they differ between existing subsets."""
    present = sum(row.cases > 0 for row in rows)
    return lines_markdown(_lines(rows, regions, f"mean of {present}"), modalities, "cases", [*regions, "mean"])


def table_csv(rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str]) -> str:
    """The table for programs: modalities as 1 and 0, all digits, `absent` where no case has the subset."""
    return lines_csv(_lines(rows, regions, "mean"), modalities, "cases", [*regions, "mean"])


def cases_csv(scores: Iterable[Score]) -> str:
    """Every single score, in long format: case, subset, region, dice."""
    return csv_text([Score._fields, *((s.case, subset_name(s.subset), s.region, s.dice) for s in scores)])


def _row(subset: Subset, scores: list[Score], regions: Sequence[str]) -> Row:
    if not scores:
        return Row(subset, 0, {})
    dice = {region: fmean(s.dice for s in scores if s.region == region) for region in regions}
    return Row(subset, len({s.case for s in scores}), dice)


def _lines(rows: Sequence[Row], regions: Sequence[str], label_of_mean: str) -> list[Line]:
    lines = [Line(subset_name(row.subset), row.subset, row.cases, _cells(row.dice, regions)) for row in rows]
    return [*lines, Line(label_of_mean, None, None, _cells(mean_over_subsets(rows), regions))]


def _cells(dice: dict[str, float], regions: Sequence[str]) -> list[float | str]:
    """The regions and their mean."""
    if not dice:
        return [ABSENT] * (len(regions) + 1)
    return [*(dice[region] for region in regions), fmean(dice.values())]
