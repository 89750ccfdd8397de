"""Tells which modality the network leans on as it trains: dominance.png and dominance.txt in the run's folder."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.config.file import CONFIG, read_yaml
from gmd.files import replacing
from gmd.monitor.dominance import GRADIENT_NORM, NORM, RISE, TITLES, WITH_ALL, WITH_MERGED, rises
from gmd.monitor.dominance_verdict import dominance_text
from gmd.monitor.metrics_file import METRICS, read_metrics
from gmd.pictures.style import STYLE, drawn, save_figure, thinned
from gmd.subsets import subset_name

# Okabe and Ito's, without the yellow, which is too light for a line; dashes tell them apart without any colour
LINES: tuple[tuple[str, str | tuple], ...] = (
    *(("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":")),
    *(("#56B4E9", (0, (8, 2))), ("#E69F00", (0, (4, 1, 1, 1, 1, 1)))),
)
TOGETHER = "0.35"  # grey, of what is not one modality's
POINTS = 100  # of a line; several cross here, and what one step says is noise


def write_dominance(run: Path) -> list[Path]:
    """Writes `dominance.png` and `dominance.txt` in the run's folder, and returns their paths.

    There is no picture if the run has recorded no step that is finite.
    Raises UserError if no step has been recorded.
    """
    steps, _ = read_metrics(run / METRICS)
    modalities = read_yaml(run / CONFIG)["modalities"]
    path = run / "dominance.txt"
    with replacing(path) as unfinished:
        unfinished.write_text(dominance_text(steps, modalities), encoding="utf-8")
    finite = [step for step in steps if step.get("dominance")]
    return [draw_dominance(finite, modalities, run / "dominance.png"), path] if finite else [path]


def draw_dominance(steps: Sequence[dict], modalities: Sequence[str], path: Path) -> Path:
    """Draws a panel for each quantity, with a line for each modality, and one for what the surgery changed.

    Args:
        steps: lines of metrics.jsonl of finite steps, one at least.
        modalities: all that the network has.
        path: of the picture, .png.

    Returns:
        The path.
    """
    steps = [step | {"dominance": _with_rises(step, modalities)} for step in steps]
    quantities = _quantities(steps)
    projected = [step for step in steps if step["dominance"]["projected"] is not None]
    surgery = bool(projected)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.2 * (len(quantities) + surgery)), layout="constrained")
        axes = figure.subplots(len(quantities) + surgery, 1, sharex=True, squeeze=False)[:, 0]
        for quantity, ax in zip(quantities, axes, strict=False):
            _draw_quantity(ax, steps, quantity, modalities)
        if surgery:
            _draw_projected(axes[-1], projected)
        for ax in axes:
            ax.grid(alpha=0.3)
        axes[-1].set_xlabel("step")
        return save_figure(figure, path)


def _quantities(steps: Sequence[dict]) -> list[str]:
    """Returns those that any step has, rises of the loss and norms of the gradients first; norms in any case."""
    occurring = dict.fromkeys(name for step in steps for name in step["dominance"]["modality"])
    first = [RISE, NORM] if RISE in occurring else [NORM]
    return [*first, *(name for name in occurring if name not in first)]


def _with_rises(step: dict, modalities: Sequence[str]) -> dict:
    """Returns the step's record of dominance, with how much the loss rises without each modality if that is known."""
    missed = rises(step, modalities)
    modality = step["dominance"]["modality"]
    return step["dominance"] | {"modality": modality | ({RISE: missed} if missed else {})}


def _draw_quantity(ax: Axes, steps: Sequence[dict], quantity: str, modalities: Sequence[str]) -> None:
    # a line from one step at which it was looked at to the next
    of_gradients = quantity in (NORM, WITH_ALL, WITH_MERGED)
    steps = [step for step in steps if step["dominance"]["norms"] or not of_gradients] or steps
    x = thinned([step["step"] for step in steps], POINTS)
    if quantity == NORM:
        name = _together(steps, modalities)
        _draw_line(ax, x, [step["dominance"]["norms"].get(name) for step in steps], name, TOGETHER, "-")
    for modality, (colour, dashes) in zip(modalities, cycle(LINES), strict=False):
        values = [step["dominance"]["modality"].get(quantity, {}).get(modality) for step in steps]
        _draw_line(ax, x, values, modality, colour, dashes)
    ax.set_title(TITLES.get(quantity, drawn(quantity.capitalize())))
    ax.set_ylabel(quantity.split()[0] if quantity in (WITH_ALL, WITH_MERGED) else drawn(quantity, 30))
    if quantity in (NORM, GRADIENT_NORM):
        ax.set_ylim(bottom=0)
    else:
        ax.axhline(0, color="0.6", linewidth=0.8)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, ncols=len(modalities) + 1)


def _draw_line(
    ax: Axes, x: np.ndarray, values: Sequence[float | None], label: str, colour: str, dashes: str | tuple
) -> None:
    """Draws a line, unless no step has the value; that has no place in the legend either."""
    y = thinned(values, POINTS)
    if np.isfinite(y).any():
        ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, label=drawn(label))


def _together(steps: Sequence[dict], modalities: Sequence[str]) -> str:
    """Names the objective of all modalities, or "mean" if the method has one gradient for several objectives."""
    everything = subset_name(tuple(modalities))
    return everything if any(everything in step["dominance"]["norms"] for step in steps) else "mean"


def _draw_projected(ax: Axes, steps: Sequence[dict]) -> None:
    percent = 100 * thinned([step["dominance"]["projected"] for step in steps], POINTS)
    ax.plot(thinned([step["step"] for step in steps], POINTS), percent, color=TOGETHER)
    ax.set_title("Projected share: how much of the mean gradient the surgery changed, in norm")
    ax.set_ylabel("%")
    ax.set_ylim(0, max(1, 1.05 * np.nanmax(percent)))
