"""Which objectives a step has over all processes, and which share of each this process brings.

A loss is the mean over `count` samples of a process. Over all of them it is sum_r count_r L_r / sum_r count_r: that is
what the gradients of each process add up to if each loss is multiplied by its share, count_r / sum_r count_r. Without
counts that is the mean of the processes' losses, as a DistributedDataParallel has it.

A count of 0 says that a process has no sample of an objective. Its loss, a zero that was computed from the network's
outputs, then only stands in: it lets a DistributedDataParallel take part in an ordinary backward pass.
"""

import math
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from gmd.surgery.processes.waiting import waiting

Counts = Mapping[Hashable, float] | Sequence[float]
Names = tuple[Hashable, ...]
Key = tuple[str, Hashable]  # "loss" or "output", and its name
MARKS = 4  # numbers that tell differences: names that are new, a checksum, its square, refusals


class Agreed(NamedTuple):
    """What all processes have agreed on for one step.

    Attributes:
        names: of the T objectives that have a sample on some process, in the same order on all.
        shares: [T], this process's share of the samples of each; 0 where it has none.
        totals: [T], the samples of each on all processes.
        values: [T] float64 on the losses' device, the losses of the whole batch.
        outputs: names of the outputs that some process has given, in the same order on all.
    """

    names: Names
    shares: list[float]
    totals: list[float]
    values: Tensor
    outputs: Names


def checked_counts(
    counts: Counts | None, names: Names, by_name: bool, scope: str = "global", accumulated: bool = False
) -> list[float] | None:
    """Returns [T] the number of samples behind each loss, or None; raises an error unless they go with the losses.

    accumulated: whether there are several parts of a batch, whose losses count as many samples
    """
    if counts is None:
        return None
    local = scope != "global"
    if local and not accumulated:
        raise ValueError("counts: expected scope='global' with them, as in a local surgery nobody asks for them")
    if isinstance(counts, Mapping) is not by_name:
        kinds = ("a list", "a dict")
        raise TypeError(f"counts: expected {kinds[by_name]}, as the losses, got {type(counts).__name__}")
    if len(counts) != len(names) or (isinstance(counts, Mapping) and set(counts) != set(names)):
        raise ValueError(f"counts: expected one for each of {', '.join(map(repr, names))}, got {counts!r}")
    found = [counts[name] for name in names] if isinstance(counts, Mapping) else list(counts)
    for name, count in zip(names, found, strict=True):
        _check_count(name, count, local)
    return list(map(float, found))


def _check_count(name: Hashable, count: object, local: bool) -> None:
    """Raises a ValueError for what is no number of samples."""
    if isinstance(count, bool) or not isinstance(count, float | int) or not 0 <= count < math.inf:
        raise ValueError(f"counts[{name!r}]: expected a finite number, at least 0, got {count!r}")
    if local and count == 0:
        raise ValueError(f"counts[{name!r}]: expected more than 0, got 0: leave the objective out, by name")


