"""Time, memory and bandwidth."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from bench.contestants import Contestant

ROUNDS = 7
SLOW_MS = 1000.0  # a contestant slower than this takes part in every third round only
FAST_MS = 20.0  # a faster one is run several times within a round
MOST_REPEATS = 10
BANDWIDTH_TRIES = 2  # per sample
ROW = 4096  # floats: one row of the matrix that `torch.mv` reads

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
            if expected > SLOW_MS and turn % 3:
                continue
            repeats = min(MOST_REPEATS, max(1, round(FAST_MS / expected)))
            times[contestant.name] += [milliseconds(contestant) for _ in range(repeats)]
        on_round()
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median and 20th and 80th percentiles, and of how many calls."""
    p20, median, p80 = np.percentile(times, [20, 50, 80])
    return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "calls": len(times)}


def with_peak_memory(contestant: Contestant) -> tuple[object, float | None]:
    """The result of one call, and the MB by which this process's resident memory peaked above its level before.

    Linux keeps the peak (VmHWM) and resets it on request (/proc/self/clear_refs); None where it does not.
    What malloc holds but does not use goes back to the system first, or later allocations would not show.
    """
    contestant.prepare()
    if not _CLEAR_REFS.exists():
        return contestant.call(), None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    _CLEAR_REFS.write_text("5")
    before = _status_megabytes("VmRSS")
    result = contestant.call()
    return result, max(0.0, _status_megabytes("VmHWM") - before)


def _status_megabytes(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6


class Bandwidth:
    """GB/s of reading and of copying float32 in one piece of memory: the best of all samples, the first one taken here.

    Reading is `torch.sum`, `torch.dot` (of the two halves) and `torch.mv` (with a vector that stays in the cache):
    different code, so that memory is what limits the fastest. Copying, half to half, counts both ways.
    """

    def __init__(self, num_floats: int):
        rows = max(2, num_floats // (2 * ROW) * 2)
        self._matrix, self._vector = torch.ones(rows, ROW), torch.ones(ROW)
        self._read_seconds = self._copy_seconds = float("inf")
        self.sample()

    def sample(self) -> None:
        first, second = self._matrix.view(2, -1)
        reads = (self._matrix.sum, lambda: torch.dot(first, second), lambda: torch.mv(self._matrix, self._vector))
        for _ in range(BANDWIDTH_TRIES):
            self._read_seconds = min(self._read_seconds, *map(_seconds, reads))
            self._copy_seconds = min(self._copy_seconds, _seconds(lambda: second.copy_(first)))

    def best(self) -> dict[str, float]:
        gigabytes = 4e-9 * self._matrix.numel()
        return {"read_GBps": gigabytes / self._read_seconds, "copy_GBps": gigabytes / self._copy_seconds}


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def floor_ms(passes: int, num_elements: int, read_gbps: float) -> float:
    """The time that moving `passes` times N float32 takes at the measured read bandwidth; for surgery passes = 2T+1."""
    return 1e3 * passes * 4 * num_elements / (1e9 * read_gbps)
