"""The table of all subsets, from an evaluation's `table.csv`, as a heat map."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.colors import to_hex

from gmd.errors import UserError

LOWER_IS_BETTER = ("hd95", "MAE")
MAIN = ("mean", "Acc-2 neg/non-neg", "accuracy")  # what a subset is judged by, if it is there; else the first column
COLOURS = matplotlib.colormaps["viridis"]


class Cell(NamedTuple):
    """`value`: None where there is no number. `colour`, `ink`: of the background and of what is written on it;
    empty where all of the column are equal."""

    value: float | None
    text: str
    colour: str = ""
    ink: str = ""


class Row(NamedTuple):
    """`marks`: for each modality whether the subset has it; None of a line about something else, such as the mean."""

    label: str
    marks: Sequence[bool] | None
    count: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class SubsetTable:
    """`path`: its file; `about`: what is said of it; `main`: the number of the column that a subset is judged by."""

    path: Path
    about: str
    modalities: Sequence[str]
    counted: str
    columns: Sequence[str]
    main: int
    rows: Sequence[Row]

    def counts_differ(self) -> bool:
        """Between the subsets that are scored; else they need no column."""
        return len({row.count for row in self.rows if row.count not in ("", "0")}) > 1

    def subsets(self) -> list[Row]:
        """Those that have a number to be judged by, best first."""
        rows = [row for row in self.rows if row.marks and row.cells[self.main].value is not None]
        lower = lower_is_better(self.columns[self.main])
        return sorted(rows, key=lambda row: row.cells[self.main].value, reverse=not lower)


def read_table(folder: Path, modalities: Sequence[str]) -> SubsetTable | None:
    """Of an evaluation's folder; None if it has no table. Raises UserError if that is not one of these modalities."""
    path = folder / "table.csv"
    if not path.exists():
        return None
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    counted_at = 1 + len(modalities)
    header = lines[0] if lines else []
    if header[:counted_at] != ["subset", *modalities] or any(len(line) != len(header) for line in lines):
        expected = ", ".join(["subset", *modalities])
        raise UserError(
            f"{path}: its columns are {', '.join(header)}, expected {expected} first; make it anew by gmd evaluate"
        )
    columns = header[counted_at + 1 :]
    numbers = [[_number(text) for text in line[counted_at + 1 :]] for line in lines[1:]]
    scales = [_scale(column, name) for column, name in zip(zip(*numbers, strict=True), columns, strict=False)]
    rows = [
        Row(
            line[0],
            [mark == "1" for mark in line[1:counted_at]] if any(line[1:counted_at]) else None,
            line[counted_at],
            [_cell(*parts) for parts in zip(values, line[counted_at + 1 :], columns, scales, strict=True)],
        )
        for line, values in zip(lines[1:], numbers, strict=True)
    ]
    main = next((columns.index(name) for name in MAIN if name in columns), 0)
    return SubsetTable(path, _about(folder / "table.md"), modalities, header[counted_at], columns, main, rows)


def lower_is_better(column: str) -> bool:
    return column.startswith(LOWER_IS_BETTER)


def column_title(column: str) -> str:
    return f"HD95 {column.removeprefix('hd95_')}, mm" if column.startswith("hd95_") else column


def _about(path: Path) -> str:
    """What the evaluation says around its tables: what was scored, and by which rules."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return " ".join(line for line in lines if line and not line.startswith("|"))


def _number(text: str) -> float | None:
    """None of words such as `absent`, and of NaN."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _scale(column: Sequence[float | None], name: str) -> tuple[float, float]:
    """The worst and the best value of a column."""
    values = [value for value in column if value is not None] or [0.0]
    return (max(values), min(values)) if lower_is_better(name) else (min(values), max(values))


def _cell(value: float | None, text: str, column: str, scale: tuple[float, float]) -> Cell:
    if value is None:
        return Cell(None, text or "none")
    worst, best = scale
    text = f"{value:.{1 if column.startswith('hd95') else 3}f}"
    if best == worst:  # nothing to tell apart, and none of them is good for that
        return Cell(value, text)
    colour = COLOURS(0.1 + 0.85 * (value - worst) / (best - worst))
    return Cell(value, text, to_hex(colour), _ink(colour))


def _ink(colour: Sequence[float]) -> str:
    """Black or white, whichever stands out more: WCAG's relative luminance decides."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
