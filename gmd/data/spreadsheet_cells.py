"""Cells of CSV files that no spreadsheet takes for a formula, and how they are read back.

A spreadsheet computes a cell of a CSV file that begins with = and the like, and a formula may fetch from the internet
or start programs. Names of cases come from others, so an apostrophe is put before such a beginning, as OWASP's "CSV
Injection" has it. It stands at each place where some spreadsheet begins a cell: where the cell begins, and behind a
semicolon, a tab, a quotation mark or a line end in it.
"""

import re
from collections.abc import Iterable

_BEGINNING = r"(^|[;\t\r\n\"])"
_FORMULA = r"(?:[^\S\t\r\n]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])"  # the wide = + - @ of East Asia, too
_UNSAFE = re.compile(f"{_BEGINNING}(?='*{_FORMULA})")
_GUARDED = re.compile(f"{_BEGINNING}'(?='*{_FORMULA})")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def guarded(cells: Iterable[object]) -> list[object]:
    """Returns the cells of a line as they are to be written: numbers, and texts of numbers, as they are."""
    return [_guard(cell) if isinstance(cell, str) else cell for cell in cells]


def unguarded(cells: Iterable[str]) -> list[str]:
    """Returns what the cells of a line that was read were before `guarded`. Cells written without it stay."""
    return [_GUARDED.sub(r"\1", cell) for cell in cells]


def _guard(cell: str) -> str:
    return cell if _NUMBER.fullmatch(cell) else _UNSAFE.sub(r"\1'", cell)
