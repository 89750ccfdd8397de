"""Draws how a training went: its losses, its validation and the conflicts of its objectives over the steps."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.pictures.style import STYLE, save_figure, thinned

LINE, BAND = "#0072B2", "#B7D7EA"
Panel = Callable[[Axes, Sequence[dict], Sequence[dict]], None]  # draws (steps, epochs)


class ValidationPanel(NamedTuple):
    """How the panel of the validation says what was measured.

    Attributes:
        title: what the score is.
        label: of its axis.
        limits: the ends of its axis; None takes those of the scores.
    """

    title: str
    label: str
    limits: tuple[float, float] | None = (0, 1)


def draw_curves(steps: Sequence[dict], epochs: Sequence[dict], path: Path, validation: ValidationPanel) -> Path:
    """Draws losses and validation over the steps, and conflicts where there are several objectives.

    Args:
        steps: lines of metrics.jsonl, one at least.
        epochs: lines of metrics.jsonl.
        path: of the picture, .png.
        validation: what its panel says.

    Returns:
        The path.
    """
    panels: list[Panel] = [_draw_losses, partial(_draw_validation, words=validation)]
    if any(step["conflicts"] is not None for step in steps):
        panels.append(_draw_conflicts)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True)
        for panel, ax in zip(panels, axes, strict=True):
            panel(ax, steps, epochs)
            ax.grid(alpha=0.3)
        axes[-1].set_xlabel("step")
        return save_figure(figure, path)


def _draw_losses(ax: Axes, steps: Sequence[dict], epochs: Sequence[dict]) -> None:
    x = thinned([step["step"] for step in steps])
    each = [np.array(list(step["losses"].values()), dtype=float) for step in steps]  # null becomes NaN, a gap
    ax.plot(x, thinned([values.mean() for values in each]), color=LINE, label="mean")
    title = "Training loss"
    if max(map(len, each)) > 1:
        low, high = thinned([v.min() for v in each]), thinned([v.max() for v in each])
        ax.fill_between(x, low, high, color=BAND, label="lowest to highest subset")
        ax.legend(frameon=False)
        title += f" over the {max(map(len, each))} subsets of modalities"
    skipped = sum(not step["finite"] for step in steps)
    ax.set_title(title + (f" ({skipped} steps skipped: not finite)" if skipped else ""))
    ax.set_ylabel("loss")
    ax.set_ylim(bottom=0)


def _draw_validation(ax: Axes, steps: Sequence[dict], epochs: Sequence[dict], words: ValidationPanel) -> None:
    last_step = {step["epoch"]: step["step"] for step in steps}
    scored = [epoch for epoch in epochs if epoch["validation"] is not None and epoch["epoch"] in last_step]
    ax.plot([last_step[e["epoch"]] for e in scored], [e["validation"] for e in scored], "o-", color=LINE)
    ax.set_title(f"Validation: {words.title}")
    ax.set_ylabel(words.label)
    if words.limits is not None:
        ax.set_ylim(*words.limits)


def _draw_conflicts(ax: Axes, steps: Sequence[dict], epochs: Sequence[dict]) -> None:
    # a line from one step at which they were looked at to the next
    steps = [step for step in steps if step.get("refreshed", True) or step["conflicts"] is not None]
    percent = 100 * thinned([step["conflicts"] for step in steps])
    ax.plot(thinned([step["step"] for step in steps]), percent, color=LINE)
    ax.set_title("Conflicts: pairs of objectives whose gradients have a negative inner product")
    ax.set_ylabel("% of pairs")
    ax.set_ylim(0, max(1, 1.05 * np.nanmax(percent)))
