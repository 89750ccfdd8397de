"""Memory and time of a surgery on a transformer of 100 million parameters: what T gradients take, and what sketches.

`python -m bench.measure.one_gradient NAME SIZE` measures one way of making the gradient, in a process of its own, and
prints its row as JSON: what another way has left in malloc's hands would hide in resident memory.

Each loss is of an output of its own, behind one encoder that all share. Memory is the peak of the backward pass beyond
what is there when the forward pass is done: parameters, AdamW's two moments and the graph. So the graph, which all hold
alike, does not count; what a way makes of its own for its passes does. It is taken twice, in two steps: by what torch
allocates, and by what the system holds for the process, which has pages of the libraries' own too.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import gmd
from bench.measure.autogram import Autogram
from bench.measure.memory import allocated_peak, with_peak_memory
from bench.measure.timing import seconds
from gmd.surgery import MeanGradient

T, SKETCH = 4, 65536
JOINT, KEPT, SKETCHES = "joint", "gmd, gradients kept", "gmd, sketches"
AUTOJAC, AUTOGRAM = "TorchJD's autojac", "TorchJD's autogram"


class Size(NamedTuple):
    """Width and layers of the encoder, tokens in each sequence, sequences in a batch, and how many steps are timed."""

    width: int
    layers: int
    tokens: int
    batch: int
    steps: int


SIZES = {"100M": Size(1024, 8, 16, 2, 7), "quick": Size(64, 2, 8, 2, 1)}


class Block(nn.Module):
    """A layer of a transformer, of linear layers that TorchJD's autogram knows."""

    def __init__(self, width: int):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attention(self.before(x)).unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        found = (q @ k.mT / 8).softmax(dim=-1) @ v
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.down(torch.nn.functional.gelu(self.up(self.between(x))))


class Encoder(nn.Module):
    """Some blocks, and a head with an output for each of T objectives."""

    def __init__(self, size: Size):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(size.width) for _ in range(size.layers)))
        self.head = nn.Linear(size.width, T)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(dim=1))


def jacobian(losses: list[Tensor], network: Encoder) -> None:
    """Adds the combined gradient by TorchJD's Jacobians."""
    from torchjd.aggregation import PCGrad
    from torchjd.autojac import backward, jac_to_grad

    backward(losses, parallel_chunk_size=1)  # one pass after the other: the frugal way
    jac_to_grad(network.parameters(), PCGrad(), optimize_gramian_computation=True)


def ways(network: Encoder, optimizer: torch.optim.Optimizer, name: str) -> Callable[[list[Tensor]], object]:
    """Returns a function of the losses that puts the combined gradient into `.grad`."""
    made: dict[str, Callable[[], Callable[[list[Tensor]], object]]] = {
        JOINT: lambda: MeanGradient(optimizer).backward,
        KEPT: lambda: gmd.GMD(optimizer).backward,
        SKETCHES: lambda: gmd.GMD(optimizer, keep="sketches", sketch_size=SKETCH).backward,
        AUTOJAC: lambda: partial(jacobian, network=network),
        AUTOGRAM: lambda: Autogram(network).backward,
    }
    return made[name]()


NAMES = (JOINT, KEPT, SKETCHES, AUTOJAC, AUTOGRAM)


def measure_one(name: str, size: Size) -> dict[str, Any]:
    """Returns the row of one way; the first step is neither timed nor weighed."""
    torch.manual_seed(0)
    network = Encoder(size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    backward = ways(network, optimizer, name)
    number = sum(param.numel() for param in network.parameters())
    times: list[float] = []
    resident, allocated = None, 0.0
    for step in range(size.steps + 3):
        x = torch.randn(size.batch, size.tokens, size.width, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        gc.collect()
        losses = [(output - (-1.0) ** k).square().mean() for k, output in enumerate(network(x).unbind(dim=1))]
        call = partial(backward, losses)
        if step == 0:
            call()
        elif step == 1:
            _, resident = with_peak_memory(call)
        elif step == 2:
            allocated = allocated_peak(call)
        else:
            times.append(seconds(call))
        del call
        del losses
        optimizer.step()
    gradient = 4e-6 * number
    row: dict[str, Any] = {"contestant": name, "parameters": number, "T": T, "gradient_MB": gradient}
    row |= {"allocated_MB": allocated, "gradients": allocated / gradient, "peak_MB": resident}
    row |= {"bound_MB": gradient + 4e-6 * T * SKETCH} if name == SKETCHES else {}
    return row | {"median_ms": 1e3 * median(times), "calls": size.steps}


def measure_one_gradient(size: str, on_row: Callable[[], object]) -> list[dict]:
    """Returns a row for each way, with its time in units of joint training's; an error in place of what fails."""
    rows: list[dict] = []
    for name in NAMES:
        done = subprocess.run([sys.executable, "-m", __name__, name, size], capture_output=True, text=True, check=False)
        failed = {"contestant": name, "error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
        rows.append({"case": size, "error": "", **json.loads(done.stdout)} if done.returncode == 0 else failed)
        on_row()
    [joint] = [row["median_ms"] for row in rows if row["contestant"] == JOINT and "median_ms" in row]
    return [row | ({"of_joint": row["median_ms"] / joint} if "median_ms" in row else {}) for row in rows]


if __name__ == "__main__":
    print(json.dumps(measure_one(sys.argv[1], SIZES[sys.argv[2]])))
