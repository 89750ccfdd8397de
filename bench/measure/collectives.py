"""`python -m bench.measure.collectives`: the collectives of a step on two processes, counted by torch's CommDebugMode.

Counts depend on the way of training, on the number of objectives, and under FSDP2 on that of units. What a process
sends and receives is that of ring algorithms: each buffer once for a reduce-scatter or an all-gather, twice for an
all-reduce, times (R - 1) / R on R processes.
"""

import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import gmd
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from gmd.subsets import all_subsets
from gmd.surgery.mean import MeanGradient

PROCESSES = 2
MODALITIES = ("text", "audio", "video")
WIDTH = 128
UNITS = len(MODALITIES) + 1
SMALL = 0.05  # of the parameters: a collective of fewer numbers counts as a small one
FILE = RESULTS / "collectives.csv"
Outputs = dict[str, Tensor]


class Network(nn.Module):
    """An encoder for each modality, and a head that sees the mean of each subset; every module is called once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in MODALITIES})
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))

    def forward(self, x: Outputs) -> tuple[Outputs, Tensor]:
        outputs = {name: self.encoders[name](x[name]) for name in x}
        subsets = all_subsets(MODALITIES)
        fused = torch.stack([torch.stack([outputs[m] for m in subset]).mean(dim=0) for subset in subsets])
        return outputs, self.head(fused)


class Way(NamedTuple):
    """A way of making a step.

    Attributes:
        name: in the table.
        make: of an optimizer and the network; None for an ordinary backward pass.
        outputs: whether the outputs of the modalities are handed over.
        step: which step is counted: 0 is one that takes weights, 1 that after it.
        sharded: whether FSDP2 shards the network; else it is in a DistributedDataParallel.
    """

    name: str
    make: Callable[[torch.optim.Optimizer, nn.Module], Any] | None = None
    outputs: bool = False
    step: int = 0
    sharded: bool = False


def _mean(optimizer: torch.optim.Optimizer, network: nn.Module) -> MeanGradient:
    return MeanGradient(optimizer, scope="global")


def _gmd(**options: Any) -> Callable[[torch.optim.Optimizer, nn.Module], gmd.GMD]:
    return lambda optimizer, network: gmd.GMD(optimizer, model=network, **options)


WAYS = (
    Way("DDP, mean loss"),
    Way("DDP, `MeanGradient`, global", _mean),
    Way("DDP, local", _gmd()),
    Way("DDP, global", _gmd(scope="global")),
    Way("DDP, global, `outputs`", _gmd(scope="global"), outputs=True),
    Way("DDP, global, `every=8`, between", _gmd(scope="global", every=8), step=1),
    Way("FSDP2, mean loss", sharded=True),
    Way("FSDP2, global", _gmd(scope="global"), sharded=True),
    Way("FSDP2, global, `every=8`, between", _gmd(scope="global", every=8), step=1, sharded=True),
)


class Traffic(TorchDispatchMode):
    """Sees collectives, and the numbers in the largest buffer of each.

    CommDebugMode counts them too, but not their sizes; and its hooks on modules would be in the way of a forward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            sizes = [tensor.numel() for tensor in _tensors_of(args)]
            self.found.append((func.overloadpacket.__name__, max(sizes, default=0)))
        return func(*args, **(kwargs or {}))


def _tensors_of(arguments: Any) -> list[Tensor]:
    if isinstance(arguments, Tensor):
        return [arguments]
    if isinstance(arguments, list | tuple):
        return [tensor for argument in arguments for tensor in _tensors_of(argument)]
    return []


def row_of(name: str, found: list[tuple[str, int]], num_parameters: int) -> dict[str, object]:
    """Returns a row: how often each kind was called, and what was sent in multiples of the parameters' numbers."""
    kinds = {"reduce_scatter": 1, "allgather": 1, "allreduce": 2, "all_gather": 1, "all_reduce": 2}
    row: dict[str, object] = {"way": name, "reduce-scatter": 0, "all-gather": 0, "all-reduce": 0, "small": 0}
    sent = 0
    for called, size in found:
        kind = next((kind for kind in kinds if kind in called), None)
        sent += kinds.get(kind or "", 1) * size
        if kind is None or size < SMALL * num_parameters:
            row["small"] += 1  # type: ignore[operator]
        else:
            title = {"allgather": "all-gather", "allreduce": "all-reduce"}.get(kind, kind.replace("_", "-"))
            row[title] += 1  # type: ignore[operator]
    return row | {"buffers": sent / num_parameters}


def count(way: Way) -> dict[str, object]:
    """Returns the row of one step, after others that settle what is done once."""
    model = Network()
    num_parameters = sum(param.numel() for param in model.parameters())
    network = _sharded(model) if way.sharded else DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    method = way.make(optimizer, network) if way.make else None
    target = torch.ones(4, 1)
    x = {name: torch.randn(4, WIDTH) for name in MODALITIES}
    for _ in range(9 + way.step):  # the ninth takes weights, every way
        with Traffic() as traffic:
            outputs, values = network(x)
            losses = [(value - target).square().mean() for value in values]
            in_forward = len(traffic.found)
            with CommDebugMode() as counted:
                if method is None:
                    torch.stack(losses).mean().backward()
                else:
                    method.backward(losses, outputs if way.outputs else None)
        assert counted.get_total_counts() == len(traffic.found) - in_forward, "what torch has counted was seen"
        optimizer.step()
        optimizer.zero_grad()
    return row_of(way.name, traffic.found, num_parameters)


def _sharded(model: Network) -> nn.Module:
    """Returns the network in UNITS units of FSDP2: each encoder, and what is left."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for encoder in model.encoders.values():
        fully_shard(encoder, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=60))
    rows = [count(way) for way in WAYS]
    dist.destroy_process_group()
    if rank == 0:
        torch.save(rows, f"{folder}/rows.pt")


def measure_collectives() -> list[dict[str, object]]:
    """Returns a row for each way, from two processes that are started for it."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_process, (folder,), nprocs=PROCESSES)
        return torch.load(Path(folder) / "rows.pt")


if __name__ == "__main__":
    print(write_csv(FILE, measure_collectives(), host_columns()))
