"""Looking at every file that a manifest names, before anything is trained."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from typing import Literal, NamedTuple

from gmd.data.manifest.cells import Cell, Table, Unreadable
from gmd.data.manifest.columns import CHECKS, ColumnCheck
from gmd.data.manifest.images import bombs_refused
from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.manifest.table import Column, Row
from gmd.errors import UserError

OnUnreadable = Literal["refuse", "skip"]

NAMED = 5  # files that cannot be read, of which a message tells
THREADS = 4  # which wait for the disk at the same time
_PIECE, _AT_ONCE = 32, 1024  # cells, so that what has been found of them stays small


_Place = tuple[int, str, Cell]  # the number of a row, a modality, and the row's cell of it


class Found(NamedTuple):
    """What the files of a manifest are.

    Attributes:
        inputs: modality -> what its column becomes, in the order of the columns; none of one without any file.
        rows: the cells of each row: modality -> Cell, none where the row lacks it or its file is skipped.
        notes: sentences for the user.
    """

    inputs: dict[str, Input]
    rows: list[dict[str, Cell]]
    notes: list[str]


def check_files(
    table: Table, columns: Sequence[Column], rows: Sequence[Row], preparation: Preparation, unreadable: OnUnreadable
) -> Found:
    """Looks at the files of all cells, by headers where these say enough.

    unreadable: what is done with cells whose files are missing or cannot be read
    Raises UserError for such cells, how many there are and the first five, if they are to be refused; at once for
        paths that may not be, archives and pickles, and columns of several kinds.
    """
    checks: dict[str, ColumnCheck] = {
        column.modality: CHECKS[column.kind](column.name, preparation) for column in columns
    }
    found: list[dict[str, Cell]] = [{} for _ in rows]
    failures = _Failures()
    for (row, modality, cell), facts in _looked_at(checks, _cells(table, columns, rows)):
        size = _add(checks[modality], cell, facts)
        if isinstance(size, Unreadable):
            failures.add(size)
        elif size is not None:
            found[row][modality] = replace(cell, size=size)
    if failures.count and unreadable == "refuse":
        advice = "mend them, or leave them out with --unreadable skip; the first are"
        raise UserError(f"{table.path}: files of {failures.count} cells cannot be read; {advice}", failures.first)
    there = set[str]().union(*found)
    notes = sum((check.notes() for check in checks.values()), failures.notes())
    return Found({m: check.input() for m, check in checks.items() if m in there}, found, notes)


class _Failures:
    """Cells whose files cannot be read: how many, and what is wrong with the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, error: Unreadable) -> None:
        self.count += 1
        self.first += [str(error)] if len(self.first) < NAMED else []

    def notes(self) -> list[str]:
        if not self.count:
            return []
        return [f"files of {self.count} cells cannot be read, and count as missing; the first are", *self.first]


def _looked_at(checks: dict[str, ColumnCheck], cells: Iterator[_Place]) -> Iterator[tuple[_Place, object]]:
    """Yields cells in their order, each with its facts, or the error if they cannot be had and it may be skipped."""
    with bombs_refused(), ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(cells, _AT_ONCE)):
            # a thread takes more than a cell, since to hand over one takes as long as to look at it
            pieces = [part[first : first + _PIECE] for first in range(0, len(part), _PIECE)]
            looks = pool.map(lambda piece: [_look(checks[modality], cell) for _, modality, cell in piece], pieces)
            yield from zip(part, chain.from_iterable(looks), strict=True)


def _cells(table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[_Place]:
    """Yields the number of the row, the modality, and the cell, of all that are not empty."""
    for number, row in enumerate(rows):
        for column, text in zip(columns, row.cells, strict=True):
            if text:
                yield number, column.modality, Cell(table, row.line, column.name, text)


def _look(check: ColumnCheck, cell: Cell) -> object:
    """Returns a cell's facts, or the error if they cannot be had and the cell may be skipped."""
    try:
        return check.look(cell)
    except Unreadable as error:
        return error


def _add(check: ColumnCheck, cell: Cell, facts: object) -> int | Unreadable | None:
    """Returns the bytes of a cell, None if it is empty, or the error if its file cannot be used."""
    if isinstance(facts, Unreadable):
        return facts
    try:
        return check.add(cell, facts)
    except Unreadable as error:
        return error
