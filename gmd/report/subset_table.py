"""The table of all subsets of the modalities, read from an evaluation's `table.csv`, as a heat map."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.colors import to_hex

from gmd.data.text_files import read_utf8
from gmd.scoring.read_back import read_table as read_lines
from gmd.scoring.table_text import Line, lower_is_better

MOST_TABLE = 2**24  # bytes of a table for people
# what a subset is judged by, if it is there; else the first column
MAIN = ("mean", "Acc-2 neg/non-neg", "accuracy", "R2")
OF_SHAPLEY = "Shapley value"  # what the sentence of a `table.md` above its Shapley values begins with
COLOURS = matplotlib.colormaps["viridis"]


class Cell(NamedTuple):
    """A cell of the heat map.

    Attributes:
        value: the number; None where there is none.
        text: what is written.
        colour: that of the background; empty without a number, and where all numbers of the column are equal.
        ink: the colour of the text on that background; empty where `colour` is.
    """

    value: float | None
    text: str
    colour: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        label: the name of the subset, or what else the row is about, such as the mean.
        marks: for each modality whether the subset has it; None if the row is about something else.
        count: how many cases or samples were scored, as text.
        cells: one for each column.
    """

    label: str
    marks: Sequence[bool] | None
    count: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class SubsetTable:
    """The table of one evaluation.

    Attributes:
        path: its file.
        about: what was scored, in a sentence.
        modalities: those of the run.
        counted: what the rows' counts are counts of.
        columns: the names of the columns.
        main: the place of the column that subsets are judged by.
        rows: one for each subset, then others such as the mean.
        rules: by which rules it was scored, in sentences.
        of_shapley: what the Shapley values below the table are, in a sentence; empty without any.
        title: what it is called, if it is one of several.
    """

    path: Path
    about: str
    modalities: Sequence[str]
    counted: str
    columns: Sequence[str]
    main: int
    rows: Sequence[Row]
    rules: Sequence[str] = ()
    of_shapley: str = ""
    title: str = ""

    def counts_differ(self) -> bool:
        """Returns whether subsets were scored on different numbers of cases; otherwise the counts need no column."""
        return len({row.count for row in self.rows if row.count not in ("", "0")}) > 1

    def subsets(self) -> list[Row]:
        """Returns the rows of the subsets that have a number in the main column, best first."""
        judged = [(value, row) for row in self.rows if row.marks and (value := row.cells[self.main].value) is not None]
        lower = lower_is_better(self.columns[self.main])
        return [row for _, row in sorted(judged, key=lambda pair: pair[0], reverse=not lower)]


def read_table(folder: Path, modalities: Sequence[str]) -> SubsetTable | None:
    """Reads the table of an evaluation; None if the folder has none.

    folder: of the results; modalities: those of the run, in its order
    Raises UserError if the table is not one of these modalities, or has numbers out of their range.
    """
    path = folder / "table.csv"
    if not path.exists():
        return None
    counted, columns, lines = read_lines(path, modalities)
    main = next((columns.index(name) for name in MAIN if name in columns), 0)
    rows = rows_of(lines, columns, modalities)
    about, *rules = _sentences(folder / "table.md") or [""]
    of_shapley = " ".join(rule for rule in rules if rule.startswith(OF_SHAPLEY))
    rules = [rule for rule in rules if not rule.startswith(OF_SHAPLEY)]
    return SubsetTable(path, about, modalities, counted, columns, main, rows, rules, of_shapley)


def rows_of(lines: Sequence[Line], columns: Sequence[str], modalities: Sequence[str]) -> list[Row]:
    """Returns the rows of the table: the lines' words, and their numbers in the colours of each column's scale."""
    numbers = [[_number(cell) for cell in line.cells] for line in lines]
    scales = [_scale(values, name) for values, name in zip(zip(*numbers, strict=True), columns, strict=False)]
    return [
        Row(
            line.label,
            None if line.subset is None else [modality in line.subset for modality in modalities],
            "" if line.scored is None else str(line.scored),
            [_cell(*parts) for parts in zip(values, map(str, line.cells), columns, scales, strict=True)],
        )
        for line, values in zip(lines, numbers, strict=True)
    ]


def _sentences(path: Path) -> list[str]:
    """Returns the lines around the tables of a `table.md`: what was scored by which rules; none without the file."""
    lines = read_utf8(path, MOST_TABLE, "surrogateescape").splitlines() if path.exists() else []
    return [re.sub("`([^`]*)`", r'"\1"', line) for line in lines if line and not line.startswith("|")]


def number_text(value: float, column: str) -> str:
    """Returns a number of the column as the page writes it: distances in mm with one digit, others with three."""
    return f"{value:.{1 if column.startswith('hd95') or column.endswith('_hd95') else 3}f}"


def _number(cell: float | str) -> float | None:
    """Returns the number in a cell; None for words such as `absent`, and for NaN."""
    return None if isinstance(cell, str) or math.isnan(cell) else cell


def _scale(column: Sequence[float | None], name: str) -> tuple[float, float]:
    """Returns the worst and the best value of a column, the ends of its colours."""
    values = [value for value in column if value is not None] or [0.0]
    return (max(values), min(values)) if lower_is_better(name) else (min(values), max(values))


def _cell(value: float | None, text: str, column: str, scale: tuple[float, float]) -> Cell:
    """Returns a cell of the column: its number, rounded, in the colour of its place on the column's scale."""
    if value is None:
        return Cell(None, text or "none")
    worst, best = scale
    text = number_text(value, column)
    if best == worst:  # nothing to tell apart, and none of them is good for that
        return Cell(value, text)
    colour = COLOURS(0.1 + 0.85 * (value - worst) / (best - worst))
    return Cell(value, text, to_hex(colour), _ink(colour))


def _ink(colour: Sequence[float]) -> str:
    """Returns black or white, whichever stands out more: WCAG's relative luminance decides."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
