"""How much two runs differ on the same items: the mean of the paired differences, and its bootstrap interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES, LEVEL = 10_000, 0.95
ROUNDING = 1e-12  # differences that lie closer together than this are taken for equal


class Difference(NamedTuple):
    """The difference between two runs' means over the same items.

    Attributes:
        items, units: how many items there are, and to how many units they belong.
        base, other: the mean over the items of each run.
        difference: other - base.
        low, high: the ends of its interval; NaN if there is only one unit, which says nothing of others.
    """

    items: int
    units: int
    base: float
    other: float
    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Returns whether the whole interval lies on one side of 0; False without an interval."""
        return self.low > 0 or self.high < 0


def paired_difference(base: np.ndarray, other: np.ndarray, units: Sequence[str], seed: int = 0) -> Difference:
    """Computes the mean of other - base, with a 95 % bootstrap interval (BCa: Efron, JASA 1987; 10,000 resamples).

    Units are resampled, not items: two examinations of one patient, or two steps of a sequence, are not independent.
    Each unit keeps all of its items, and every item counts alike.

    base, other: float [n], of the same n items in the same order, n at least 1
    units: [n], the unit that each item belongs to
    seed: of the bootstrap; the same seed gives the same interval
    Raises ValueError if the lengths differ or are 0.
    """
    base, other = np.asarray(base, float), np.asarray(other, float)
    if not len(base) or not len(base) == len(other) == len(units):
        lengths = f"{len(base)}, {len(other)} and {len(units)}"
        raise ValueError(f"base, other, units: expected one length, at least 1, got {lengths}")
    _, unit_of = np.unique(units, return_inverse=True)
    sums, counts = np.bincount(unit_of, other - base), np.bincount(unit_of)
    difference = sums.sum() / counts.sum()
    interval = _interval(sums, counts, difference, seed)
    return Difference(len(base), len(counts), base.mean(), other.mean(), difference, *interval)


def labelled_difference(base: np.ndarray, other: np.ndarray, units: Sequence[str], seed: int) -> Difference:
    """Computes `paired_difference` over the items that have a number, which one without a label has not: NaN there.

    base, other: float [n]; units: [n]
    returns 0 items and units, and NaN for all else, if none has a number
    """
    there = ~np.isnan(base)
    if not there.any():
        return Difference(0, 0, *[np.nan] * 5)
    kept = [unit for unit, labelled in zip(units, there, strict=True) if labelled]
    return paired_difference(base[there], other[there], kept, seed)


def _interval(sums: np.ndarray, counts: np.ndarray, difference: float, seed: int) -> tuple[float, float]:
    """Returns the bootstrap interval of the ratio sums.sum() / counts.sum(), the difference per item.

    sums, counts: [units], the sum of the unit's differences and how many items it has
    """
    if len(sums) == 1:
        return np.nan, np.nan
    if np.ptp(sums / counts) < ROUNDING:  # BCa would divide by their spread
        return difference, difference
    result = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return float(low), float(high)
