"""Sends small tables of numbers from the host to a device, without waiting for the device."""

import torch
from torch import Tensor

from gmd_kernels.gradients import _C

_captured: list[Tensor] = []  # what CUDA graphs copy at every replay: for good, as nothing tells when a graph is gone


def upload(here: Tensor, device: torch.device) -> Tensor:
    """Returns a copy on the device of a contiguous int64 or float64 tensor on the CPU.

    Inside torch.compile this is a plain copy, which does wait.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return here.to(device)
    if _C is not None and hasattr(_C, "upload"):
        return _C.upload(here.view(torch.int64), device).view(here.dtype)
    # torch gives pinned memory to another only when the copies out of it are done: it notes the stream of each
    pinned = here.pin_memory()
    there = pinned.to(device, non_blocking=True)
    if torch.cuda.is_current_stream_capturing():
        _captured.extend((pinned, there))
    return there
