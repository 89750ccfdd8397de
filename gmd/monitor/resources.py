"""What a training runs on, and how much memory it takes, for its records and for those who run out of memory."""

import os
import platform
import resource
import sys
from pathlib import Path

import torch

from gmd.memory_limit import memory_of_machine

MB = 1e6


def device_name(device: torch.device) -> str:
    """Returns the name of the GPU or the processor, for people to read."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({processor_name()}, {os.cpu_count()} cores)"


def processor_name() -> str:
    """Returns the processor's model, or its architecture where the model is not known."""
    # what Python's platform knows of a processor under Linux is its architecture
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def reset_peak_memory(device: torch.device) -> None:
    """Forgets what was taken on a GPU before, by another training in this process, say. A CPU's peak stays."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float:
    """Returns the most memory so far, in MB (10^6 bytes): on a GPU what torch allocated, else all of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MB
    status = Path("/proc/self/status")
    if status.exists():  # getrusage knows under Linux also what the process that started this one had taken
        peak = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB


def total_memory(device: torch.device) -> float:
    """Returns how much memory there is, in MB (10^6 bytes): the GPU's, or what `memory_of_machine` says."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / MB
    return memory_of_machine() / MB
