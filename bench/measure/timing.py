"""The time of calls: contestants take turns, and medians count."""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from bench.measure.contestant import Contestant

ROUNDS = 7
SLOW_MS, SLOWEST_MS = 1000.0, 5000.0  # a slower contestant takes part in every third, or every sixth round only
FAST_MS = 60.0  # a faster one is run several times within a round
MOST_REPEATS = 20


def milliseconds(contestant: Contestant) -> float:
    """Returns the time of one call, without its preparation."""
    contestant.prepare()
    return 1e3 * seconds(contestant.call)


def interleaved(contestants: Sequence[Contestant], on_round: Callable[[], object]) -> dict[str, list[float]]:
    """Returns milliseconds of each contestant's calls, by name, taking turns: drift of the machine hits all alike."""
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
    """Returns the median and the 20th and 80th percentiles of `times`, and how many there are."""
    p20, median, p80 = np.percentile(times, [20, 50, 80])
    return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "calls": len(times)}


def seconds(call: Callable[[], object]) -> float:
    """Returns the time of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start
