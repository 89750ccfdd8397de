"""What the host has to know of the device that it launches on."""

from contextlib import AbstractContextManager, nullcontext

import torch


def multiprocessors(device: torch.device) -> int:
    return 1 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count


def on(device: torch.device) -> AbstractContextManager:
    """Triton launches on the current device."""
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)
