"""The type that the network computes in. Losses, parameters and the optimizer stay float32, the Gramian float64."""

from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F

Precision = Literal["fp32", "bf16", "fp16"]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRIES = 3


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Makes the forward pass compute in `precision`; the backward pass takes the types that the forward pass took."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, TYPES[precision])


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler | None:
    """Returns the losses' scaler for fp16, whose least number is 6e-8; None for other types, which reach 1e-38."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def slowness(precision: Precision, device: torch.device) -> str | None:
    """Returns a sentence for the user if a smaller type makes this CPU slower, for want of instructions for it.

    None where it does not, for fp32, and on other devices. The speed is measured, since torch says of few processors
    what they can do, and of none how fast.
    """
    if precision == "fp32" or device.type != "cpu":
        return None
    factor = convolution_time(TYPES[precision]) / convolution_time(torch.float32)
    if factor <= 1:
        return None
    return f"{precision} is slow on this CPU: a convolution takes {factor:.1f} times as long as in fp32 (measured)"


def convolution_time(dtype: torch.dtype) -> float:
    """Measures a convolution such as the U-Net's on the CPU: the seconds of its fastest run of three."""
    x = torch.ones(2, 16, 16, 16, 16, dtype=dtype).to(memory_format=torch.channels_last_3d)
    weight = torch.ones(16, 16, 3, 3, 3, dtype=dtype)
    times = []
    for _ in range(1 + TRIES):
        start = perf_counter()
        F.conv3d(x, weight, padding=1)
        times.append(perf_counter() - start)
    return min(times[1:])  # the first one loads what is loaded on first use
