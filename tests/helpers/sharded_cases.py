"""A network whose parameters are cut up between processes, its batch, and what surgery makes of it step by step.

Twelve samples in float64, of which the last ones lack the third modality. Every process computes everything, on zeros
where it has no sample, as `fully_shard` needs it. Shards are short, and some are empty: 7 rows over 4 processes, and
parameters of 1 number.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import gmd
from helpers.several_processes import TIMEOUT

NAMES = ("a", "b", "c")
SUBSETS = ("a", "b", "c", "ab", "abc")
SAMPLES = 12
WITH_C = 7  # the first ones
BOUNDS = {1: (0, 12), 2: (0, 7, 12), 4: (0, 2, 7, 8, 12)}


class Network(nn.Module):
    """A private path for each modality, a trunk for all, called once for each, and a head for the means of outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.private = nn.ModuleDict({name: nn.Linear(4, 7) for name in NAMES})
        self.trunk = nn.Sequential(nn.Tanh(), nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 3))
        self.head = Head()
        self.double()

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: self.trunk(self.private[m](value)) for m, value in x.items()}


class Head(nn.Module):
    """Each objective's prediction from the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.scale = nn.Parameter(torch.ones(1))  # a parameter of one number

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        return self.linear(torch.stack(list(outputs)).mean(dim=0).tanh()) * self.scale


class Whole(nn.Module):
    """The network with its head, as one module: the root unit, whose forward the user calls."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, x: Mapping[str, Tensor], rows: Mapping[str, int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        outputs = self.network(x)
        return outputs, {s: self.network.head([outputs[m][: rows[s]] for m in s]) for s in SUBSETS}


def with_units(whole: Whole, mesh) -> None:
    for path in whole.network.private.values():
        fully_shard(path, mesh=mesh)
    fully_shard(whole.network.trunk, mesh=mesh)
    fully_shard(whole, mesh=mesh)


def with_cut_layers(whole: Whole, mesh) -> None:
    plan = {"network.trunk.1": ColwiseParallel(), "network.trunk.3": RowwiseParallel()}
    parallelize_module(whole, mesh, plan)


def mesh_of(shape: tuple[int, ...], names: tuple[str, ...]) -> DeviceMesh:
    return _mesh_of(shape, names, dist.group.WORLD)


@cache
def _mesh_of(shape: tuple[int, ...], names: tuple[str, ...], world: object) -> DeviceMesh:
    """One for all networks, as each has sockets of its own; world: what it is a part of, as long as that lasts."""
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    for name in names if dist.get_backend() == "gloo" else ():  # whose groups would otherwise wait for half an hour
        dist.distributed_c10d._set_pg_timeout(TIMEOUT, mesh.get_group(name))
    return mesh


def fsdp(whole: Whole) -> None:
    with_units(whole, mesh_of((dist.get_world_size(),), ("shards",)))


