"""How scores change as modalities go missing: measured at several missing rates, each by several draws."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gmd.data.missing import Missing
from gmd.data.text_files import EVALUATE_AGAIN, damaged, read_csv
from gmd.errors import shown
from gmd.scoring.read_back import number, range_of, whole_number
from gmd.scoring.table_text import csv_text
from gmd.subsets import Subset

DRAWS = 5
FIRST = ("rate", "draws", "absent")  # columns before those of the metrics
DEVIATION = " std"  # behind a metric's name, of the column of its deviation

Kept = Mapping[str, Subset]  # name of a sample -> the modalities that it keeps, in the network's order


class CurvePoint(NamedTuple):
    """What was measured at one missing rate.

    Attributes:
        rate: the probability with which each modality of each sample was taken away, see `Missing`.
        draws: how often that was decided anew.
        absent: the part that was taken away of the modalities that samples have, mean over the draws. It stays below
            the rate, since a sample keeps one modality.
        means: metric -> mean over the draws; NaN where the metric is not defined.
        deviations: metric -> standard deviation over the draws, with draws - 1.
    """

    rate: float
    draws: int
    absent: float
    means: dict[str, float]
    deviations: dict[str, float]


Curve = Sequence[CurvePoint]


def missing_curve(
    has: Mapping[str, Subset], rates: Sequence[float], seed: int, measure: Callable[[Kept], Mapping[str, float]]
) -> Curve:
    """Returns the metrics at each rate. Draw number d is decided by seed + d, at all rates alike.

    has: name of a sample -> the modalities that it has, in the network's order
    rates: of all modalities, in [0, 1), ascending
    measure: of what the samples keep, at least one modality each: metric -> value
    """
    return [_point(has, rate, range(seed, seed + DRAWS), measure) for rate in rates]


def _point(
    has: Mapping[str, Subset], rate: float, seeds: Sequence[int], measure: Callable[[Kept], Mapping[str, float]]
) -> CurvePoint:
    there = {modality for modalities in has.values() for modality in modalities}
    found, kept_parts = [], []
    for seed in seeds:
        kept = Missing(dict.fromkeys(there, rate), seed).kept_by(has)
        kept_parts.append(sum(map(len, kept.values())) / sum(map(len, has.values())))
        found.append(measure(kept))
    values = {metric: [metrics[metric] for metrics in found] for metric in found[0]}
    means = {metric: fmean(drawn) for metric, drawn in values.items()}
    deviations = {metric: _deviation(drawn) for metric, drawn in values.items()}
    return CurvePoint(rate, len(seeds), 1 - fmean(kept_parts), means, deviations)


def _deviation(drawn: Sequence[float]) -> float:
    """Returns the standard deviation, 0 of equal numbers, whose mean may be off by a rounding; NaN if one is."""
    return 0.0 if len(set(drawn)) == 1 else float(np.std(drawn, ddof=1))


def curve_csv(curve: Curve) -> str:
    """Returns the curve for programs, a line for each rate, with all digits. `read_curve` reads it back."""
    metrics = list(curve[0].means)
    header = [*FIRST, *(f"{metric}{end}" for metric in metrics for end in ("", DEVIATION))]
    lines = [
        [point.rate, point.draws, point.absent, *(of[m] for m in metrics for of in (point.means, point.deviations))]
        for point in curve
    ]
    return csv_text([header, *lines])


def read_curve(path: Path) -> Curve:
    """Reads a curve that `curve_csv` has written.

    Raises UserError, which names the line, for a table of something else, numbers out of their range, and rates that do
    not ascend.
    """
    lines = read_csv(path)
    _, header = next(lines)
    metrics = header[len(FIRST) :: 2]
    columns = [*FIRST, *(f"{metric}{end}" for metric in metrics for end in ("", DEVIATION))]
    if not metrics or header != columns or len(set(columns)) < len(columns):
        raise damaged(path, f"its columns are {shown(', '.join(header), 200)}, expected a curve's", EVALUATE_AGAIN)
    curve: list[CurvePoint] = []
    for line, cells in lines:
        try:
            curve.append(_read_point(cells, metrics, curve[-1].rate if curve else -1.0))
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
    if not curve:
        raise damaged(path, "holds no rate", EVALUATE_AGAIN)
    return curve


def _read_point(cells: Sequence[str], metrics: Sequence[str], before: float) -> CurvePoint:
    """Returns the point of one line. before: the rate of the line before. Raises ValueError for what is wrong."""
    rate, absent = number(cells[0], "rate", 0, 1), number(cells[2], "absent", 0, 1)
    if rate <= before:
        raise ValueError(f"the rate is {rate:g} after {before:g}, expected one above it")
    numbers = cells[len(FIRST) :]
    means = {m: _measured(text, m, *range_of(m)) for m, text in zip(metrics, numbers[::2], strict=True)}
    deviations = {
        m: _measured(text, f"{m}{DEVIATION}", 0, 2 * max(range_of(m)))
        for m, text in zip(metrics, numbers[1::2], strict=True)
    }
    return CurvePoint(rate, whole_number(cells[1], "draws"), absent, means, deviations)


def _measured(text: str, column: str, low: float, high: float) -> float:
    return float("nan") if text == "nan" else number(text, column, low, high)
