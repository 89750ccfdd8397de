"""Several processes in step: each step begins when all have what it takes, or ends the training in all of them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from gmd.errors import UserError
from gmd.together import agreed, is_first, processes, summed
from gmd.training.interruption import Interruption

Batches = TypeVar("Batches")


def in_lockstep(
    steps: Iterable[Batches], interruption: Interruption, due: Callable[[], bool]
) -> Iterator[tuple[Batches, Callable[[], bool]]]:
    """Yields what each step takes, with whether it is time to save after it, as the first process says.

    Raises what a process by itself would: UserError in all if one cannot read its share, and KeyboardInterrupt in all
    if one was asked to stop.

    steps: as many in every process; due: whether it is time to save
    """
    if processes() == 1:
        for batches in steps:
            yield batches, due
        return
    waiting, number = iter(steps), 0
    while True:
        number += 1
        what = f"step {number} since the start of the epoch or the resumption"
        following, error = _next(waiting)
        failed, stopped, save = summed([error is not None, interruption.wanted, is_first() and due()], what)
        if failed:
            agreed(partial(_raised, error), what)
        if stopped:
            raise KeyboardInterrupt
        if following is None:
            return
        yield following, partial(bool, save)


def _next(waiting: Iterator[Batches]) -> tuple[Batches | None, UserError | None]:
    try:
        return next(waiting, None), None
    except UserError as error:
        return None, error


def _raised(error: UserError | None) -> None:
    if error is not None:
        raise error
