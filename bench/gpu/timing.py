"""Measures a case on a GPU: values first, then memory, then the time of the device and of the host."""

import warnings
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
import torch

import gmd_kernels as gk
from bench.gpu.contestants import Contestants, gpu_contestants
from bench.measure.bandwidth import floor_ms
from bench.measure.cases import Case
from bench.measure.contestants import OURS, Contestant, Work
from bench.measure.oracle import conflict_rate, exact_gram
from bench.measure.timing import summary
from gpu.launches import on_device

SECONDS_EACH = 0.2  # of calls of one contestant
FEWEST, MOST = 5, 50  # calls
HOST_CALLS = 9
COPIES = 20
COPIED = 2**30  # bytes: far beyond any cache
CYCLES_PER_SECOND = 2e9  # of a multiprocessor, or somewhat less
LONGEST_SLEEP = 5e-3  # seconds: peers wait for the device in the middle of a call, which no sleep before it spares them
SMALLEST_ONE_PASS_MS = 0.016  # the target for one pass is 1.25 times its time or 0.020 ms, whichever is larger

UNMEASURED = dict.fromkeys(
    (
        *("peak_extra_MB", "beyond_result_MB", "value_error", "median_ms", "p20_ms", "p80_ms", "calls", "host_ms"),
        *("warm_ms", "fraction_of_floor", "over_one_pass", "ratio_to_ours"),
    ),
    float("nan"),
)


class Clock(Protocol):
    """Measures time, memory and bandwidth; the tests have one that needs no GPU."""

    def copy_gbps(self) -> float: ...
    def with_peak_memory(self, call: Callable[[], object]) -> tuple[object, float]: ...
    def times(self, contestant: Contestant) -> dict[str, float]: ...
    def warm_ms(self, contestant: Contestant) -> float: ...
    def launches(self, call: Callable[[], object]) -> float: ...


class GpuClock:
    """Measures on the current GPU. Its caches hold nothing of a call's gradients when the call begins."""

    def __init__(self):
        self._source = torch.empty(COPIED // 4, device="cuda").normal_()
        self._target = torch.empty_like(self._source)
        # read before each call: what was written would be written back at the call's expense
        self._flushing = self._source[: torch.cuda.get_device_properties().L2_cache_size]  # four times as many bytes

    def copy_gbps(self) -> float:
        """Returns the bandwidth of a copy on the device, counted both ways; the median of many."""
        copy = Contestant("copy", Work(0, 1), lambda: self._target.copy_(self._source), lambda result: 0.0)
        return 2e-6 * COPIED / float(np.median(self._device_ms(copy, COPIES, host_seconds=0.0)))

    def with_peak_memory(self, call: Callable[[], object]) -> tuple[object, float]:
        """Returns the result of one call, and the MB by which torch's allocations peaked above their level before."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        return result, (torch.cuda.max_memory_allocated() - before) / 1e6

    def times(self, contestant: Contestant) -> dict[str, float]:
        """Returns the times of the device, and of the host until the call has returned, its work being queued."""
        host, both = zip(*(self._host_seconds(contestant) for _ in range(HOST_CALLS)), strict=True)
        host_seconds, calls = float(np.median(host)), SECONDS_EACH / float(np.median(both))
        device = self._device_ms(contestant, max(FEWEST, min(MOST, round(calls))), host_seconds)
        return summary(device) | {"host_ms": 1e3 * host_seconds}

    def warm_ms(self, contestant: Contestant) -> float:
        """Returns the median time of the device where its caches hold what the call before has left in them."""
        host_seconds = self._host_seconds(contestant)[0]
        return float(np.median(self._device_ms(contestant, MOST, host_seconds, flushing=False)))

    def launches(self, call: Callable[[], object]) -> float:
        """Returns how much a call has the device do, kernels and copies; NaN where the profiler sees nothing."""
        return len(on_device(call)) or float("nan")

    def _host_seconds(self, contestant: Contestant) -> tuple[float, float]:
        """Returns the seconds until the call has returned, and until its work was done."""
        contestant.prepare()
        torch.cuda.synchronize()
        start = perf_counter()
        contestant.call()
        returned = perf_counter()
        torch.cuda.synchronize()
        return returned - start, perf_counter() - start

    def _device_ms(self, contestant: Contestant, calls: int, host_seconds: float, flushing: bool = True) -> list[float]:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
        for start, end in events:
            contestant.prepare()
            if flushing:
                self._flushing.sum()
            # the device sleeps until the host has queued the call, or the gaps between its launches would count
            torch.cuda._sleep(int(min(1.5 * host_seconds, LONGEST_SLEEP) * CYCLES_PER_SECOND))
            start.record()
            contestant.call()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in events]


def measure_on_gpu(
    case: Case, contestants: Contestants = gpu_contestants, *, clock: Clock, device: str = "cuda"
) -> list[dict]:
    """Returns a row for each contestant; one with wrong values, or that cannot take part, gets an error and no time."""
    grads = case.gradients(device)
    gram = exact_gram(grads)
    copy = clock.copy_gbps()
    shared = {
        "case": case.name,
        "layout": case.layout,
        "dtype": str(case.dtype).removeprefix("torch."),
        "T": case.num_objectives,
        "N": case.num_elements,
        "tensors": len(case.shapes),
        "conflicts": conflict_rate(gram),
        "copy_GBps": copy,
        "one_pass_ms": 1e-6 * (case.num_objectives + 1) * case.num_bytes / copy,
    }
    rows = []
    for contestant in contestants(case, grads, gram):
        floor = floor_ms(contestant.work, case.num_bytes, copy, copy)
        row = shared | {"contestant": contestant.name, "floor_ms": floor} | UNMEASURED | checked(contestant, clock)
        if not row["error"]:
            row |= clock.times(contestant)
            row["fraction_of_floor"] = floor / row["median_ms"]
            row["over_one_pass"] = row["median_ms"] / max(row["one_pass_ms"], SMALLEST_ONE_PASS_MS)
            if contestant.name == OURS:
                row["warm_ms"] = clock.warm_ms(contestant)
        rows.append(row)
    return rows


def with_ratio_to_ours(rows: Sequence[dict], name: str = OURS) -> list[dict]:
    """Returns the rows, each with its time over that of ours in the same case; NaN where that was not measured.

    Args:
        rows: of any number of cases.
        name: the contestant that is ours.
    """
    ours = {row["case"]: row["median_ms"] for row in rows if row["contestant"] == name}
    return [row | {"ratio_to_ours": row["median_ms"] / ours.get(row["case"], float("nan"))} for row in rows]


def checked(contestant: Contestant, clock: Clock) -> dict:
    """Returns the second call's values and memory, or what is wrong: the first may compile and upload.

    Whatever a contestant raises becomes its row's error, and the others are measured all the same.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", gk.FallbackWarning)
            for _ in range(2):
                contestant.prepare()
                result, megabytes = clock.with_peak_memory(contestant.call)
            distance = contestant.error(result)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    wrong = not distance <= contestant.tolerance  # NaN is wrong too
    sentence = f"values differ from float64 by {distance:.1e}, more than {contestant.tolerance:.0e}" if wrong else ""
    beyond = max(0.0, megabytes - contestant.result_bytes / 1e6)
    return {"peak_extra_MB": megabytes, "beyond_result_MB": beyond, "value_error": distance, "error": sentence}
