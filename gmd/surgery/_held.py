"""Gradients of parts of a batch, micro-batches, which are held until the last part is there.

The weights are a function of the whole batch's gradients, so that these have to be added up objective by objective
before any surgery: it is too late for that in `.grad`. What is held is each objective's mean over the samples so far.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from gmd.surgery._passes import Row
from gmd.surgery._paths import Basis
from gmd.surgery._step import Part, Step


class _Objective(NamedTuple):
    """What there is of one objective.

    Attributes:
        row: [P], the gradient of its mean loss; pieces of it in a "global" surgery.
        reach: [P] bool on the CPU, which gradients this process has had.
        samples: behind it.
        value: [] float64, its mean loss.
    """

    row: Row
    reach: Tensor
    samples: float
    value: Tensor


class Held:
    """The objectives' gradients over the parts of a batch so far."""

    def __init__(self) -> None:
        self._params: list[int] = []  # ids of the parameters
        self._objectives: dict[Hashable, _Objective] = {}

    def __bool__(self) -> bool:
        return bool(self._objectives)

    def clear(self) -> None:
        """Drops all of it."""
        self._objectives = {}

    @contextmanager
    def dropped_on_error(self) -> Iterator[None]:
        """Opens a context that any exception leaves with nothing held."""
        try:
            yield
        except BaseException:
            self.clear()
            raise

    @contextmanager
    def dropped_afterwards(self) -> Iterator[None]:
        """Opens a context that is left with nothing held."""
        try:
            yield
        finally:
            self.clear()

    def add(self, step: Step, basis: Basis) -> None:
        """Adds a part, whose rows are the objectives' own."""
        self._objectives = self._with(step, basis)
        self._params = [id(param) for param in step.params]

    def with_own(self, step: Step, basis: Basis) -> tuple[Step, Basis]:
        """Returns the step and its gradients as if it had come with all parts at once."""
        found = self._with(step, basis)
        names = (*step.names, *(name for name in found if name not in step.names))
        objectives = [found[name] for name in names]
        values = torch.stack([objective.value for objective in objectives])
        reach = None if basis.reach is None else torch.stack([objective.reach for objective in objectives])
        return step._replace(names=names, whole=values), Basis([one.row for one in objectives], reach=reach)

    def _with(self, step: Step, basis: Basis) -> dict[Hashable, _Objective]:
        """Returns the objectives with those of a step."""
        if self._objectives and self._params != [id(param) for param in step.params]:
            raise ValueError("optimizer: expected the parameters that took part in `accumulate`, got others")
        found = dict(self._objectives)
        for name, own in zip(step.names, _objectives_of(step, basis), strict=True):
            found[name] = _mean(found[name], own) if name in found else own
        return found


def _objectives_of(step: Step, basis: Basis) -> list[_Objective]:
    """Returns [T], what a step alone has."""
    reach = basis.reach
    if reach is None:
        reach = torch.tensor([[gradient is not None for gradient in row] for row in basis.rows], device="cpu")
    counts: Sequence[float] = step.counts or [1.0] * len(step.names)
    counts = counts if step.agreed is None else step.agreed.totals
    return list(map(_Objective, basis.rows, reach, counts, step.values.double()))


def _mean(held: _Objective, own: _Objective) -> _Objective:
    """Returns the mean over the samples of both."""
    samples = held.samples + own.samples
    share = own.samples / samples
    row = [_between(a, b, share) for a, b in zip(held.row, own.row, strict=True)]
    return _Objective(row, held.reach | own.reach, samples, torch.lerp(held.value, own.value, share))


def _between(held: Tensor | None, own: Tensor | None, share: float) -> Tensor | None:
    """Returns (1 - share) * held + share * own, in memory of its own: autograd may have made one tensor for two."""
    if held is None or own is None:
        return own * share if own is not None else held * (1 - share) if held is not None else None
    return torch.lerp(held, own, share)


def check_accumulates(every: int | str, tol: float, part: Part | None) -> None:
    """Raises a ValueError for options that parts of a batch do not go with."""
    if every != 1:
        raise ValueError(
            f"accumulate: expected every=1, got {every!r}: between, a step is an ordinary backward pass, which adds up "
            "in .grad by itself"
        )
    if tol > 0:
        raise ValueError(f"accumulate: expected tol=0, got {tol}: each part has directions of its own")
    if part is not None:
        raise ValueError("part: expected none after `accumulate`, as the gradients of all parts are there already")
