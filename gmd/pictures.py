"""The pictures of a run: how training went, how the objectives agree, what the network makes of a case."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import nibabel
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from gmd.config.file import CONFIG, read_yaml
from gmd.errors import UserError
from gmd.evaluation.tables import Score
from gmd.files import replacing
from gmd.subsets import Subset, all_subsets, subset_name

# Okabe and Ito's colours, which colour-blind readers tell apart; regions nest, so later ones are drawn on top
REGION_COLOURS = ("#56B4E9", "#F0E442", "#D55E00", "#009E73", "#CC79A7", "#0072B2")
LINE, BAND = "#0072B2", "#B7D7EA"
STYLE = {"font.size": 13, "axes.titlesize": 14, "figure.titlesize": 16, "savefig.dpi": 110}


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


def draw_case(
    case: dict,
    predictions: dict[Subset, Tensor],
    scores: Iterable[Score],
    regions: Sequence[str],
    path: Path,
    about: str = "",
) -> Path:
    """The axial slice with most tumour: modalities and truth, below predictions from each and from all.

    Args:
        case: of `load_case`, with a target.
        predictions: subset -> bool [R, X, Y, Z], for each modality present alone and for all of them.
        scores: among them the Dice of these predictions.
        about: a remark behind the case's name.
    """
    modalities = max(predictions, key=len)
    columns = [*((m,) for m in modalities), modalities] if len(modalities) > 1 else [modalities]
    width = max(len(columns), 2)
    dice = {(s.subset, s.region): s.dice for s in scores if s.case == case["name"]}
    view = _Slice(case)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * width, 8.4), layout="constrained")
        above, below = figure.subplots(2, width)
        for ax in (*above, *below):
            ax.axis("off")
        for ax, modality in zip(above, modalities, strict=False):
            view.draw(ax, case[modality][0], modality)
        view.draw(above[-1], case[modalities[0]][0], "ground truth", case["target"])
        for ax, subset in zip(below, columns, strict=False):
            numbers = "  ".join(f"{region} {dice[subset, region]:.2f}" for region in regions)
            who = f"from {subset[0]} alone" if len(subset) == 1 else f"from all {len(subset)}"
            view.draw(ax, case[subset[0]][0], f"{who}\n{numbers}", predictions[subset])
        named = f"{case['name']}: {about}" if about else case["name"]
        figure.suptitle(f"{named}\nDice of the whole volume")
        patches = [Patch(color=c, label=r) for r, c in zip(regions, REGION_COLOURS, strict=False)]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(regions), frameon=False)
        return save_figure(figure, path)


class _Slice:
    """Cuts all volumes of a case at one place: the axial slice with the most tumour, cropped to the brain.

    Without a tumour it is the slice with the most brain.
    """

    def __init__(self, case: dict):
        self.inside = case["brain"][0]
        self.orientation = nibabel.io_orientation(case["affine"])
        width, height, _ = nibabel.affines.voxel_sizes(case["affine"])[np.argsort(self.orientation[:, 0])]
        self.aspect = height / width  # of a pixel
        shown = case["target"].any(0) if case["target"].any() else self.inside
        self.index = int(self._upright(shown).sum(axis=(0, 1)).argmax())
        where = np.argwhere(self._upright(self.inside).any(axis=2))
        low, high = where.min(axis=0), where.max(axis=0)
        self.box = (slice(low[0], high[0] + 1), slice(low[1], high[1] + 1))

    def _upright(self, volume: Tensor) -> np.ndarray:
        """[X, Y, Z] with axes towards right, front and top, however the file has them."""
        return nibabel.orientations.apply_orientation(volume.cpu().numpy(), self.orientation)

    def cut(self, volume: Tensor) -> np.ndarray:
        """[Y, X], as imshow takes it."""
        return self._upright(volume)[(*self.box, self.index)].T

    def draw(self, ax: Axes, image: Tensor, title: str, masks: Tensor | None = None) -> None:
        """image [X, Y, Z], overlaid with the outlines and tints of masks [R, X, Y, Z]."""
        low, high = np.percentile(image[self.inside].numpy(), (0.5, 99.5))
        how = {"origin": "lower", "aspect": self.aspect}
        grey = np.where(self.cut(self.inside), self.cut(image), low)
        ax.imshow(grey, cmap="gray", vmin=low, vmax=high, **how)
        ax.set_title(title)
        if masks is not None:
            self._overlay(ax, [self.cut(mask).astype(bool) for mask in masks], how)

    def _overlay(self, ax: Axes, masks: Sequence[np.ndarray], how: dict) -> None:
        innermost = np.zeros(masks[0].shape)  # one tint per voxel: two over each other make a third colour
        for number, mask in enumerate(masks, start=1):
            innermost[mask] = number
            if mask.any():
                ax.contour(mask, levels=[0.5], colors=REGION_COLOURS[number - 1], linewidths=1.8)
        tints, top = ListedColormap(REGION_COLOURS[: len(masks)]), len(masks) + 0.5
        ax.imshow(np.ma.masked_equal(innermost, 0), cmap=tints, vmin=0.5, vmax=top, alpha=0.5, **how)


def read_metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """The lines of steps, and those of epochs."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    if not steps:
        raise UserError(f"{path}: no step recorded, so there is nothing to draw; train the run first")
    return steps, [line for line in lines if line["kind"] == "epoch"]


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


def thinned(values: Sequence[float | None], points: int = 300) -> np.ndarray:
    """At most so many means of neighbours, without the missing ones: more points would be a block of ink."""
    numbers = np.ma.masked_invalid(np.array(values, dtype=float))
    parts = np.array_split(numbers, min(len(numbers), points))
    return np.array([part.mean() if part.count() else np.nan for part in parts])


def save_figure(figure: Figure, path: Path) -> Path:
    """The picture, or whatever was there before."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished)
    return path
