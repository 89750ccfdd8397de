"""Downsamples a series of any length to a few means of neighbours while it is read."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass
class Bin:
    """Neighbouring values of a series, of which the mean is kept.

    Attributes:
        first, last: the places of the first and the last value.
        places: how many different places there are.
        total: [K] float64, the sum of the values that are there.
        count: [K] float64, how many are there.
    """

    first: int
    last: int
    places: int
    total: np.ndarray
    count: np.ndarray

    def absorb(self, other: "Bin") -> None:
        """Takes in the bin that comes next, in place: this happens at every step."""
        self.places += other.places - (self.last == other.first)
        self.last = other.last
        if missing := max(0, len(other.total) - len(self.total)):
            self.total, self.count = (np.pad(values, (0, missing)) for values in (self.total, self.count))
        self.total[: len(other.total)] += other.total
        self.count[: len(other.count)] += other.count

    def mean(self) -> np.ndarray:
        """Returns the means, [K] float64, NaN where no value is."""
        with np.errstate(invalid="ignore"):
            return self.total / self.count


class DownsampledSeries:
    """A series as at most `points` means, each over equally many places.

    When there are more, neighbours are joined two by two. Places are whole numbers that never decrease, such as steps,
    or epochs with many values at each. Values are vectors, NaN where there is nothing. They may grow longer on the way:
    the values before had nothing there.
    """

    def __init__(self, points: int):
        self.bins: list[Bin] = []
        self._points = points
        self._width = 1

    def add(self, place: int, values: np.ndarray) -> None:
        """Appends a value. place: not less than the one before; values: [K] float64"""
        there = np.isfinite(values)
        one = Bin(place, place, 1, np.where(there, values, 0.0), there.astype(float))
        if self.bins and (self.bins[-1].places < self._width or self.bins[-1].last == place):
            self.bins[-1].absorb(one)
        elif len(self.bins) < self._points:
            self.bins.append(one)
        else:
            self._halve()
            self.add(place, values)

    def table(self, points: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the series as places [n] and means [n, K], float64, NaN where there is nothing.

        points: n is at most that; by default that of the series
        """
        bins = self.bins
        if points is not None and len(bins) > points:
            size = -(-len(bins) // points)
            bins = [_joined(bins[start : start + size]) for start in range(0, len(bins), size)]
        means = [one.mean() for one in bins]
        longest = max(map(len, means), default=0)
        rows = [np.pad(mean, (0, longest - len(mean)), constant_values=np.nan) for mean in means]
        return np.array([(one.first + one.last) / 2 for one in bins]), np.array(rows).reshape(len(rows), longest)

    def _halve(self) -> None:
        """Joins the bins two by two, and makes those to come twice as wide."""
        self.bins = [_joined(self.bins[start : start + 2]) for start in range(0, len(self.bins), 2)]
        self._width *= 2


def _joined(bins: list[Bin]) -> Bin:
    """Returns one bin of several neighbouring ones, which stay as they are."""
    first = bins[0]
    joined = replace(first, total=first.total.copy(), count=first.count.copy())
    for one in bins[1:]:
        joined.absorb(one)
    return joined
