"""The Markdown of the tables: lines of cells, and numbers as people read them."""

from collections.abc import Sequence

import pandas as pd


def line(*cells: str) -> str:
    """Returns one row of a table."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> list[str]:
    """Returns the head of a table, two lines; the first column is aligned left, the others right."""
    return [line(*cells), line(":--", *["--:"] * (len(cells) - 1))]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a whole table from its cells, the head's first; it ends with a line break."""
    first, *body = rows
    return "".join(f"{text}\n" for text in (*head(*first), *(line(*cells) for cells in body)))


def significant(value: float) -> str:
    """Returns three significant digits, never in scientific notation."""
    return "n/a" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def with_note(value: float, note: str) -> str:
    """Returns a number and what is said of it, or n/a without the note."""
    return "n/a" if pd.isna(value) else f"{significant(value)}, {note}"


def megabytes(value: float) -> str:
    """Returns a number of megabytes: one decimal below ten, else none."""
    return "n/a" if pd.isna(value) else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def signed(mean: float, half: float, digits: int) -> str:
    """Returns a difference and half the width of its interval; bold if the interval excludes 0."""
    text = f"{round(mean, digits) + 0:+.{digits}f} ± {half:.{digits}f}"  # + 0: there is no -0
    return f"**{text}**" if abs(mean) > half else text