def hsdp(whole: Whole) -> None:
    """Shards over two processes, and copies on the others."""
    with_units(whole, mesh_of((dist.get_world_size() // 2, 2), ("copies", "shards")))


def tensor_parallel(whole: Whole) -> None:
    with_cut_layers(whole, mesh_of((dist.get_world_size(),), ("parts",)))


def both(whole: Whole) -> None:
    """Tensor parallelism over two processes, fully_shard over the others."""
    mesh = mesh_of((dist.get_world_size() // 2, 2), ("batches", "parts"))
    with_cut_layers(whole, mesh["parts"])
    with_units(whole, mesh["batches"])


COPIES: dict[Callable[[Whole], None], Callable[[int], int]] = {  # how many processes have the same batch
    fsdp: lambda world: 1,
    hsdp: lambda world: 1,
    tensor_parallel: lambda world: world,
    both: lambda world: 2,
}


class Case(NamedTuple):
    """How to train.

    Attributes:
        make: the surgeon, from an optimizer and the network, with the options of `scope="global"`.
        how: what else: "list", losses by position; "outputs" are given; "lacking" objectives on some processes;
            "scaler"; "twice" before each step; in "parts"; "unused" modality; "eps", so large that the rounding of a
            gradient that projections have made zero is none of a step's size.
        steps: how many.
    """

    make: Callable[..., Any]
    how: tuple[str, ...] = ()
    steps: int = 3


def batch(rank: int, world: int, step: int) -> tuple[dict[str, Tensor], Tensor, int]:
    """Returns a process's share of a step's batch: inputs, targets, and how many samples have modality c."""
    generator = torch.Generator().manual_seed(10 + step)
    x = {m: torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64) for m in NAMES}
    target = 2 * torch.randn(SAMPLES, 1, generator=generator, dtype=torch.float64)
    first, last = BOUNDS[world][rank : rank + 2]
    with_c = max(0, min(last, WITH_C) - first)
    return {m: value[first:last] for m, value in x.items()}, target[first:last], with_c


def losses_of(whole: nn.Module, data: tuple, how: Sequence[str]) -> tuple[dict, dict, dict]:
    """Returns losses, of how many samples each is the mean, and outputs."""
    x, target, with_c = data
    if with_c == 0:
        x = {**x, "c": torch.zeros(1, 4, dtype=torch.float64)}
    rows = {s: with_c if "c" in s else len(target) for s in SUBSETS}
    outputs, predictions = whole(x, {s: max(n, 1) for s, n in rows.items()})
    losses, counts = {}, {}
    for k, (s, n) in enumerate(rows.items()):
        if "unused" in how and "c" in s:
            continue
        if n:
            losses[s] = (predictions[s] - (-1) ** k * target[:n]).square().mean()
        elif "lacking" not in how:
            losses[s] = 0 * predictions[s].sum()
        if s in losses:
            counts[s] = n
    if "lacking" in how and with_c == 0:
        del outputs["c"]
    return losses, counts, outputs


def train(case: Case, cut: Callable[[Whole], None] | None = None) -> dict[str, Any]:
    """Returns parameters, and what was reported step by step, all of them whole.

    cut: brings the network into pieces; None: in one process, whatever others there are
    """
    whole = Whole()
    rank, world = 0, 1
    if cut is not None:
        copies = COPIES[cut](dist.get_world_size())
        rank, world = dist.get_rank() // copies, dist.get_world_size() // copies
        cut(whole)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=1e-2, eps=1e-3 if "eps" in case.how else 1e-8)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if "scaler" in case.how else None
    options = {} if scaler is None else {"scaler": scaler}
    surgeon = case.make(optimizer, whole, **options, scope="local" if cut is None else "global")
    told = []
    for step in range(case.steps):
        optimizer.zero_grad()
        if "parts" in case.how:  # the same batch twice is as good as once
            losses, counts, outputs = losses_of(whole, batch(rank, world, step), case.how)
            surgeon.accumulate(losses, outputs if "outputs" in case.how else None, None if cut is None else counts)
        for _ in range(2 if "twice" in case.how else 1):
            losses, counts, outputs = losses_of(whole, batch(rank, world, step), case.how)
            report = _operated(surgeon, case.how, losses, None if cut is None else counts, outputs)
        told.append(_told(report, whole))
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    return {"params": [_full(param).clone() for param in whole.parameters()], "told": told}


def _operated(surgeon, how: Sequence[str], losses: dict, counts: dict | None, outputs: dict) -> gmd.Report:
    options = {"outputs": outputs} if "outputs" in how else {}
    if "list" in how:
        return surgeon.backward(list(losses.values()), counts=counts and list(counts.values()), **options)
    return surgeon.backward(losses, **({} if counts is None else {"counts": counts}), **options)


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def _told(report: gmd.Report, whole: nn.Module) -> dict[str, Any]:
    return {
        "losses": report.losses.double(),
        "grams": report.grams,
        "weights": report.weights,
        "norms": report.modality.get("gradient norm"),
        "squared norm": report.squared_norm,
        "grads": [None if param.grad is None else _full(param.grad).clone() for param in whole.parameters()],
    }
