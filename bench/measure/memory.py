"""How much memory one call takes: by what the system holds for the process, or by what torch allocates."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from torch._C._profiler import _ExtraFields_Allocation
from torch.profiler import ProfilerActivity, profile

Result = TypeVar("Result")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def with_peak_memory(call: Callable[[], Result]) -> tuple[Result, float | None]:
    """Returns the result of one call, and the MB by which this process's resident memory peaked above its level before.

    Linux keeps the peak (VmHWM) and resets it on request (/proc/self/clear_refs); the MB are None where it does not.
    """
    if not _CLEAR_REFS.exists():
        return call(), None
    with _fresh_pages():
        _CLEAR_REFS.write_text("5", encoding="utf-8")
        before = _status_megabytes("VmRSS")
        result = call()
        return result, max(0.0, _status_megabytes("VmHWM") - before)


def allocated_peak(call: Callable[[], object]) -> float:
    """Returns the MB that torch holds at most at once of what it has allocated during the call.

    Every allocation is counted, and the end of none that was there before: of those the profiler knows only the ones
    that were made under an earlier profile. Resident memory, as `with_peak_memory` takes it, also has what malloc keeps
    for later: megabytes that differ from call to call.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    held = most = 0
    mine: dict[int, int] = {}  # bytes, by their address
    for _, bytes_more, address in sorted(_allocations(profiled)):
        if bytes_more > 0:
            mine[address] = bytes_more
        held += bytes_more if bytes_more > 0 else -mine.pop(address, 0)
        most = max(most, held)
    return most / 1e6


def _allocations(profiled: profile) -> Iterator[tuple[int, int, int]]:
    """Yields of each allocation and of each one's end: nanoseconds, bytes, below 0 at the end, and the address."""
    assert profiled.profiler is not None
    recorded = profiled.profiler.kineto_results
    assert recorded is not None
    waiting = list(recorded.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if isinstance(event.extra_fields, _ExtraFields_Allocation):
            yield event.start_time_ns, event.extra_fields.alloc_size, event.extra_fields.ptr


@contextmanager
def _fresh_pages() -> Iterator[None]:
    """Gives each tensor pages of its own from the system, so that it shows in resident memory.

    malloc_trim alone does not do: what malloc holds unused at the end of the heap stays resident if anyone else has
    moved that end, and the next tensor would lie in it unseen. So that is taken away meanwhile. Afterwards malloc keeps
    up to its largest threshold, where its own rule ends up in a process with tensors of that size.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # not glibc, or one before 2.33
        yield
        return
    libc.mallinfo2.restype, libc.malloc.restype = _Mallinfo, ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    libc.malloc_trim(0)
    libc.mallopt(_MMAP_THRESHOLD, 2**25)
    taken: list[int] = []  # addresses
    while (unused := libc.mallinfo2().keepcost) > 2**18 and len(taken) < 1000:
        taken.append(libc.malloc(unused - 2**16))
    libc.mallopt(_MMAP_THRESHOLD, 2**16)
    try:
        yield
    finally:
        for block in taken:
            libc.free(block)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_TRIM_THRESHOLD, 2**26)


class _Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 returns; `keepcost` is what lies unused at the end of the heap."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*(f"other{i}" for i in range(9)), "keepcost"))


def _status_megabytes(field: str) -> float:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6
