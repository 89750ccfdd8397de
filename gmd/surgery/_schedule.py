"""When weights are taken anew, and what they were: the state of a surgeon that does not take them at every step.

`every=K` takes them at every Kth step. `every="auto"` begins with every FIRST-th step; each time that weights are taken
and have moved by no more than MOVED since the time before, the interval doubles, up to LONGEST; when they have moved by
more it is FIRST again. How far they have moved is sum |new - old| / sum |old|. Where no two gradients conflict,
PCGrad's weights are those of the mean and do not move. Where some do, weights also move with the noise of the batches.
"""

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from gmd.surgery._undone import check_keys

FIRST, LONGEST, MOVED = 4, 32, 0.2
MOST_SETS = 256  # of objectives, whose weights are kept; the one that was taken first goes

Names = tuple[Hashable, ...]


@dataclass(frozen=True)
class Taken:
    """The weights of a set of objectives, and what they come from.

    Attributes:
        names: of the T objectives.
        weights: [T] float64.
        gram: [T, T] float64.
        private: numbers of the parameters, among all of the optimizers, that some of the objectives reach only.
        step: the number of the step at which they were taken.
        interval: steps from there until they are taken anew.
        compiled: whether torch.compile made parts of the graph.
        failed: whether what should have replaced it was not finite, so that it is to be taken again.
    """

    names: Names
    weights: Tensor
    gram: Tensor
    private: tuple[int, ...]
    step: int
    interval: int = 1
    compiled: bool = False
    failed: bool = False

    def ordered(self, names: Names) -> "Taken":
        """Returns the same for the names in this order."""
        if names == self.names:
            return self
        places = torch.tensor([self.names.index(name) for name in names], device=self.weights.device)
        return replace(self, names=names, weights=self.weights[places], gram=self.gram[places][:, places])


class Schedule:
    """What was taken for each set of objectives, and whether it is time to take it anew.

    Attributes:
        every: 1, 2, ... or "auto".
        steps: how many backward passes there were.
        failures: how many times what was taken was not finite.
    """

    def __init__(self, every: int | str):
        if every != "auto" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"every: expected a number of steps, at least 1, or 'auto', got {every!r}")
        self.every = every
        self.steps = 0
        self.failures = 0
        self._params: tuple[int, ...] = ()
        self._taken: dict[frozenset[Hashable], Taken] = {}

    def copy(self) -> "Schedule":
        """Returns another with the same state."""
        other = copy.copy(self)
        other._taken = dict(self._taken)
        return other

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Opens a context that any exception leaves with the state of before."""
        before = self.copy()
        try:
            yield
        except BaseException:
            self.__dict__.update(before.__dict__)
            raise

    def begin(self, params: Sequence[int]) -> None:
        """Counts a step. params: numbers of the parameters that require grad; where others do, nothing taken holds."""
        self.steps += 1
        if tuple(params) != self._params:
            self._params = tuple(params)
            self._taken.clear()

    def taken(self, names: Names) -> Taken | None:
        """Returns what was taken last for these objectives; None for a set that is new."""
        found = self._taken.get(frozenset(names))
        return None if found is None else found.ordered(names)

    def is_due(self, taken: Taken | None) -> bool:
        """Returns whether weights have to be taken at this step."""
        return taken is None or taken.failed or self.age(taken) >= taken.interval

    def age(self, taken: Taken) -> int:
        """Returns how many steps ago it was taken."""
        return self.steps - taken.step

    def take(self, new: Taken) -> Taken:
        """Keeps what was taken at this step, and returns it with its interval.

        If weights or Gramian are not finite, returns what was taken before, or `new` if there is nothing: the next step
        takes them again. Waits for the device.
        """
        before = self.taken(new.names)
        if not bool(new.weights.isfinite().all() & new.gram.isfinite().all()):
            self.failures += 1
            if before is None:
                return new
            self._taken[frozenset(new.names)] = replace(before, failed=True)
            return before
        new = replace(new, step=self.steps, interval=self._interval(before, new))
        self._taken.pop(frozenset(new.names), None)
        self._taken[frozenset(new.names)] = new
        if len(self._taken) > MOST_SETS:
            del self._taken[next(iter(self._taken))]
        return new

    def _interval(self, before: Taken | None, new: Taken) -> int:
        if isinstance(self.every, int):
            return self.every
        if before is None:
            return FIRST
        moved, size = (new.weights - before.weights).abs().sum(), before.weights.abs().sum()
        return min(2 * before.interval, LONGEST) if bool(moved <= MOVED * size) else FIRST  # zeros that stay zeros too

    def state_dict(self) -> dict[str, Any]:
        """Returns all of it as tensors and plain values."""
        sets = [
            {
                "names": list(one.names),
                "weights": one.weights,
                "gram": one.gram,
                "private": list(one.private),
                "step": one.step,
                "interval": one.interval,
                "compiled": one.compiled,
                "failed": one.failed,
            }
            for one in self._taken.values()
        ]
        counts = {"every": self.every, "steps": self.steps, "failures": self.failures}
        return counts | {"params": list(self._params), "sets": sets}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device, num_params: int) -> None:
        """Takes over what `state_dict` has returned, onto a device.

        num_params: of the optimizers.

        Raises ValueError for the state of a surgeon with another `every`, of other parameters, or for what is no state
        at all, and changes nothing then.
        """
        check_keys("schedule", self.state_dict(), state)
        if state["every"] != self.every:
            raise ValueError(f"every: expected the state of every={self.every!r}, got one of every={state['every']!r}")
        if any(not 0 <= p < num_params for p in state["params"]):
            raise ValueError(
                f"schedule: expected the state of {num_params} parameters, got number {max(state['params'])}"
            )
        taken = {}
        for saved in state["sets"]:
            one = _checked_set(saved, state["params"], state["steps"], device)
            taken[frozenset(one.names)] = one
        self.steps, self.failures = state["steps"], state["failures"]
        self._params, self._taken = tuple(state["params"]), taken


def _checked_set(saved: Mapping[str, Any], params: Sequence[int], steps: int, device: torch.device) -> Taken:
    """Returns what was taken for a set of objectives; raises a ValueError for what cannot have been."""
    check_keys("schedule: a set of objectives", {field.name: field for field in fields(Taken)}, saved)
    names = tuple(saved["names"])
    t = len(set(names))
    for key, shape in (("weights", (t,)), ("gram", (t, t))):
        value = saved[key]
        if not isinstance(value, Tensor) or value.dtype != torch.float64 or tuple(value.shape) != shape:
            got = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"schedule: {key}: expected float64 {list(shape)}, of {len(names)} names, got {got}")
        if not value.isfinite().all():
            raise ValueError(f"schedule: {key}: expected finite numbers, got {value.tolist()}")
    if not set(saved["private"]) <= set(params):
        raise ValueError(f"schedule: private: expected some of the {len(params)} parameters, got {saved['private']}")
    if not 0 <= saved["step"] <= steps or saved["interval"] < 1:
        told = f"step {saved['step']}, interval {saved['interval']}"
        raise ValueError(f"schedule: expected a step up to {steps} and an interval of at least 1, got {told}")
    tensors = {key: saved[key].to(device) for key in ("weights", "gram")}
    return Taken(**{**saved, **tensors, "names": names, "private": tuple(saved["private"])})
