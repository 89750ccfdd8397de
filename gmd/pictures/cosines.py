"""Draws how the objectives of a training agree: the cosines between their gradients, as a matrix."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gmd.pictures.style import STYLE, drawn, save_figure
from gmd.subsets import all_subsets, subset_name


def draw_cosines(steps: Sequence[dict], modalities: Sequence[str], path: Path) -> Path:
    """Draws the cosines between the objectives' gradients, mean over the steps, of all subsets that occur.

    Args:
        steps: lines of metrics.jsonl, of one epoch, with cosines.
        modalities: all that the network has.
        path: of the picture, .png.

    Returns:
        The path.
    """
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
        labels = [drawn(name) for name in names]
        ax.set_xticks(range(len(names)), labels, rotation=55, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), labels)
        ax.set_title(
            f"Cosines between the gradients of the objectives, mean over epoch {steps[-1]['epoch']}\n"
            f"lowest {np.nanmin(off_diagonal):.2f}, mean {np.nanmean(off_diagonal):.2f} (red: in conflict)"
        )
        figure.colorbar(image, shrink=0.7, label="cosine")
        return save_figure(figure, path)


def mean_cosines(steps: Sequence[dict], modalities: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the names of the T subsets that occur, small ones first, and their mean cosines, float64 [T, T].

    A mean is NaN where two subsets never met. A step's matrix goes by its own losses, since which subsets a step has
    depends on what its cases have.
    """
    occurring = {name for step in steps for name in step["losses"]}
    names = [name for name in map(subset_name, all_subsets(modalities)) if name in occurring]
    total, count = np.zeros((2, len(names), len(names)))
    for step in steps:
        where = np.ix_(*[[names.index(name) for name in step["losses"]]] * 2)
        total[where] += np.array(step["cosines"], dtype=float)  # null becomes NaN
        count[where] += 1
    with np.errstate(invalid="ignore"):
        return names, total / count
