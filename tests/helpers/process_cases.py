"""A batch of samples that lack modalities, dealt to one process or to several, and trainings on it.

Eleven samples of three modalities in float64. The first ones have all modalities, the last ones lack the third: so a
process that gets the last ones has fewer objectives than the others. Of two or three processes, each has another
number of samples.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gmd

NAMES = ("a", "b", "c")
SUBSETS = ("a", "b", "c", "ab", "bc", "abc")
SAMPLES = 11
WITH_C = 6  # the first ones
BOUNDS = {1: (0, 11), 2: (0, 7, 11), 3: (0, 2, 7, 11), 4: (0, 2, 5, 9, 11)}


class Network(nn.Module):
    """A private path for each modality, a trunk for all, and a head behind the outputs; returns losses.

    Attributes:
        outputs: of the last call. A DistributedDataParallel with find_unused_parameters=True returns copies of what
            forward returns: the losses would not depend on outputs that came out so.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.private = nn.ModuleDict({name: nn.Linear(4, 7) for name in NAMES})
        self.trunk = nn.Sequential(nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
        self.head = nn.Linear(3, 1)
        self.scale = nn.Parameter(torch.ones(1))  # a parameter of one number
        self.double()

    def forward(self, x: dict[str, Tensor], target: Tensor, with_c: int, wanted: Sequence[str]) -> tuple[dict, dict]:
        """Returns losses and counts; with_c: of so many samples, the first ones, there is modality c."""
        outputs = {m: self.trunk(self.private[m](value)) for m, value in x.items() if len(value)}
        losses, counts = {}, {}
        for subset in wanted:
            rows = with_c if "c" in subset else len(target)
            if rows:
                fused = torch.stack([outputs[m][:rows] for m in subset]).mean(dim=0)
                sign = (-1) ** SUBSETS.index(subset)  # so that there are conflicts
                losses[subset] = (self.head(fused.tanh()) * self.scale - sign * target[:rows]).square().mean()
                counts[subset] = rows
        self.outputs = outputs
        return losses, counts


class Case(NamedTuple):
    """How to train.

    Attributes:
        make: the surgeon, from an optimizer, the network, a seed, and options.
        how: what each `backward` is given besides losses, and what the losses are; of `HOW`.
        wrapped: whether the network is in a DistributedDataParallel, if there are several processes.
        steps: how many.
    """

    make: Callable[..., Any]
    how: tuple[str, ...] = ()
    wrapped: bool = True
    steps: int = 3


def batch(rank: int, world: int, step: int) -> tuple[dict[str, Tensor], Tensor, int]:
    """Returns a process's share of a step's batch: inputs, targets, and how many samples have modality c."""
    generator = torch.Generator().manual_seed(10 + step)
    x = {m: torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64) for m in NAMES}
    target = 2 * torch.randn(SAMPLES, 1, generator=generator, dtype=torch.float64)
    first, last = BOUNDS[world][rank : rank + 2]
    with_c = max(0, min(last, WITH_C) - first)
    return {m: value[first:last][: with_c if m == "c" else None] for m, value in x.items()}, target[first:last], with_c


def wanted(step: int, how: Sequence[str], rank: int) -> list[str]:
    """Returns the objectives of a step: one is nowhere in the second, and a process has an order of its own."""
    if "same" in how:
        return ["a", "b", "ab"]
    names = [subset for subset in SUBSETS if subset != "bc" or step != 1]
    return names[::-1] if rank == 1 else names


def train(case: Case, rank: int, world: int, parts: bool = False) -> dict[str, Any]:
    """Returns parameters, and what was reported step by step; parts: whether the batch comes in two parts."""
    network = Network()
    if "frozen" in case.how:
        network.trunk[1].weight.requires_grad_(False)
    # with its own 1e-8, rounding of a gradient that projection has made zero would become a step
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, eps=1e-3)
    surgeon = case.make(optimizer, network, seed=3 + rank, scope="global")
    wrapped = DistributedDataParallel(network, find_unused_parameters=True) if world > 1 and case.wrapped else network
    told = []
    for step in range(case.steps):
        optimizer.zero_grad()
        if "frozen" in case.how:
            network.trunk[1].weight.requires_grad_(step > 0)
        report = _step(surgeon, wrapped, case, batch(rank, world, step), wanted(step, case.how, rank), parts)
        told.append(_told(report, network))
        optimizer.step()
    return {"params": [param.detach().clone() for param in network.parameters()], "told": told}


def _step(surgeon, network, case: Case, data: tuple, names: list[str], parts: bool):
    x, target, with_c = data
    inner = network.module if isinstance(network, DistributedDataParallel) else network
    if parts:
        half = len(target) // 2
        first = {m: value[:half] for m, value in x.items()}, target[:half], min(with_c, half)
        rest = {m: value[half:] for m, value in x.items()}, target[half:], max(0, with_c - half)
        losses, counts = network(*first, names)
        outputs = inner.outputs
        surgeon.accumulate(losses, counts=counts, **_given(case.how, outputs))
        x, target, with_c = rest
    losses, counts = network(x, target, with_c, names)
    outputs = inner.outputs
    if "stand-ins" in case.how:
        for name in names:
            losses.setdefault(name, 0 * sum(value.sum() for value in outputs.values()))
            counts.setdefault(name, 0)
    options = _given(case.how, outputs)
    if "factors" in case.how:
        options["factors"] = torch.tensor([0.5 + "abc".index(m) for m in outputs], dtype=torch.float64)
    if "part" in case.how:

        def part():
            with network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext():
                losses, _ = network(x, target, with_c, names)
            return (losses, inner.outputs if "outputs" in case.how else None)

        options["part"] = part
    if "list" in case.how:
        losses, counts = list(losses.values()), list(counts.values())
    if "no counts" in case.how or (not dist.is_initialized() and not parts):
        counts = None
    return surgeon.backward(losses, counts=counts, **options)


def _given(how: Sequence[str], outputs: dict[str, Tensor]) -> dict[str, Any]:
    if "outputs" not in how:
        return {}
    return {"outputs": list(outputs.values()) if "list" in how else outputs}


def _told(report: gmd.Report, network: nn.Module) -> dict[str, Any]:
    places = sorted(range(len(report.names)), key=lambda k: str(report.names[k]))
    one = len(report.weights) != len(places) and report.weights.ndim == 1  # the mean is one objective
    pick = slice(None) if one else places
    return {
        "names": [str(report.names[k]) for k in places],
        "losses": report.losses[places].double(),
        "grams": report.grams if one else report.grams[..., pick, :][..., pick].clone(),
        "weights": report.weights[..., pick].clone(),
        "grads": [None if param.grad is None else param.grad.clone() for param in network.parameters()],
        "norms": report.modality.get("gradient norm"),
        "directions": report.directions,
        "refreshed": report.refreshed,
    }
