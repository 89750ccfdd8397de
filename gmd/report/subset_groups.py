"""A table of many subsets in parts, for a page to fold: what matters first, then groups of subsets of one size.

Of six modalities there are 63 subsets. All modalities and each one alone tell most; the subsets between them are looked
up, and there the worst ones are looked for.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from gmd.report.subset_table import Row, SubsetTable, number_text
from gmd.scoring.table_text import lower_is_better

AT_A_GLANCE = 15  # subsets, of four modalities: they fit a screen as one table
FEW = 7  # subsets, of three modalities: several tables of them are read one after the other


class SizeGroup(NamedTuple):
    """The subsets of one size.

    Attributes:
        size: how many modalities each has.
        rows: their rows, the worst in the main column first; those without a number there are the last.
        judged: how many of the rows have a number there, the first ones.
        mean: of these numbers, as text; empty without any.
    """

    size: int
    rows: Sequence[Row]
    judged: int
    mean: str


def is_long(table: SubsetTable) -> bool:
    """Returns whether a table has more subsets than one sees at a glance."""
    return _count(table) > AT_A_GLANCE


def is_one_of_many(table: SubsetTable) -> bool:
    """Returns whether a table that is one of several has enough subsets to be folded as a whole."""
    return _count(table) > FEW


def ends(table: SubsetTable) -> list[Row]:
    """Returns the row of all modalities, then those of each modality alone, the worst first."""
    sizes = {1, len(table.modalities)}
    return [row for group in _groups(table) if group.size in sizes for row in group.rows]


def between(table: SubsetTable) -> list[SizeGroup]:
    """Returns the groups of the other subsets, those of most modalities first."""
    return [group for group in _groups(table) if 1 < group.size < len(table.modalities)]


def _count(table: SubsetTable) -> int:
    return sum(row.marks is not None for row in table.rows)


def _groups(table: SubsetTable) -> list[SizeGroup]:
    """Returns all groups, the largest subsets first."""
    by_size: dict[int, list[Row]] = {}
    for row in table.rows:
        if row.marks is not None:
            by_size.setdefault(sum(row.marks), []).append(row)
    return [_group(table, size, by_size[size]) for size in sorted(by_size, reverse=True)]


def _group(table: SubsetTable, size: int, rows: Sequence[Row]) -> SizeGroup:
    column = table.columns[table.main]
    judged = [(value, row) for row in rows if (value := row.cells[table.main].value) is not None]
    judged.sort(key=lambda pair: pair[0], reverse=lower_is_better(column))
    others = [row for row in rows if row.cells[table.main].value is None]
    mean = number_text(fmean(value for value, _ in judged), column) if judged else ""
    return SizeGroup(size, [*(row for _, row in judged), *others], len(judged), mean)