class Agreement:
    """The objectives and outputs that any process has named so far, in one order that all processes keep.

    group: the processes
    """

    def __init__(self, group: dist.ProcessGroup):
        self._group = group
        self._known: dict[Key, int] = {}

    @property
    def size(self) -> int:
        """Returns the number of processes."""
        return self._group.size()

    def reach(
        self, losses: Mapping[Hashable, Tensor], counts: Sequence[float], like: str, outputs: Iterable[Hashable] = ()
    ) -> Agreed:
        """Returns what all processes bring to this step, by one small all-reduce; by more where a name is new.

        losses: of this process; counts: of the samples behind each; like: says in words what has to be the same on all
        processes, of parameters and losses; outputs: names of this process's

        Raises ValueError on all processes if it is not, if one has refused what it was given, or if none has a sample.
        """
        numbers: dict[Key, float] = {("loss", name): count for name, count in zip(losses, counts, strict=True)}
        numbers |= {("output", name): 1.0 for name in outputs}
        total = self._summed(losses, numbers, like)
        while self._has_news(total, like):
            self._exchange(list(numbers))
            total = self._summed(losses, numbers, like)
        return self._of_sums(total, numbers)

    def _of_sums(self, total: Tensor, numbers: Mapping[Key, float]) -> Agreed:
        """Returns what the sums say; numbers: of this process."""
        size = len(self._known)
        sums = dict(zip(self._known, total[:size].tolist(), strict=True))
        there = [(self._known[key], *key) for key in self._known if sums[key] > 0]
        places = {name: place for place, kind, name in there if kind == "loss"}
        if not places:
            raise ValueError("counts: expected a sample of at least one objective on some process, got none")
        totals = [sums["loss", name] for name in places]
        mine = [numbers.get(("loss", name), 0.0) for name in places]
        index = torch.tensor(list(places.values()), device=total.device)
        return Agreed(
            tuple(places),
            [number / whole for number, whole in zip(mine, totals, strict=True)],
            totals,
            total[size : 2 * size][index] / total[:size][index],
            tuple(name for _, kind, name in there if kind == "output"),
        )

    def refuse(self, error: Exception, device: torch.device) -> None:
        """Tells the other processes, which are about to agree, that this one has refused what it was given."""
        total = torch.zeros(2 * len(self._known) + MARKS, dtype=torch.float64, device=device)
        total[-1] = 1
        self._all_reduce(total)
        self._raise_told(f"{type(error).__name__}: {error}")

    def _summed(self, losses: Mapping[Hashable, Tensor], numbers: Mapping[Key, float], like: str) -> Tensor:
        """Returns the sums over all processes: of counts, of counts times losses, and of what tells differences."""
        size, device = len(self._known), next(iter(losses.values())).device
        known = [key for key in numbers if key in self._known]
        counts = torch.zeros(size, dtype=torch.float64, device="cpu")
        for key in known:
            counts[self._known[key]] = numbers[key]
        values = torch.zeros(size, dtype=torch.float64, device=device)
        if of_losses := [key for key in known if key[0] == "loss"]:
            index = torch.tensor([self._known[key] for key in of_losses], device=device)
            values[index] = torch.stack([losses[name].detach().double() for _, name in of_losses])
        counts = counts.to(device)
        # a stand-in's value does not matter, even if it is not finite
        products = torch.where(counts > 0, counts * values, 0.0)
        mark = zlib.crc32(like.encode()) % 2**20  # the sums of marks and of their squares are exact
        marks = torch.tensor([len(numbers) > len(known), mark, mark * mark, 0], dtype=torch.float64)
        total = torch.cat([counts, products, marks.to(device)])
        self._all_reduce(total)
        return total

    def _all_reduce(self, total: Tensor) -> None:
        with waiting(self._group, "the agreement on a step's objectives"):
            dist.all_reduce(total, group=self._group)

    def _has_news(self, total: Tensor, like: str) -> bool:
        """Returns whether a process has a name that is new; raises a ValueError if processes differ in `like`."""
        news, marks, squares, refused = total[-MARKS:].tolist()
        if refused > 0 or marks * marks != squares * self._group.size():
            self._raise_told(like, bool(refused))
        return bool(news > 0)

    def _raise_told(self, mine: str, refused: bool = True) -> None:
        """Raises a ValueError that says what each process has, once all have come here."""
        told: list[str] = [""] * self._group.size()
        with waiting(self._group, "what the processes differ in"):
            dist.all_gather_object(told, mine, group=self._group)
        each = "; ".join(f"process {rank}: {one}" for rank, one in enumerate(told))
        what = "a process cannot take part in this step" if refused else "expected the same on all processes"
        raise ValueError(f"scope='global': {what}, got {each}")

    def _exchange(self, keys: list[Key]) -> None:
        """Learns all processes' names, in the order of the processes."""
        told: list[list[Key]] = [[] for _ in range(self._group.size())]
        with waiting(self._group, "the exchange of objectives' names"):
            dist.all_gather_object(told, keys, group=self._group)
        for key in (key for one in told for key in one):
            self._known.setdefault(key, len(self._known))
