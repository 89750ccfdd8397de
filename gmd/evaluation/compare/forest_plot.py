"""The forest plot of a comparison: a difference with its interval for each subset."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.evaluation.compare.comparison import Comparison
from gmd.evaluation.compare.run_scores import METRICS, Column
from gmd.pictures.style import STYLE, drawn, save_figure
from gmd.subsets import subset_name

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's


def draw_comparison(comparison: Comparison, path: Path) -> Path:
    """Draws the comparison: a panel for each metric, averaged over the regions; a row for each subset and their mean.

    path: of the picture, a PNG; returned
    """
    columns = [column for column in comparison.columns if column[1] in ("", "mean")]
    rows = [*comparison.subsets, None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5 + 5.5 * len(columns), 2.4 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for ax, column in zip(axes, columns, strict=True):
            _draw_differences(ax, comparison, column)
        names = [drawn(subset_name(subset)) if subset else f"mean of {len(comparison.subsets)}" for subset in rows]
        axes[0].set_yticks(_heights(len(rows)), names)
        axes[0].set_ylim(len(rows), -0.8)
        if len(comparison.names) > 2:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=3)
        others = drawn(comparison.names[1]) if len(comparison.names) == 2 else "each run"
        figure.suptitle(f"{others} - {drawn(comparison.names[0])}\npaired, with 95 % bootstrap intervals")
        return save_figure(figure, path)


def _heights(rows: int) -> list[float]:
    """Returns the heights of the rows in the plot; the last one, the mean over the subsets, is set apart."""
    return [*range(rows - 1), rows - 0.5]


def _draw_differences(ax: Axes, comparison: Comparison, column: Column) -> None:
    """Draws one panel: every run's differences in one column, with their intervals."""
    name, metric, runs = column[0], METRICS[column[0]], comparison.names[1:]
    for k, run in enumerate(runs):
        differences = [row.difference for row in comparison.rows if row.run == run and row.column == column]
        offset = 0.6 * ((k + 0.5) / len(runs) - 0.5)  # beside each other, not over
        y = [height + offset for height in _heights(len(differences))]
        x, low, high = ([metric.scale * getattr(d, end) for d in differences] for end in ("difference", "low", "high"))
        colour = COLOURS[k % len(COLOURS)]
        ax.hlines(y, low, high, color=colour, linewidth=2)  # nothing where there is no interval: NaN
        ax.plot(x, y, "o", color=colour, markersize=6, label=drawn(run, 30))
    ax.axvline(0, color="0.4", linewidth=1)
    ax.axhline(len(comparison.subsets) - 0.25, color="0.8", linewidth=1)
    ax.grid(axis="x", alpha=0.3)
    better = "right" if metric.higher_is_better else "left"
    alike = "outputs" if comparison.item_noun == "prediction" else "regions"
    ax.set_title(f"{name}, mean of the {alike}" if column[1] else name)
    ax.set_xlabel(f"difference{f' in {metric.unit}' if metric.unit else ''} ({better}: better)")
