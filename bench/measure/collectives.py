"""`python -m bench.measure.collectives`: the collectives of a step on two processes, counted by torch's CommDebugMode.

Counts depend on the way of training, on the number of objectives, and under FSDP2 on that of units. What a process
sends and receives is that of ring algorithms: each buffer once for a reduce-scatter or an all-gather, twice for an
all-reduce, times (R - 1) / R on R processes.
"""

import tempfile
from collections.abc import Callable
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

import gmd
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from bench.measure.traffic import Traffic
from gmd.subsets import all_subsets
from gmd.surgery.mean import MeanGradient

PROCESSES = 2
MODALITIES = ("text", "audio", "video")
WIDTH = 128
# over gloo, an all-to-all and a sum are what scatters a gradient over replicated parameters
KINDS = {
    "reduce-scatter": ("reduce_scatter", "alltoall"),
    "all-gather": ("allgather",),
    "all-reduce": ("allreduce",),
}
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
    Way("FSDP2, global, `outputs`", _gmd(scope="global"), outputs=True, sharded=True),
    Way("FSDP2, global, `every=8`, between", _gmd(scope="global", every=8), step=1, sharded=True),
)


def row_of(name: str, traffic: Traffic, num_bytes: int) -> dict[str, object]:
    """Returns a row: how often each kind was called, and what a process sends for it.

    num_bytes: of the parameters, which the bytes that are sent are told in, without (R - 1) / R
    """
    of_kinds = {title: sum(traffic.big[one] for one in called) for title, called in KINDS.items()}
    sent = traffic.sent / num_bytes * PROCESSES / (PROCESSES - 1)
    return {"way": name} | of_kinds | {"small": sum(traffic.small.values()), "sent": sent}


def count(way: Way) -> dict[str, object]:
    """Returns the row of one step, after others that settle what is done once."""
    model = Network()
    num_bytes = sum(param.nbytes for param in model.parameters())
    network = _sharded(model) if way.sharded else DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    method = way.make(optimizer, network) if way.make else None
    target = torch.ones(4, 1)
    x = {name: torch.randn(4, WIDTH) for name in MODALITIES}
    for _ in range(9 + way.step):  # the ninth takes weights, every way
        with Traffic(PROCESSES) as traffic:
            outputs, values = network(x)
            losses = [(value - target).square().mean() for value in values]
            in_forward = _called(traffic)
            with CommDebugMode() as counted:
                if method is None:
                    torch.stack(losses).mean().backward()
                else:
                    method.backward(losses, outputs if way.outputs else None)
        assert counted.get_total_counts() == _called(traffic) - in_forward, "what torch has counted was seen"
        optimizer.step()
        optimizer.zero_grad()
    return row_of(way.name, traffic, num_bytes)


def _called(traffic: Traffic) -> int:
    return sum(traffic.big.values()) + sum(traffic.small.values())


def _sharded(model: Network) -> nn.Module:
    """Returns the network in four units of FSDP2: each encoder, and what is left."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for encoder in model.encoders.values():
        fully_shard(encoder, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


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
