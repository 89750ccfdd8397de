"""The pictures of a run: how training went, how the objectives agree, what the network makes of a case."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.config.file import CONFIG, read_yaml
from gmd.monitor.metrics_file import read_metrics
from gmd.pictures.style import STYLE, save_figure, thinned
from gmd.subsets import all_subsets, subset_name

LINE, BAND = "#0072B2", "#B7D7EA"


class ValidationPanel(NamedTuple):
    """How the panel of the validation says what was measured: its title, its axis and that axis's ends, if they are
    known."""

    title: str
    label: str
    limits: tuple[float, float] | None = (0, 1)


HARD_DICE = ValidationPanel("hard Dice, mean over cases, subsets and regions", "Dice")


def draw_training(run: Path, validation: ValidationPanel = HARD_DICE) -> list[Path]:
    """From the run's `metrics.jsonl`: `curves.png` in it, and `cosines.png` where the last epoch has cosines.

    Raises UserError if no step has been recorded.
    """
    steps, epochs = read_metrics(run / "metrics.jsonl")
    modalities = read_yaml(run / CONFIG)["modalities"]
    written = [draw_curves(steps, epochs, run / "curves.png", validation)]
    last_epoch = [step for step in steps if step["epoch"] == steps[-1]["epoch"] and step["cosines"]]
    if last_epoch:
        written.append(draw_cosines(last_epoch, modalities, run / "cosines.png"))
    return written


def draw_curves(
    steps: Sequence[dict], epochs: Sequence[dict], path: Path, validation: ValidationPanel = HARD_DICE
) -> Path:
    """Losses and validation over the steps, and conflicts where there are several objectives."""
    panels = [_draw_losses, partial(_draw_validation, words=validation)]
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


def draw_cosines(steps: Sequence[dict], modalities: Sequence[str], path: Path) -> Path:
    """The cosines between the objectives' gradients, mean over `steps`, without subsets that never occur."""
    names, mean = mean_cosines(steps, modalities)
    off_diagonal = mean[~np.eye(len(names), dtype=bool)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 10.5), layout="constrained")
        ax = figure.subplots()
        ax.set_facecolor("0.8")  # shows where two objectives never met
        image = ax.imshow(np.ma.masked_invalid(mean), cmap="RdBu", vmin=-1, vmax=1)
        for (row, column), cosine in np.ndenumerate(mean):
            colour = "white" if abs(cosine) > 0.5 else "black"
            ax.text(column, row, f"{cosine:.2f}", ha="center", va="center", fontsize=10, color=colour)
        ax.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), names)
        ax.set_title(
            f"Cosines between the gradients of the objectives, mean over epoch {steps[-1]['epoch']}\n"
            f"lowest {np.nanmin(off_diagonal):.2f}, mean {np.nanmean(off_diagonal):.2f} (red: in conflict)"
        )
        figure.colorbar(image, shrink=0.7, label="cosine")
        return save_figure(figure, path)


def mean_cosines(steps: Sequence[dict], modalities: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The names of the subsets that occur, and their mean cosines [T, T], NaN where two never met.

    A step's matrix goes by its own losses: which subsets a step has depends on what its cases have.
    """
    occurring = {name for step in steps for name in step["losses"]}
    names = [name for name in map(subset_name, all_subsets(modalities)) if name in occurring]
    total, count = np.zeros((2, len(names), len(names)))
    for step in steps:
        where = np.ix_(*[[names.index(name) for name in step["losses"]]] * 2)
        total[where] += np.array(step["cosines"])
        count[where] += 1
    with np.errstate(invalid="ignore"):
        return names, total / count


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
    scored = [epoch for epoch in epochs if epoch["validation"] is not None]
    ax.plot([last_step[e["epoch"]] for e in scored], [e["validation"] for e in scored], "o-", color=LINE)
    ax.set_title(f"Validation: {words.title}")
    ax.set_ylabel(words.label)
    if words.limits is not None:
        ax.set_ylim(*words.limits)


def _draw_conflicts(ax: Axes, steps: Sequence[dict], epochs: Sequence[dict]) -> None:
    percent = 100 * thinned([step["conflicts"] for step in steps])
    ax.plot(thinned([step["step"] for step in steps]), percent, color=LINE)
    ax.set_title("Conflicts: pairs of objectives whose gradients have a negative inner product")
    ax.set_ylabel("% of pairs")
    ax.set_ylim(0, max(1, 1.05 * np.nanmax(percent)))
