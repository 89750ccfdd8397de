"""Which objectives a step has over all processes, and which share of each this process brings.

A loss is the mean over `count` samples of a process. Over all of them it is sum_r count_r L_r / sum_r count_r: that is
what the gradients of each process add up to if each loss is multiplied by its share, count_r / sum_r count_r. Without
counts that is the mean of the processes' losses, as a DistributedDataParallel has it.

A count of 0 says that a process has no sample of an objective. Its loss, a zero that was computed from the network's
outputs, then only stands in: it lets a DistributedDataParallel take part in an ordinary backward pass.
"""

import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from gmd.surgery.processes.waiting import waiting

Counts = Mapping[Hashable, float] | Sequence[float]
Names = tuple[Hashable, ...]


class Agreed(NamedTuple):
    """What all processes have agreed on for one step.

    Attributes:
        names: of the T objectives that have a sample on some process, in the same order on all.
        losses: [T], this process's loss of each; None where it has given none.
        shares: [T], this process's share of the samples of each; 0 where it has none.
        values: [T] float64 on the losses' device, the losses of the whole batch.
        stand_ins: losses of this process whose objective has a sample nowhere.
    """

    names: Names
    losses: list[Tensor | None]
    shares: list[float]
    values: Tensor
    stand_ins: list[Tensor]


def checked_counts(counts: Counts | None, names: Names, by_name: bool) -> list[float]:
    """Returns [T] the number of samples behind each loss; 1 each for None. Raises an error unless they go with it."""
    if counts is None:
        return [1.0] * len(names)
    if isinstance(counts, Mapping) is not by_name:
        kinds = ("a list", "a dict")
        raise TypeError(f"counts: expected {kinds[by_name]}, as the losses, got {type(counts).__name__}")
    if len(counts) != len(names) or (isinstance(counts, Mapping) and set(counts) != set(names)):
        raise ValueError(f"counts: expected one for each of {', '.join(map(repr, names))}, got {counts!r}")
    found = [counts[name] for name in names] if isinstance(counts, Mapping) else list(counts)
    for name, count in zip(names, found, strict=True):
        if isinstance(count, bool) or not isinstance(count, float | int) or not 0 <= count < math.inf:
            raise ValueError(f"counts[{name!r}]: expected a finite number, at least 0, got {count!r}")
    return list(map(float, found))


class Agreement:
    """The objectives that any process has named so far, in one order that all processes keep.

    group: the processes
    """

    def __init__(self, group: dist.ProcessGroup):
        self._group = group
        self._known: dict[Hashable, int] = {}

    def reach(self, losses: Mapping[Hashable, Tensor], counts: Sequence[float], like: str) -> Agreed:
        """Returns what all processes bring to this step, by one small all-reduce; by more where a name is new.

        losses: of this process; counts: of the samples behind each; like: says in words what has to be the same on all
        processes, of parameters and losses.

        Raises ValueError on all processes if it is not, or if no process has a sample.
        """
        total = self._summed(losses, counts, like)
        while self._has_news(total, like):
            self._exchange(list(losses))
            total = self._summed(losses, counts, like)
        size = len(self._known)
        numbers = total[:size].tolist()
        names = tuple(name for name, number in zip(self._known, numbers, strict=True) if number > 0)
        if not names:
            raise ValueError("counts: expected a sample of at least one objective on some process, got none")
        places = [self._known[name] for name in names]
        mine = dict(zip(losses, counts, strict=True))
        shares = [mine.get(name, 0.0) / numbers[place] for name, place in zip(names, places, strict=True)]
        index = torch.tensor(places, device=total.device)
        values = total[size : 2 * size][index] / total[:size][index]
        stand_ins = [loss for name, loss in losses.items() if name not in names]
        return Agreed(names, [losses.get(name) for name in names], shares, values, stand_ins)

    def _summed(self, losses: Mapping[Hashable, Tensor], counts: Sequence[float], like: str) -> Tensor:
        """Returns the sums over all processes: of counts, of counts times losses, and of what tells differences."""
        size, device = len(self._known), next(iter(losses.values())).device
        mark = zlib.crc32(like.encode()) % 2**20  # the sums of marks and of their squares are exact
        known = [(self._known[name], k) for k, name in enumerate(losses) if name in self._known]
        numbers = torch.zeros(size, dtype=torch.float64, device="cpu")
        for place, k in known:
            numbers[place] = counts[k]
        values = torch.zeros(size, dtype=torch.float64, device=device)
        if known:
            index = torch.tensor([place for place, _ in known], device=device)
            given = list(losses.values())
            values[index] = torch.stack([given[k].detach().double() for _, k in known])
        numbers = numbers.to(device)
        # a stand-in's value does not matter, even if it is not finite
        products = torch.where(numbers > 0, numbers * values, 0.0)
        marks = torch.tensor([len(losses) > len(known), mark, mark * mark], dtype=torch.float64).to(device)
        total = torch.cat([numbers, products, marks])
        with waiting(self._group, "the agreement on a step's objectives"):
            dist.all_reduce(total, group=self._group)
        return total

    def _has_news(self, total: Tensor, like: str) -> bool:
        """Returns whether a process has a name that is new; raises a ValueError if processes differ in `like`."""
        news, marks, squares = total[-3:].tolist()
        if marks * marks != squares * self._group.size():
            told: list[str] = [""] * self._group.size()
            dist.all_gather_object(told, like, group=self._group)
            each = "; ".join(f"process {rank}: {one}" for rank, one in enumerate(told))
            raise ValueError(f"scope='global': expected the same on all processes, got {each}")
        return bool(news > 0)

    def _exchange(self, names: list[Hashable]) -> None:
        """Learns all processes' names, in the order of the processes."""
        told: list[list[Hashable]] = [[] for _ in range(self._group.size())]
        with waiting(self._group, "the exchange of objectives' names"):
            dist.all_gather_object(told, names, group=self._group)
        for name in (name for one in told for name in one):
            self._known.setdefault(name, len(self._known))
