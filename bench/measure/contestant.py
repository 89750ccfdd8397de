"""One way of doing one thing: what is timed, how its values are judged, and what it must move at least."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Result = TypeVar("Result")

TOLERANCE = 1e-5  # relative, where nobody says another


class Work(NamedTuple):
    """What must move between memory and processor, whoever does it, in units of N elements."""

    reads: int
    copies: int  # N elements read and N written


@dataclass(frozen=True)
class Contestant(Generic[Result]):
    """One way of doing one thing.

    Attributes:
        name: stands in the column `contestant` of the results.
        work: the least that it must move, see `bench.measure.bandwidth.floor_ms`.
        call: what is timed.
        error: takes the result of `call` and returns its relative error against float64.
        tolerance: the largest error with which it is timed.
        result_bytes: the bytes that `call` allocates for its result and returns.
        prepare: runs before each call, untimed.
    """

    name: str
    work: Work
    call: Callable[[], Result]
    error: Callable[[Result], float]
    tolerance: float = TOLERANCE
    result_bytes: int = 0
    prepare: Callable[[], object] = lambda: None
