"""Prints as JSON what one call of each op launches on Triton's way: its kernels, and torch's own operations.

A program of its own: where Triton's interpreter is on, as in the tests, nothing is launched. No GPU is needed; launches
do nothing (bench/measure/triton_without_launches.py).
"""

import json
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

import gmd_kernels as gk
from bench.measure import triton_without_launches
from bench.measure.norm_host import Arguments, ours

# operations of torch's that are kernels or copies on a GPU
LAUNCHING = {f"aten::{name}" for name in ("fill_", "zero_", "copy_", "sum", "add_", "mul_", "cat", "arange")}


def launched(call: Callable[[], object]) -> dict[str, list[str]]:
    """Of the second of two calls: what is kept from call to call is there."""
    call()
    kernels: list[str] = []
    run = triton_without_launches.NoKernel.run
    triton_without_launches.NoKernel.run = lambda self, *arguments: kernels.append(self.name)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    triton_without_launches.NoKernel.run = run
    return {"triton": kernels, "torch": sorted(event.name for event in seen.events() if event.name in LAUNCHING)}


def main() -> None:
    given, eye = Arguments(1), torch.eye(64)
    grad, mean_input, gradient = torch.randn(10, 64), torch.randn(64), [torch.randn(70, 90), None, torch.randn(33)]
    sketch = torch.zeros(128)
    with triton_without_launches.through_triton():
        y = ours(given.x, *given.tables)
        found = {
            "owm_update_": launched(lambda: gk.owm_update_(eye, grad, mean_input, 1.0)),
            "sketch_": launched(lambda: gk.sketch_(sketch, gradient, 3)),
            "norm": launched(lambda: ours(given.x.detach(), *given.tables)),
            "norm, backward": launched(lambda: torch.autograd.grad(y, given.x, given.grad, retain_graph=True)),
        }
    found["norm in C++"] = ours(given.x, *given.tables).grad_fn.name()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
