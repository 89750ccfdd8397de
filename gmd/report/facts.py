"""The figures of a report: a row of name and value, and durations in words."""

from typing import NamedTuple

NOT_RECORDED = "not recorded"  # the value of a figure that the run's files do not hold


class Fact(NamedTuple):
    """A row of a table with two columns."""

    name: str
    value: str


def duration(seconds: float) -> str:
    """Returns a duration in words, in seconds, minutes, or hours and minutes: `12.5 s`, `3 min`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
