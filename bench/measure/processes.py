"""A training step in several processes: surgery on each one's own batch beside surgery on all of them, `scope`.

The processes are on this machine and talk over loopback by gloo. The two scopes take turns in the same processes, so
that their ratio is of one run; values are checked before any time counts.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gmd
from bench.measure.memory import allocated_peak
from bench.measure.timing import summary
from bench.measure.traffic import Traffic
from gmd.subsets import all_subsets

PROCESSES = (1, 2, 4)
MODALITIES = ("a", "b", "c", "d")
SUBSETS = all_subsets(MODALITIES)  # T = 15
WIDTH, LAYERS, TOKENS = 256, 4, 16  # N = 3.2e6
SAMPLES = 4  # of each process
LOCAL, GLOBAL = "local", "global"
TOLERANCE = 1e-4  # relative, in norm, of float32 gradients beside those that one process finds
TIMEOUT = timedelta(minutes=5)
PEAKS = 4


class Encoder(nn.Module):
    """A transformer that all modalities share, and a head; returns the loss of every subset."""

    def __init__(self, width: int = WIDTH, layers: int = LAYERS):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Returns [T] losses. x: [n, M, tokens, width]; y: [n, 1]."""
        outputs = {m: self.encoder(x[:, i]).mean(dim=1) for i, m in enumerate(MODALITIES)}
        fused = [torch.stack([outputs[m] for m in subset]).mean(dim=0) for subset in SUBSETS]
        return [
            (self.head(value) - (1 + len(subset)) * y).square().mean()
            for subset, value in zip(SUBSETS, fused, strict=True)
        ]


def batch(rank: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns a process's batch."""
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(SAMPLES, len(MODALITIES), TOKENS, width, generator=generator)
    return x, torch.randn(SAMPLES, 1, generator=generator)


def backward(network: nn.Module, scope: str, x: Tensor, y: Tensor) -> list[Tensor]:
    """Makes one step's surgery, without the optimizer's own; returns the merged gradients."""
    network.zero_grad()
    surgeon = gmd.GMD(
        torch.optim.SGD(network.parameters(), lr=0.1), generator=torch.Generator().manual_seed(1), scope=scope
    )
    surgeon.backward(network(x, y))
    return [param.grad for param in network.parameters() if param.grad is not None]


def expected(scope: str, world: int, width: int, layers: int) -> list[Tensor]:
    """Returns what one process finds: on all batches together, or in the mean of its results on each."""
    batches = [batch(rank, width) for rank in range(world)]
    if scope == GLOBAL:
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return backward(Encoder(width, layers), LOCAL, x, y)
    found = [backward(Encoder(width, layers), LOCAL, x, y) for x, y in batches]
    return [torch.stack(grads).mean(dim=0) for grads in zip(*found, strict=True)]


def measure_processes(
    rounds: int, on_round: Callable[[], object], width: int = WIDTH, layers: int = LAYERS
) -> list[dict]:
    """Returns a row for each number of processes and each scope."""
    rows = []
    for world in PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(_work, (world, rounds, width, layers, folder), nprocs=world)
            rows += json.loads((Path(folder) / "rows.json").read_text(encoding="utf-8"))
        on_round()
    return rows


def _work(rank: int, world: int, rounds: int, width: int, layers: int, folder: str) -> None:
    """Measures in one of the processes; the first one writes what it found."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    right = {scope: expected(scope, world, width, layers) for scope in (LOCAL, GLOBAL)} if rank == 0 else {}
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=TIMEOUT)
    steps = {scope: _step(scope, rank, width, layers) for scope in (LOCAL, GLOBAL)}
    found = {scope: step() for scope, step in steps.items()}
    errors = {scope: distance(found[scope], right[scope]) if right else 0.0 for scope in steps}
    times = _times(steps, rounds)
    size = sum(param.numel() for param in Encoder(width, layers).parameters())
    rows = []
    for scope, step in steps.items():
        with Traffic(world) as traffic:
            step()
        row: dict[str, Any] = {
            "case": f"{world} processes",
            "contestant": scope,
            "processes": world,
            "T": len(SUBSETS),
            "N": size,
        }
        row |= {"value_error": errors[scope], "error": "" if errors[scope] <= TOLERANCE else "wrong gradients"}
        row |= summary(times[scope]) | {"ratio_to_local": _ratio(times, scope)}
        row |= {"big": sum(traffic.big.values()), "small": sum(traffic.small.values())}
        rows.append(row | {"sent_MB": traffic.sent / 1e6, "peak_MB": _peak(scope, rank, width, layers)})
    if rank == 0:
        text = json.dumps(rows, default=float)
        (Path(folder) / "rows.json").write_text(text, encoding="utf-8")
    dist.destroy_process_group()


def _times(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds of the steps, which take turns, from when all processes begin until all are done."""
    times: dict[str, list[float]] = {scope: [] for scope in steps}
    for _ in range(rounds):
        for scope, step in steps.items():
            dist.barrier()
            start = perf_counter()
            step()
            dist.barrier()
            times[scope].append(1e3 * (perf_counter() - start))
    return times


def _step(scope: str, rank: int, width: int, layers: int) -> Callable[[], list[Tensor]]:
    """Returns a function that makes a step on this process's batch."""
    network = DistributedDataParallel(Encoder(width, layers))
    x, y = batch(rank, width)
    order = torch.Generator()
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), generator=order, scope=scope)

    def step() -> list[Tensor]:
        network.zero_grad()
        order.manual_seed(1)
        surgeon.backward(network(x, y))
        return [param.grad for param in network.parameters() if param.grad is not None]

    return step


def _peak(scope: str, rank: int, width: int, layers: int) -> float:
    """Returns the MB that torch allocates at most in a `backward` after the first, beyond the network and its graph.

    The least of several: what gloo's own threads free is not seen, when they happen to be the last to hold it.
    """
    network = DistributedDataParallel(Encoder(width, layers))
    x, y = batch(rank, width)
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), scope=scope)
    surgeon.backward(network(x, y))
    peaks = []
    for _ in range(PEAKS):
        network.zero_grad()
        losses = network(x, y)
        peaks.append(allocated_peak(partial(surgeon.backward, losses)))
    return min(peaks)


def _ratio(times: dict[str, list[float]], scope: str) -> float:
    """Returns the median of the rounds' ratios to surgery on each process's own batch."""
    ratios = torch.tensor(times[scope]) / torch.tensor(times[LOCAL])
    return float(ratios.median())


def distance(found: list[Tensor], right: list[Tensor]) -> float:
    """Returns the relative distance of gradients, in norm over all parameters."""
    off = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, right, strict=True))
    return (off / sum(float(b.double().square().sum()) for b in right)) ** 0.5
