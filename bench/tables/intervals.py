"""Intervals over the seeds of a study."""

import pandas as pd
from scipy import stats


def interval(values: pd.Series) -> tuple[float, float]:
    """Returns the mean, and half the width of its 95 % t-interval; NaN for one seed, which says nothing of spread."""
    n = len(values)
    return float(values.mean()), float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)
