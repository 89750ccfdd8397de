"""The figures of a table that people want first: all modalities, the mean of the subsets, and the worst subset."""

from typing import NamedTuple

from gmd.report.subset_table import SubsetTable


class Tile(NamedTuple):
    """A figure that people want first: its value, its name, and what it is about."""

    value: str
    name: str
    about: str


def tiles(table: SubsetTable) -> list[Tile]:
    """Returns the tiles of a table, by its main column; none if no subset has a number there."""
    rows, column = table.subsets(), table.columns[table.main]
    if not rows:
        return []
    what = "Dice, mean of the regions" if column == "mean" else column
    found = [(row, f"all {len(row.marks)} modalities", what) for row in rows if row.marks and all(row.marks)]
    found += [(row, f"mean of {len(rows)} subsets", what) for row in table.rows if row.marks is None][:1]
    found.append((rows[-1], "worst subset", rows[-1].label))
    return [Tile(row.cells[table.main].text, name, about) for row, name, about in found]
