"""What the host does for one call of group_norm_relu, each way.

There is no GPU in it. The way through C++ is called with an empty batch on the CPU: all that the host does for a call
on a GPU but what it asks of CUDA (two launches each way, four pieces of memory, the device and the stream), which
nothing here can tell. The way through Triton is called with a small tensor on the CPU and a driver that launches
nothing: all of its Python, without the launches themselves. PyTorch's operations compute, on the CPU, 128 numbers.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

import gmd_kernels as gk
from bench.measure.timing import seconds, summary

CHANNELS, GROUPS, SIDE = 16, 8, 2
# Norms one after the other; a node of a backward pass is what they differ by. Few, or other programs come in between.
SHORT, LONG = 1, 5
ROUNDS, CALLS = 20, 25  # of these, a contestant has so many in each round
OURS, SMALL = "C++, kernels left out", "C++, 128 numbers on the CPU"
TRITON, PYTORCH = "Triton, launches left out", "PyTorch, 128 numbers on the CPU"
WAYS = {OURS: 0, SMALL: 1, TRITON: 1, PYTORCH: 1}  # and the batch
UNGRADED, RECORDED, BACKWARD = "forward", "forward, recorded", "backward"


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Runs the fused norm, by whichever way."""
    return gk.group_norm_relu(x, weight, bias, GROUPS)


def pytorch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Runs PyTorch's two operations."""
    return F.relu(F.group_norm(x, GROUPS, weight[0], bias[0]))


class Arguments:
    """Small tensors, of which x wants a gradient."""

    def __init__(self, batch: int):
        self.x = torch.randn(batch, CHANNELS, *[SIDE] * 3, requires_grad=True)
        self.tables = torch.randn(1, CHANNELS), torch.randn(1, CHANNELS)
        self.grad = torch.ones_like(self.x)

    def back(self, run: Callable[..., Tensor], length: int) -> float:
        """Returns the seconds of a backward pass through norms one after the other."""
        y = self.x
        for _ in range(length):
            y = run(y, *self.tables)
        return seconds(lambda: torch.autograd.grad(y, self.x, self.grad))


def microseconds(run: Callable[..., Tensor], given: Arguments) -> dict[str, list[float]]:
    """Returns times of each way there and back, CALLS of each."""
    call = partial(run, given.x, *given.tables)
    with torch.no_grad():
        ungraded = [1e6 * seconds(call) for _ in range(CALLS)]
    recorded = [1e6 * seconds(call) for _ in range(CALLS)]
    backward = [1e6 * (given.back(run, LONG) - given.back(run, SHORT)) / (LONG - SHORT) for _ in range(CALLS)]
    return {UNGRADED: ungraded, RECORDED: recorded, BACKWARD: backward}


def has_triton() -> bool:
    """Returns whether Triton is installed, and would launch its kernels."""
    return find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") != "1"


def through_triton() -> AbstractContextManager[None]:
    """Returns a context in which calls on the CPU go through Triton; it is loaded here, as it may not be installed."""
    from bench.measure.triton_without_launches import through_triton

    return through_triton()


def measure_norm_host(rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each way and contestant, who take turns."""
    torch.set_num_threads(1)
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(1 + rounds):
        for name, batch in WAYS.items():
            if name == TRITON and not has_triton():
                continue
            with through_triton() if name == TRITON else nullcontext():
                taken = microseconds(pytorch if name == PYTORCH else ours, Arguments(batch))
            if turn:  # the first one finds files, and compiles
                for way, found in taken.items():
                    times.setdefault((way, name), []).extend(found)
        on_round()
    rows = []
    for (way, name), found in times.items():
        of_calls = {key.replace("_ms", "_us"): value for key, value in summary(found).items()}
        rows.append({"way": way, "contestant": name, **of_calls, "error": ""})
    return rows
