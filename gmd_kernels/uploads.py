"""Numbers from the host to a device, without waiting for it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import _C

_captured: list[Tensor] = []  # what CUDA graphs copy at every replay: for good, as nothing tells when a graph is gone


def upload(numbers: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """int64, of the shape that the lists have."""
    if device.type != "cuda" or torch.compiler.is_compiling():
        return torch.tensor(numbers, dtype=torch.int64, device=device)
    here = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    if hasattr(_C, "upload"):
        return _C.upload(here, device)
    # torch gives pinned memory to another only when the copies out of it are done: it notes the stream of each
    pinned = here.pin_memory()
    there = pinned.to(device, non_blocking=True)
    if torch.cuda.is_current_stream_capturing():
        _captured.extend((pinned, there))
    return there
