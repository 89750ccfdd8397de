"""A series of any length as a few means of neighbours, made while it is read."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass
class Part:
    """Neighbours. `first`, `last`: places, of `units` different ones; total [K] of what is there, count [K] of it."""

    first: int
    last: int
    units: int
    total: np.ndarray
    count: np.ndarray

    def absorb(self, other: "Part") -> None:
        """Takes in what comes next, in place: this happens at every step."""
        self.units += other.units - (self.last == other.first)
        self.last = other.last
        if missing := max(0, len(other.total) - len(self.total)):
            self.total, self.count = (np.pad(values, (0, missing)) for values in (self.total, self.count))
        self.total[: len(other.total)] += other.total
        self.count[: len(other.count)] += other.count

    def mean(self) -> np.ndarray:
        """[K] float64, NaN of what none has."""
        with np.errstate(invalid="ignore"):
            return self.total / self.count


class Thinned:
    """At most `points` means over equally many places each: where there are more, neighbours are joined two by two.

    Places are whole numbers that do not fall, such as steps, or epochs with many values at each. Values are vectors,
    NaN where there is nothing. They may grow longer on the way: what came before had none of it.
    """

    def __init__(self, points: int):
        self.parts: list[Part] = []
        self._points = points
        self._width = 1

    def add(self, place: int, values: np.ndarray) -> None:
        """values: [K] float64."""
        there = np.isfinite(values)
        part = Part(place, place, 1, np.where(there, values, 0.0), there.astype(float))
        if self.parts and (self.parts[-1].units < self._width or self.parts[-1].last == place):
            self.parts[-1].absorb(part)
        elif len(self.parts) < self._points:
            self.parts.append(part)
        else:
            self._halve()
            self.add(place, values)

    def table(self, points: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Places [n] and means [n, K], NaN where there is nothing; with `points` no more than so many."""
        parts = self.parts
        if points is not None and len(parts) > points:
            size = -(-len(parts) // points)
            parts = [_joined(parts[start : start + size]) for start in range(0, len(parts), size)]
        means = [part.mean() for part in parts]
        longest = max(map(len, means), default=0)
        rows = [np.pad(mean, (0, longest - len(mean)), constant_values=np.nan) for mean in means]
        return np.array([(part.first + part.last) / 2 for part in parts]), np.array(rows).reshape(len(rows), longest)

    def _halve(self) -> None:
        self.parts = [_joined(self.parts[start : start + 2]) for start in range(0, len(self.parts), 2)]
        self._width *= 2


def _joined(parts: list[Part]) -> Part:
    first = parts[0]
    joined = replace(first, total=first.total.copy(), count=first.count.copy())
    for part in parts[1:]:
        joined.absorb(part)
    return joined
