"""Draws a case: its modalities, the truth, and what the network predicts from each modality and from all."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import matplotlib
import nibabel
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from gmd.pictures.style import STYLE, boxes_for_letters, drawn, save_figure
from gmd.scoring.segmentation.tables import Score
from gmd.subsets import Subset

# Okabe and Ito's colours, which colour-blind readers tell apart; regions nest, so later ones are drawn on top
REGION_COLOURS = ("#56B4E9", "#F0E442", "#D55E00", "#009E73", "#CC79A7", "#0072B2")
MOST_PIXELS = 8000  # of a side of a picture; WebP, as the report has it, takes 16383


def draw_case(
    case: dict,
    predictions: dict[Subset, Tensor],
    scores: Iterable[Score],
    regions: Sequence[str],
    path: Path,
    about: str = "",
) -> Path:
    """Draws the axial slice with most tumour: modalities and truth, below them predictions from each and from all.

    Args:
        case: of `load_case`, with a target.
        predictions: subset -> bool [R, X, Y, Z], for each modality present alone and for all of them.
        scores: among them the Dice of these predictions.
        regions: [R] their names.
        path: of the picture, .png, which is returned; a voxel is a whole number of its pixels wide.
        about: a remark behind the case's name.
    """
    modalities = max(predictions, key=len)
    subsets = [*((m,) for m in modalities), modalities] if len(modalities) > 1 else [modalities]
    width = max(len(subsets), 2)
    dice = {(s.subset, s.region): s.dice for s in scores if s.case == case["name"]}
    view = _Slice(case)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * width, 8.4), layout="constrained")
        above, below = figure.subplots(2, width)
        for ax in (*above, *below):
            ax.axis("off")
        for ax, modality in zip(above, modalities, strict=False):
            view.draw(ax, case[modality][0], drawn(modality, 30))
        view.draw(above[-1], case[modalities[0]][0], "ground truth", case["target"])
        for ax, subset in zip(below, subsets, strict=False):
            numbers = "  ".join(f"{drawn(region, 20)} {dice[subset, region]:.2f}" for region in regions)
            view.draw(ax, case[subset[0]][0], f"{_origin(subset)}\n{numbers}", predictions[subset])
        figure.suptitle(f"{drawn(case['name'])}{about and f': {about}'}\nDice of the whole volume")
        patches = [Patch(color=c, label=drawn(r)) for r, c in zip(regions, REGION_COLOURS, strict=False)]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(regions), frameon=False)
        matplotlib.rcParams["savefig.dpi"] = view.resolution(above[0])
        return save_figure(figure, path)


def _origin(subset: Subset) -> str:
    return f"from {drawn(subset[0], 30)} alone" if len(subset) == 1 else f"from all {len(subset)}"


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
        """Returns the volume [X, Y, Z] with axes towards right, front and top, however the file has them."""
        return nibabel.orientations.apply_orientation(volume.cpu().numpy(), self.orientation)

    def cut(self, volume: Tensor) -> np.ndarray:
        """Returns the slice [Y, X] of the volume [X, Y, Z], as imshow takes it."""
        return self._upright(volume)[(*self.box, self.index)].T

    def draw(self, ax: Axes, image: Tensor, title: str, masks: Tensor | None = None) -> None:
        """Draws the slice of an image [X, Y, Z], under the outlines and tints of masks [R, X, Y, Z] if given."""
        low, high = np.percentile(image[self.inside].numpy(), (0.5, 99.5))
        how = {"origin": "lower", "aspect": self.aspect, "interpolation": "nearest"}
        grey = np.where(self.cut(self.inside), self.cut(image), low)
        ax.imshow(grey, cmap="gray", vmin=low, vmax=high, **how)
        ax.set_title(title)
        if masks is not None:
            self._overlay(ax, [self.cut(mask).astype(bool) for mask in masks], how)

    def resolution(self, ax: Axes) -> float:
        """Returns the dots per inch at which the narrower side of a voxel, as the axes show it, is whole pixels wide.

        They are those of all pictures, or the next more; fewer only where a side of the picture had over MOST_PIXELS.
        """
        figure = cast(Figure, ax.get_figure(root=True))
        with boxes_for_letters():
            figure.draw_without_rendering()  # lays the axes out
        box, voxels = ax.get_window_extent(), self.cut(self.inside).shape
        inches = min(box.width / voxels[1], box.height / voxels[0]) / figure.dpi  # of a voxel
        least = STYLE["savefig.dpi"]
        return min(math.ceil(least * inches) / inches, MOST_PIXELS / max(figure.get_size_inches()))

    def _overlay(self, ax: Axes, masks: Sequence[np.ndarray], how: dict) -> None:
        innermost = np.zeros(masks[0].shape)  # one tint per voxel: two over each other make a third colour
        for number, mask in enumerate(masks, start=1):
            innermost[mask] = number
            if mask.any():
                ax.contour(mask, levels=[0.5], colors=REGION_COLOURS[number - 1], linewidths=1.8)
        tints, top = ListedColormap(REGION_COLOURS[: len(masks)]), len(masks) + 0.5
        ax.imshow(np.ma.masked_equal(innermost, 0), cmap=tints, vmin=0.5, vmax=top, alpha=0.5, **how)
