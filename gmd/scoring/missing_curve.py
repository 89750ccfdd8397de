"""How scores change as modalities go missing: at several missing rates, each by several draws, and as a list says."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gmd.data.missing import Missing
from gmd.data.text_files import EVALUATE_AGAIN, brief, damaged, read_csv
from gmd.errors import shown
from gmd.scoring.read_back import number, range_of, whole_number
from gmd.scoring.table_text import csv_text
from gmd.subsets import Subset

DRAWS = 5
FIRST = ("rate", "draws", "absent")  # columns before those of the metrics
LISTED = "list"  # a column behind these, if one of the points is a list's
DEVIATION = " std"  # behind a metric's name, of the column of its deviation

Kept = Mapping[str, Subset]  # name of a sample -> the modalities that it keeps, in the network's order


class CurvePoint(NamedTuple):
    """What was measured at one missing rate, or with the modalities that a list leaves to each sample.

    Attributes:
        rate: the probability with which each modality of each sample was taken away, see `Missing`; of a list `absent`.
        draws: how often that was decided anew; 1 of a list.
        absent: the part that was taken away of the modalities that samples have, mean over the draws. It stays below
            the rate, since a sample keeps one modality.
        means: metric -> mean over the draws; NaN where the metric is not defined.
        deviations: metric -> standard deviation over the draws, with draws - 1; 0 of a list.
        listed: what the list is called; empty for draws at a rate.
    """

    rate: float
    draws: int
    absent: float
    means: dict[str, float]
    deviations: dict[str, float]
    listed: str = ""


Curve = Sequence[CurvePoint]  # rates ascending, then lists
Measure = Callable[[Kept], Mapping[str, float]]


def missing_curve(has: Mapping[str, Subset], rates: Sequence[float], seed: int, measure: Measure) -> list[CurvePoint]:
    """Returns the metrics at each rate. Draw number d is decided by seed + d, at all rates alike.

    has: name of a sample -> the modalities that it has, in the network's order
    rates: of all modalities, in [0, 1), ascending
    measure: of what the samples keep, at least one modality each: metric -> value
    """
    return [_point(has, rate, range(seed, seed + DRAWS), measure) for rate in rates]


def listed_point(name: str, has: Mapping[str, Subset], kept: Kept, measure: Measure) -> CurvePoint:
    """Returns the metrics of what a list leaves to each sample, at the list's own rate of absence.

    name: what the list is called
    has, measure: as in `missing_curve`; kept: of the samples that count, which may be fewer
    """
    absent = 1 - _kept_part(has, kept)
    means = dict(measure(kept))
    deviations = {metric: nan if isnan(value) else 0.0 for metric, value in means.items()}
    return CurvePoint(absent, 1, absent, means, deviations, name)


def _point(has: Mapping[str, Subset], rate: float, seeds: Sequence[int], measure: Measure) -> CurvePoint:
    there = {modality for modalities in has.values() for modality in modalities}
    found, kept_parts = [], []
    for seed in seeds:
        kept = Missing(dict.fromkeys(there, rate), seed).kept_by(has)
        kept_parts.append(_kept_part(has, kept))
        found.append(measure(kept))
    values = {metric: [metrics[metric] for metrics in found] for metric in found[0]}
    means = {metric: fmean(drawn) for metric, drawn in values.items()}
    deviations = {metric: _deviation(drawn) for metric, drawn in values.items()}
    return CurvePoint(rate, len(seeds), 1 - fmean(kept_parts), means, deviations)


def _kept_part(has: Mapping[str, Subset], kept: Kept) -> float:
    """Returns which part of their modalities the samples keep that are in `kept`."""
    return sum(map(len, kept.values())) / sum(len(has[name]) for name in kept)


def _deviation(drawn: Sequence[float]) -> float:
    """Returns the standard deviation, 0 of equal numbers, whose mean may be off by a rounding; NaN if one is."""
    return 0.0 if len(set(drawn)) == 1 else float(np.std(drawn, ddof=1))


def curve_csv(curve: Curve) -> str:
    """Returns the curve for programs, a line for each rate and list, with all digits. `read_curve` reads it back."""
    metrics = list(curve[0].means)
    of_a_list = any(point.listed for point in curve)
    header = [*_first(of_a_list), *_columns(metrics)]
    lines = [
        [
            *(point.rate, point.draws, point.absent, *([point.listed] if of_a_list else [])),
            *(of[m] for m in metrics for of in (point.means, point.deviations)),
        ]
        for point in curve
    ]
    return csv_text([header, *lines])


def _first(of_a_list: bool) -> list[str]:
    """Returns the columns before those of the metrics. of_a_list: whether there is a point of a list"""
    return [*FIRST, LISTED] if of_a_list else [*FIRST]


def _columns(metrics: Sequence[str]) -> list[str]:
    return [f"{metric}{end}" for metric in metrics for end in ("", DEVIATION)]


def read_curve(path: Path) -> Curve:
    """Reads a curve that `curve_csv` has written, with points of lists or without.

    Raises UserError, which names the line, for a table of something else, numbers out of their range, rates that do
    not ascend, and one behind a list.
    """
    lines = read_csv(path)
    _, header = next(lines)
    behind = header[len(FIRST) :][:2]  # a region may be called as the column of lists: its deviation is beside it then
    of_a_list = behind[:1] == [LISTED] and behind != _columns([LISTED])
    first = _first(of_a_list)
    metrics = header[len(first) :: 2]
    columns = [*first, *_columns(metrics)]
    if not metrics or header != columns or len(set(metrics)) < len(metrics):
        raise damaged(path, f"its columns are {shown(', '.join(header), 200)}, expected a curve's", EVALUATE_AGAIN)
    curve: list[CurvePoint] = []
    for line, cells in lines:
        listed, numbers = (cells[len(FIRST)] if of_a_list else ""), cells[len(first) :]
        try:
            if not listed:
                _check_after(cells[0], curve)
            curve.append(_read_point(cells[: len(FIRST)], listed, numbers, metrics))
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
    if not curve or curve[0].listed:
        raise damaged(path, "holds no rate", EVALUATE_AGAIN)
    return curve


def _check_after(rate: str, curve: Curve) -> None:
    """Raises ValueError unless a rate is above the one before it, and before all lists."""
    if curve and curve[-1].listed:
        raise ValueError(f"a rate, {brief(rate)}, is behind the list {brief(curve[-1].listed)}, expected lists last")
    before = curve[-1].rate if curve else -1.0
    if number(rate, "rate", 0, 1) <= before:
        raise ValueError(f"the rate is {float(rate):g} after {before:g}, expected one above it")


def _read_point(first: Sequence[str], listed: str, numbers: Sequence[str], metrics: Sequence[str]) -> CurvePoint:
    """Returns the point of one line. Raises ValueError for what is wrong.

    first: the cells of FIRST; listed: what the list is called, if it is one's; numbers: the cells of the metrics
    """
    rate, absent = number(first[0], "rate", 0, 1), number(first[2], "absent", 0, 1)
    means = {m: _measured(text, m, *range_of(m)) for m, text in zip(metrics, numbers[::2], strict=True)}
    deviations = {
        m: _measured(text, f"{m}{DEVIATION}", 0, 2 * max(range_of(m)))
        for m, text in zip(metrics, numbers[1::2], strict=True)
    }
    return CurvePoint(rate, whole_number(first[1], "draws"), absent, means, deviations, listed)


def _measured(text: str, column: str, low: float, high: float) -> float:
    return float("nan") if text == "nan" else number(text, column, low, high)
