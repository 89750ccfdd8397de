"""The times of the phases of a training step, for several ways of taking it."""

from collections.abc import Callable, Mapping
from typing import Protocol

from bench.measure.step import Stopwatch
from bench.measure.timing import summary


class TimedStep(Protocol):
    def run(self, watch: Stopwatch) -> object:
        """Takes one training step, with a lap of the watch at the end of each phase."""


def time_phases(
    steps: Mapping[str, TimedStep], rounds: int, on_round: Callable[[], object]
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns way -> phase ("total" among them) -> its times in milliseconds, as `summary` has them.

    The ways take turns, step by step: drift of the machine hits all alike.
    """
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            watch = Stopwatch()
            step.run(watch)
            laps[name].append(watch.laps | {"total": sum(watch.laps.values())})
        on_round()
    return {name: {phase: summary([lap[phase] for lap in taken]) for phase in taken[0]} for name, taken in laps.items()}
