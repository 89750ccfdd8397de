"""Which of this package's kernels a call launches, as torch's profiler sees it."""

import re
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_OURS = re.compile(r"gmd::cuda::(?:\(anonymous namespace\)::|_GLOBAL__N__\w+::)?(\w+)")


def on_device(call: Callable[[], object]) -> list[str]:
    """Returns the names of all that a call has the GPU do, copies too, in their order; none where nothing is seen."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    events = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
    return [event.name for event in sorted(events, key=lambda event: event.time_range.start)]


def launched(call: Callable[[], object]) -> list[str]:
    """Returns the names of our CUDA kernels in the order of their launches."""
    return ours(on_device(call))


def ours(names: list[str]) -> list[str]:
    """Returns the names of our kernels among all, without their namespaces and arguments."""
    return [found[1] for found in map(_OURS.search, names) if found]
