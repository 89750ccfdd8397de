"""Time, memory and bandwidth."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

import gmd_kernels as gk
from bench.measure.contestants import Contestant, Work

ROUNDS = 7
SLOW_MS, SLOWEST_MS = 1000.0, 5000.0  # a slower contestant takes part in every third, or every sixth round only
FAST_MS = 60.0  # a faster one is run several times within a round
MOST_REPEATS = 20
BANDWIDTH_TRIES = 2  # per sample
ROW = 4096  # floats: one row of the matrix that `torch.mv` reads

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def milliseconds(contestant: Contestant) -> float:
    contestant.prepare()
    return 1e3 * _seconds(contestant.call)


def interleaved(contestants: Sequence[Contestant], on_round: Callable[[], object]) -> dict[str, list[float]]:
    """Milliseconds of each contestant's calls, by name. They take turns: drift of the machine hits all alike."""
    times: dict[str, list[float]] = {contestant.name: [milliseconds(contestant)] for contestant in contestants}
    first = {name: taken[0] for name, taken in times.items()}
    on_round()
    for turn in range(1, ROUNDS):
        for contestant in contestants:
            expected = first[contestant.name]
            if turn % (6 if expected > SLOWEST_MS else 3 if expected > SLOW_MS else 1):
                continue
            repeats = min(MOST_REPEATS, max(1, round(FAST_MS / expected)))
            times[contestant.name] += [milliseconds(contestant) for _ in range(repeats)]
        on_round()
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median and 20th and 80th percentiles, and of how many calls."""
    p20, median, p80 = np.percentile(times, [20, 50, 80])
    return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "calls": len(times)}


def with_peak_memory(call: Callable[[], object]) -> tuple[object, float | None]:
    """The result of one call, and the MB by which this process's resident memory peaked above its level before.

    Linux keeps the peak (VmHWM) and resets it on request (/proc/self/clear_refs); None where it does not.
    """
    if not _CLEAR_REFS.exists():
        return call(), None
    with _fresh_pages():
        _CLEAR_REFS.write_text("5")
        before = _status_megabytes("VmRSS")
        result = call()
        return result, max(0.0, _status_megabytes("VmHWM") - before)


@contextmanager
def _fresh_pages() -> Iterator[None]:
    """Each tensor gets pages of its own from the system, so that it shows in resident memory.

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
    taken = []
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
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6


class Bandwidth:
    """GB/s of reading and of copying in one buffer, medians as everything else here; the first sample is taken here.

    A floor is only as good as the code that finds it, so each is that of the fastest of several: torch, numpy, and our
    own kernels given one gradient. Reading: `torch.sum`, `torch.dot` of the two halves, `torch.mv` with a vector that
    stays in the cache, `gk.gram`. Copying, half to half, counts both ways: `Tensor.copy_`, memcpy, `gk.combine`.

    Args:
        num_bytes: as many as the gradients that the floor is for: both then meet the caches alike.
    """

    def __init__(self, num_bytes: int):
        rows = max(2, num_bytes // (4 * 2 * ROW) * 2)
        self._matrix, self._vector = torch.ones(rows, ROW), torch.ones(ROW)
        self._read_seconds: list[list[float]] = []  # [sample][code]
        self._copy_seconds: list[list[float]] = []
        self.sample()

    def sample(self) -> None:
        matrix, (first, second) = self._matrix, self._matrix.view(2, -1)
        one = torch.ones(1)
        reads = (
            matrix.sum,
            lambda: torch.dot(first, second),
            lambda: torch.mv(matrix, self._vector),
            lambda: gk.gram([[matrix]]),
        )
        copies = (
            lambda: second.copy_(first),
            lambda: np.copyto(second.numpy(), first.numpy()),
            lambda: gk.combine([[first]], one, out=[second]),
        )
        for _ in range(BANDWIDTH_TRIES):
            self._read_seconds.append(list(map(_seconds, reads)))
            self._copy_seconds.append(list(map(_seconds, copies)))

    def of_the_fastest(self) -> dict[str, float]:
        """Of all samples so far: of each code the median, of these the best."""
        gigabytes = 4e-9 * self._matrix.numel()
        seconds = {"read_GBps": self._read_seconds, "copy_GBps": self._copy_seconds}
        return {name: gigabytes / np.median(samples, axis=0).min() for name, samples in seconds.items()}


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def floor_ms(work: Work, num_bytes: int, read_gbps: float, copy_gbps: float) -> float:
    """The time that `work` takes at the measured bandwidths, `num_bytes` being those of N elements."""
    return 1e-6 * num_bytes * (work.reads / read_gbps + 2 * work.copies / copy_gbps)
