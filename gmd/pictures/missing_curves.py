"""Draws how scores change as modalities go missing: a panel for each metric, a line for each run."""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.pictures.style import STYLE, drawn, save_figure
from gmd.scoring.missing_curve import Curve
from gmd.scoring.table_text import column_title, lower_is_better

# Okabe and Ito's colours, and signs that tell the lines apart without them
LINES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))
ACROSS = 4  # panels in a row


def draw_missing_curves(curves: Mapping[str, Curve], path: Path) -> Path:
    """Draws each metric over the missing rate: means over the draws, and a band of one deviation on both sides.

    With points of lists, which are no draws, everything is drawn over the part of the modalities that is absent, which
    both have; lists are hollow.

    Args:
        curves: of runs, by their names, one at least; all of the same metrics.
        path: of the picture, .png.

    Returns:
        The path.
    """
    metrics = list(next(iter(curves.values()))[0].means)
    across = min(len(metrics), ACROSS)
    down = math.ceil(len(metrics) / across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(4.2 * across, 8), 3.6 * down + 1), layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        listed = any(point.listed for curve in curves.values() for point in curve)
        for ax, metric in zip(axes, metrics, strict=False):
            _draw_metric(ax, curves, metric, listed)
        for ax in axes[len(metrics) :]:
            ax.axis("off")
        draws = max(point.draws for curve in curves.values() for point in curve)
        figure.suptitle(f"Scores with modalities missing: mean and standard deviation of {draws} draws")
        if len(curves) > 1 or listed:
            labels = axes[0].get_legend_handles_labels()
            figure.legend(*labels, loc="outside lower center", frameon=False, ncols=3)
        return save_figure(figure, path)


def _draw_metric(ax: Axes, curves: Mapping[str, Curve], metric: str, by_absence: bool) -> None:
    """Draws one panel. by_absence: whether over the part that is absent, instead of the missing rate"""
    for number, (name, curve) in enumerate(curves.items()):
        colour, sign = LINES[number % len(LINES)]
        rates, absent, means, deviations = _arrays([point for point in curve if not point.listed], metric)
        x = absent if by_absence else rates
        ax.fill_between(x, means - deviations, means + deviations, color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, means, color=colour, marker=sign, markersize=4, label=drawn(name, 30))
        if listed := [point for point in curve if point.listed]:
            _, absent, means, _ = _arrays(listed, metric)
            # without the list's name: a report that is given away shows this picture
            label = "as a list says" if number == 0 else None
            ax.plot(absent, means, "D", color=colour, markerfacecolor="white", markersize=8, label=label)
    ax.set_title(drawn(column_title(metric)) + (" (lower is better)" if lower_is_better(metric) else ""), fontsize=12)
    ax.set_xlabel("part of the modalities that is absent" if by_absence else "missing rate")
    ax.grid(alpha=0.3)


def _arrays(points: Curve, metric: str) -> np.ndarray:
    """Returns rates, parts that are absent, means and deviations of the metric, [4, points]."""
    rows = [(point.rate, point.absent, point.means[metric], point.deviations[metric]) for point in points]
    return np.array(rows, dtype=float).reshape(-1, 4).T
