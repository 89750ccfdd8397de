"""The table of all subsets of the modalities, read from an evaluation's `table.csv`, as a heat map."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.colors import to_hex

from gmd.data.spreadsheet_cells import unguarded
from gmd.errors import UserError

LOWER_IS_BETTER = ("hd95", "MAE")
MAIN = ("mean", "Acc-2 neg/non-neg", "accuracy")  # what a subset is judged by, if it is there; else the first column
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
        about: what was scored and by which rules, in sentences.
        modalities: those of the run.
        counted: what the rows' counts are counts of.
        columns: the names of the columns.
        main: the place of the column that subsets are judged by.
        rows: one for each subset, then others such as the mean.
    """

    path: Path
    about: str
    modalities: Sequence[str]
    counted: str
    columns: Sequence[str]
    main: int
    rows: Sequence[Row]

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
    Raises UserError if the table is not one of these modalities.
    """
    path = folder / "table.csv"
    if not path.exists():
        return None
    header, lines = _read_lines(path, modalities)
    first = 2 + len(modalities)  # the column of the first number, behind label, marks and count
    columns = header[first:]
    main = next((columns.index(name) for name in MAIN if name in columns), 0)
    rows = _rows(lines, columns, first)
    return SubsetTable(path, _about(folder / "table.md"), modalities, header[first - 1], columns, main, rows)


def _read_lines(path: Path, modalities: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Returns the header of a `table.csv` and its lines. Raises UserError if it is not one of these modalities."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    lines = [unguarded(line) for line in csv.reader(text.splitlines())]
    header = lines[0] if lines else []
    if header[: 1 + len(modalities)] != ["subset", *modalities] or any(len(line) != len(header) for line in lines):
        expected = ", ".join(["subset", *modalities])
        raise UserError(
            f"{path}: its columns are {', '.join(header)}, expected {expected} first; make it anew by gmd evaluate"
        )
    return header, lines[1:]


def _rows(lines: Sequence[Sequence[str]], columns: Sequence[str], first: int) -> list[Row]:
    """Returns the rows of the table: the lines' words, and their numbers in the colours of each column's scale.

    first: the place of the first of the columns in a line, behind label, marks and count
    """
    numbers = [[_number(text) for text in line[first:]] for line in lines]
    scales = [_scale(values, name) for values, name in zip(zip(*numbers, strict=True), columns, strict=False)]
    return [
        Row(
            line[0],
            _marks(line[1 : first - 1]),
            line[first - 1],
            [_cell(*parts) for parts in zip(values, line[first:], columns, scales, strict=True)],
        )
        for line, values in zip(lines, numbers, strict=True)
    ]


def _marks(cells: Sequence[str]) -> list[bool] | None:
    """Returns whether a subset has each modality; None if the cells are empty, as on a line about something else."""
    return [cell == "1" for cell in cells] if any(cells) else None


def lower_is_better(column: str) -> bool:
    """Returns whether small numbers of a column are good ones."""
    return column.startswith(LOWER_IS_BETTER)


def column_title(column: str) -> str:
    """Returns the heading of a column."""
    return f"HD95 {column.removeprefix('hd95_')}, mm" if column.startswith("hd95_") else column


def _about(path: Path) -> str:
    """Returns what a `table.md` says around its tables: what was scored by which rules; empty without the file."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
    return " ".join(line for line in lines if line and not line.startswith("|"))


def _number(text: str) -> float | None:
    """Returns the number in a cell; None for words such as `absent`, and for NaN."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _scale(column: Sequence[float | None], name: str) -> tuple[float, float]:
    """Returns the worst and the best value of a column, the ends of its colours."""
    values = [value for value in column if value is not None] or [0.0]
    return (max(values), min(values)) if lower_is_better(name) else (min(values), max(values))


def _cell(value: float | None, text: str, column: str, scale: tuple[float, float]) -> Cell:
    """Returns a cell of the column: its number, rounded, in the colour of its place on the column's scale."""
    if value is None:
        return Cell(None, text or "none")
    worst, best = scale
    text = f"{value:.{1 if column.startswith('hd95') else 3}f}"
    if best == worst:  # nothing to tell apart, and none of them is good for that
        return Cell(value, text)
    colour = COLOURS(0.1 + 0.85 * (value - worst) / (best - worst))
    return Cell(value, text, to_hex(colour), _ink(colour))


def _ink(colour: Sequence[float]) -> str:
    """Returns black or white, whichever stands out more: WCAG's relative luminance decides."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
