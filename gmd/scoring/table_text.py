"""Tables of the subsets of the modalities as Markdown and CSV: a line per subset, then lines such as the mean's."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import NamedTuple

from gmd.config.metrics import metric_of
from gmd.data.spreadsheet_cells import guarded
from gmd.errors import shown_line
from gmd.subsets import Subset

LOWER_IS_BETTER = ("MAE", "RMSE", "ECE")
# what the names of errors end with: distances in mm, lesions invented and missed, and volumes
ERRORS = ("_hd95", "_fp", "_fn", "error_ml", "relative_error")
ABSENT = "absent"  # where a number would be, if nothing has the subset


class Line(NamedTuple):
    """A line of a table.

    Attributes:
        label: the subset's name, or what else the line is about.
        subset: the subset; None where the line is about something else.
        scored: how much was scored, 0 if nothing has the subset; None where that says nothing.
        cells: a number or a text for each column.
    """

    label: str
    subset: Subset | None
    scored: int | None
    cells: Sequence[float | str]


def lines_markdown(lines: Sequence[Line], modalities: Sequence[str], counted: str, columns: Sequence[str]) -> str:
    """Returns the table for people: marks for the modalities of a subset, three digits.

    counted: the name of the column of what was scored, which there is only if the counts above 0 differ
    columns: the names of the cells' columns
    """
    with_counts = len({line.scored for line in lines if line.scored}) > 1
    counts = [counted] if with_counts else []
    texts = [[*map(markdown_text, modalities), *counts, *map(markdown_text, columns)]]
    texts.append([":-:"] * len(modalities) + ["--:"] * (len(counts) + len(columns)))
    for line in lines:
        label = [markdown_text(line.label), *[""] * (len(modalities) - 1)]
        marks = _marks(line.subset, modalities, "●○") if line.subset else label
        counts = ["" if line.scored is None else str(line.scored)] if with_counts else []
        texts.append([*marks, *counts, *(cell if isinstance(cell, str) else f"{cell:.3f}" for cell in line.cells)])
    return _aligned(texts)


def lines_csv(lines: Sequence[Line], modalities: Sequence[str], counted: str, columns: Sequence[str]) -> str:
    """Returns the table for programs: modalities as 1 and 0, all digits. Arguments are those of `lines_markdown`."""
    texts: list[Sequence[float | str]] = [["subset", *modalities, counted, *columns]]
    for line in lines:
        marks = _marks(line.subset, modalities, "10") if line.subset else [""] * len(modalities)
        texts.append([line.label, *marks, "" if line.scored is None else line.scored, *line.cells])
    return csv_text(texts)


def markdown_text(name: object, most: int = 200) -> str:
    """Returns a name as Markdown has it within a line: nothing in it ends a line or a cell, or loads a picture.

    most: letters; of longer names the middle is left out
    """
    return re.sub(r"([\\`|<\[*~])", r"\\\1", shown_line(name, most))


def column_means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each column over the rows, NaN if one of its numbers is; empty if there are no rows."""
    return {column: fmean(row[column] for row in rows) for column in (rows[0] if rows else ())}


def lower_is_better(column: str) -> bool:
    """Returns whether small numbers of a column are good ones."""
    region, _, metric = column.rpartition(" ")
    if region and metric_of(metric):
        return metric.endswith(ERRORS)
    return column.startswith("hd95") or metric in LOWER_IS_BETTER


def shown_number(value: float, column: str) -> str:
    """Returns a number for people: distances and volumes with two digits, others with three."""
    return f"{value:.{2 if column.endswith(('_hd95', '_ml')) else 3}f}"


def column_title(column: str) -> str:
    """Returns the heading of a column."""
    return f"HD95 {column.removeprefix('hd95_')}, mm" if column.startswith("hd95_") else column


def csv_text(lines: Iterable[Iterable]) -> str:
    """Returns the lines as CSV; floats have all their digits, and no text is a formula, see `guarded`."""
    rows: list[str] = []
    # a carriage return in a name is put in quotation marks only if it is in the terminator too
    csv.writer(SimpleNamespace(write=rows.append), lineterminator="\r\n").writerows(map(guarded, lines))
    return "".join(row.removesuffix("\r\n") + "\n" for row in rows)


def _marks(subset: Subset, modalities: Sequence[str], present_absent: str) -> list[str]:
    """Returns one of two signs for each modality: the first if the subset has it."""
    return [present_absent[modality not in subset] for modality in modalities]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Returns the lines as Markdown that can also be read as it stands, in a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    centred = [[cell.center(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in centred)
