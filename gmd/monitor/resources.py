"""What a training runs on, and how much memory it takes: for `metrics.jsonl`, and for those who run out of it."""

import os
import platform
import resource
import sys
from pathlib import Path

import torch

MB = 1e6


def device_name(device: torch.device) -> str:
    """For people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({processor_name()}, {os.cpu_count()} cores)"


def processor_name() -> str:
    # what Python's platform knows of a processor under Linux is its architecture
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def reset_peak_memory(device: torch.device) -> None:
    """Of a GPU: what another training in this process has taken there is not this one's. A CPU's cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float:
    """MB (10^6 bytes): of this process in the machine's memory, or on a GPU of what torch has allocated there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MB
    status = Path("/proc/self/status")
    if status.exists():  # getrusage knows under Linux also what the process that started this one had taken
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB


def total_memory(device: torch.device) -> float:
    """MB that there are: of the GPU, or of the machine or the limit (ulimit -v) that was set for this process."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / MB
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return (machine if limit == resource.RLIM_INFINITY else min(machine, limit)) / MB
