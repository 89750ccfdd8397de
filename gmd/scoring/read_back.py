"""Reads tables of scores back from an evaluation, as anybody may have written them: each number is in its range."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from gmd.config.metrics import metric_of
from gmd.data.text_files import EVALUATE_AGAIN, LARGEST, brief, damaged, read_csv
from gmd.errors import shown
from gmd.scoring.table_text import ABSENT, ERRORS, Line
from gmd.subsets import subset_name

UNBOUNDED = (*ERRORS, "_tp", "_ml")  # what the names of numbers without a highest value end with
ROUNDING = 1e-6  # beyond the ends of a range, as a correlation may be


def read_table(path: Path, modalities: Sequence[str]) -> tuple[str, list[str], list[Line]]:
    """Reads a `table.csv` of the subsets of the modalities, as `lines_csv` writes it.

    modalities: those of the run, in its order
    returns what the counts are counts of, the names of the cells' columns, and the lines, whose cells are numbers, NaN
    where a metric is undefined, or `absent`
    Raises UserError, which names the line, for a table of something else and for numbers out of their range.
    """
    lines = read_csv(path)
    _, header = next(lines)
    first = 2 + len(modalities)
    counted, columns = header[first - 1 : first], header[first:]
    if header[: first - 1] != ["subset", *modalities] or not columns or len(set(columns)) < len(columns):
        expected = ", ".join(["subset", *modalities])
        raise damaged(
            path, f"its columns are {shown(', '.join(header), 200)}, expected {expected} first", EVALUATE_AGAIN
        )
    table: list[Line] = []
    for number, cells in lines:
        try:
            line = _line(cells, modalities, columns)
            if any(line.label == other.label for other in table):
                raise ValueError(f"{brief(line.label)} has a line before it already")
        except ValueError as error:
            raise damaged(path, f"line {number}: {error}", EVALUATE_AGAIN) from error
        table.append(line)
    return counted[0], columns, table


def _line(cells: Sequence[str], modalities: Sequence[str], columns: Sequence[str]) -> Line:
    """Returns a line of a table. Raises ValueError for what is wrong with it."""
    label, marks, count = cells[0], cells[1 : 1 + len(modalities)], cells[1 + len(modalities)]
    if not any(marks):
        subset, scored = None, None
    else:
        subset = tuple(m for m, mark in zip(modalities, marks, strict=True) if mark == "1")
        if not subset or not set(marks) <= {"0", "1"} or label != subset_name(subset):
            raise ValueError(f"{brief(label)} has the marks {', '.join(marks)}, expected 1 and 0 of that subset")
        scored = whole_number(count, "the count")
    numbers = cells[2 + len(modalities) :]
    return Line(label, subset, scored, [_cell(*each) for each in zip(numbers, columns, strict=True)])


def _cell(text: str, column: str) -> float | str:
    if text in ("", ABSENT):
        return text
    if text == "nan":  # a metric that is not defined on these samples
        return math.nan
    return number(text, column, *range_of(column))


def range_of(column: str) -> tuple[float, float]:
    """Returns the lowest and the highest value that a column of a table can have."""
    metric = column.rpartition(" ")[2]  # behind the name of an output
    if metric_of(metric):
        return 0, LARGEST if metric.endswith(UNBOUNDED) else 1
    if column.startswith("hd95") or metric in ("MAE", "RMSE"):
        return 0, LARGEST
    if metric == "R2":
        return -LARGEST, 1
    return (-1, 1) if metric == "Corr" else (0, 1)


def number(text: str, what: str, low: float, high: float) -> float:
    """Returns the number that a cell holds. Raises ValueError unless it is one from `low` to `high`.

    what: is in the cell, for the message
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low - ROUNDING <= value <= high + ROUNDING:
        ends = f"in [{low:g}, {high:g}]" if high < LARGEST else f"from {low:g} on" if low > -LARGEST else ""
        raise ValueError(f"{what} is {brief(text)}, expected a number {ends}".rstrip())
    return value


def whole_number(text: str, what: str) -> int:
    """Returns the number that a cell holds. Raises ValueError unless it is whole and 0 or more."""
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise ValueError(f"{what} is {brief(text)}, expected a whole number from 0 on")
    return int(text)


def one_of(text: str, what: str, known: Collection[str]) -> str:
    """Returns the text of a cell. Raises ValueError unless it is one of those that are known."""
    if text not in known:
        raise ValueError(f"{what} is {brief(text)}, expected one of {brief(sorted(known))}")
    return text
