"""The table of the missing-modality literature: a row per subset of the modalities, a column per region."""

import csv
import io
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

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
    present = [row.dice for row in rows if row.cases]
    return {region: fmean(dice[region] for dice in present) for region in (present[0] if present else ())}


def table_markdown(rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str]) -> str:
    """The table for people. Numbers of cases get a column only if they differ between existing subsets."""
    with_cases = len({row.cases for row in rows if row.cases}) > 1
    header = [*modalities, *(["cases"] if with_cases else []), *regions, "mean"]
    lines = [header, [":-:"] * len(modalities) + ["--:"] * (len(header) - len(modalities))]
    for row in rows:
        marks = ["●" if modality in row.subset else "○" for modality in modalities]
        lines.append([*marks, *([str(row.cases)] if with_cases else []), *_numbers(row.dice, regions)])
    present = sum(row.cases > 0 for row in rows)
    label = [f"mean of {present}", *[""] * (len(modalities) - 1), *([""] if with_cases else [])]
    lines.append([*label, *_numbers(mean_over_subsets(rows), regions)])
    return _aligned(lines)


def table_csv(rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str]) -> str:
    """The table for programs: modalities as 1 and 0, all digits, `absent` where no case has the subset."""
    lines = [["subset", *modalities, "cases", *regions, "mean"]]
    for row in rows:
        marks = [int(modality in row.subset) for modality in modalities]
        lines.append([subset_name(row.subset), *marks, row.cases, *_cells(row.dice, regions)])
    lines.append(["mean", *[""] * len(modalities), "", *_cells(mean_over_subsets(rows), regions)])
    return _csv(lines)


def cases_csv(scores: Iterable[Score]) -> str:
    """Every single score, in long format: case, subset, region, dice."""
    return _csv([Score._fields, *((s.case, subset_name(s.subset), s.region, s.dice) for s in scores)])


def _row(subset: Subset, scores: list[Score], regions: Sequence[str]) -> Row:
    if not scores:
        return Row(subset, 0, {})
    dice = {region: fmean(s.dice for s in scores if s.region == region) for region in regions}
    return Row(subset, len({s.case for s in scores}), dice)


def _cells(dice: dict[str, float], regions: Sequence[str]) -> list[float | str]:
    """The regions and their mean."""
    if not dice:
        return ["absent"] * (len(regions) + 1)
    return [*(dice[region] for region in regions), fmean(dice.values())]


def _numbers(dice: dict[str, float], regions: Sequence[str]) -> list[str]:
    return [cell if isinstance(cell, str) else f"{cell:.3f}" for cell in _cells(dice, regions)]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Markdown that can also be read as it stands, in a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    centred = [[cell.center(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in centred)


def _csv(lines: Iterable[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
