"""Prints, for each of CASES, the MB that gram and combine take beyond gradients and results; run by test_kernel_memory.

A process of its own, since it resets what Linux knows of the peak of its memory.
"""

import ctypes
import json
from collections.abc import Callable
from pathlib import Path

import torch

import gmd_kernels as gk
from helpers.kernel_cases import LAYOUTS

AGREE, DISAGREE = ("contiguous",), ("contiguous", "channels_last")
# objectives, shape, type, layouts, scale of the weights
CASES = {
    "float32": (8, (8_000_000,), torch.float32, AGREE, 1.0),
    "bfloat16": (8, (8_000_000,), torch.bfloat16, AGREE, 1.0),
    "layouts that disagree": (8, (64, 32, 4_000), torch.float32, DISAGREE, 1.0),
    "64 objectives": (64, (1_000_000,), torch.float32, AGREE, 1.0),
    "64 objectives that disagree": (64, (50, 40, 500), torch.float64, DISAGREE, 1.0),
    "weights beyond float32": (64, (1_000_000,), torch.float16, AGREE, 1e-42),
}


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1]) * 1024 / 1e6


def extra(call: Callable[[], object]) -> float:
    """MB by which resident memory peaks above its level before, in the second call: the first one starts threads."""
    call()
    ctypes.CDLL(None).malloc_trim(0)  # what malloc holds but does not use would hide an allocation
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def measure(
    num_objectives: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layouts: tuple[str, ...],
    scale: float,
    num_params: int = 1,
) -> dict[str, float]:
    """With a group for each parameter."""
    places = [LAYOUTS[layouts[k % len(layouts)]] for k in range(num_objectives)]
    grads = [[place(torch.ones(shape, dtype=dtype)) for _ in range(num_params)] for place in places]
    weights = scale * torch.linspace(-1, 1, num_objectives, dtype=torch.float64)
    out = [torch.zeros(shape, dtype=dtype) for _ in range(num_params)]
    result = 8e-6 * num_params * num_objectives**2
    return {
        "gram": extra(lambda: gk.gram(grads, range(num_params))) - result,
        "combine": extra(lambda: gk.combine(grads, weights, out=out)),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    results = {name: measure(*case) for name, case in CASES.items()}
    results["many tensors"] = measure(15, (200,), torch.float32, AGREE, 1.0, num_params=1000)
    results["two megabytes"] = {"sum": extra(lambda: torch.ones(500_000).sum())}
    print(json.dumps(results))
