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
        for ax, metric in zip(axes, metrics, strict=False):
            _draw_metric(ax, curves, metric)
        for ax in axes[len(metrics) :]:
            ax.axis("off")
        draws = max(point.draws for curve in curves.values() for point in curve)
        figure.suptitle(f"Scores with modalities missing: mean and standard deviation of {draws} draws")
        if len(curves) > 1:
            labels = axes[0].get_legend_handles_labels()
            figure.legend(*labels, loc="outside lower center", frameon=False, ncols=3)
        return save_figure(figure, path)


def _draw_metric(ax: Axes, curves: Mapping[str, Curve], metric: str) -> None:
    for number, (name, curve) in enumerate(curves.items()):
        colour, sign = LINES[number % len(LINES)]
        rates = [point.rate for point in curve]
        means = np.array([point.means[metric] for point in curve])
        deviations = np.array([point.deviations[metric] for point in curve])
        ax.fill_between(rates, means - deviations, means + deviations, color=colour, alpha=0.2, linewidth=0)
        ax.plot(rates, means, color=colour, marker=sign, markersize=4, label=drawn(name, 30))
    ax.set_title(drawn(column_title(metric)) + (" (lower is better)" if lower_is_better(metric) else ""), fontsize=12)
    ax.set_xlabel("missing rate")
    ax.grid(alpha=0.3)
