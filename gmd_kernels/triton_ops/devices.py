"""Facts about the device that kernels are launched on."""

from contextlib import AbstractContextManager, nullcontext

import torch


def multiprocessors(device: torch.device) -> int:
    """Returns how many multiprocessors a GPU has; 1 for the CPU, where Triton's interpreter runs."""
    return 1 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count


def on(device: torch.device) -> AbstractContextManager[None]:
    """Returns a context in which the device is the current one, as Triton launches on that."""
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)
