"""Paired differences over seeds, and their bootstrap intervals."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

RESAMPLES = 10_000
LEVEL = 95  # per cent
SIMULATED = 2_000  # studies without any effect, and resamples of each, to see how often an interval excludes 0


class Gain(NamedTuple):
    """A mean difference and its interval; of one seed the interval is NaN, which says nothing of spread."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def sign(self) -> int:
        """Returns 1 or -1 where the interval is above or below 0, and 0 where it holds 0: nothing is shown."""
        return int(self.low > 0) - int(self.high < 0)


def bootstrap(differences: pd.Series) -> Gain:
    """Returns the mean of differences, one for each seed, with the percentile interval of resampled seeds."""
    values = differences.dropna().to_numpy(float)
    if len(values) < 2:
        return Gain(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"), len(values))
    low, high = _ends(values[None])[0]
    return Gain(float(values.mean()), float(low), float(high), len(values))


@cache
def excludes_by_chance(seeds: int) -> float:
    """Returns how often the interval of so few seeds excludes 0 though there is no effect: of normal differences.

    A share of 1; simulated, always with the same numbers.
    """
    ends = _ends(np.random.default_rng(seeds).standard_normal((SIMULATED, seeds)), SIMULATED)
    return float(np.mean((ends[:, 0] > 0) | (ends[:, 1] < 0)))


def _ends(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Returns the ends of the intervals, [studies, 2], of values [studies, seeds]."""
    tails = [(100 - LEVEL) / 2, (100 + LEVEL) / 2]
    # rounded: sums in another order differ by bits, and a difference of 0 has to stay one
    means = np.round(values @ _shares(values.shape[1])[:, :resamples], 9)
    return np.percentile(means, tails, axis=1).T


@cache
def _shares(seeds: int) -> np.ndarray:
    """Returns how much of each resampled mean a seed is, [seeds, RESAMPLES]; the same resamples for all arms."""
    drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return drawn.T / seeds
