"""The metrics of segmentation, per region: hard Dice, and HD95 in mm."""

import math
from collections.abc import Sequence

import numpy as np
from monai.metrics import compute_dice, get_mask_edges, get_surface_distance
from torch import Tensor


def hard_dice(predicted: Tensor, target: Tensor) -> list[float]:
    """Returns the Dice coefficient of each region's voxels in the whole volume, as in BraTS.

    It is 1 if prediction and truth are both empty, and 0 if only one of them is.

    predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on one device
    """
    return compute_dice(predicted[None], target[None], ignore_empty=False)[0].tolist()


def hausdorff95(predicted: Tensor, target: Tensor, spacing: Sequence[float]) -> list[float]:
    """Returns the 95th percentile of the Hausdorff distance of each region's surfaces, in mm.

    Surface voxels are those of a mask that have a voxel outside it, or the image's end, among their 6 neighbours. Each
    has its distance to the nearest surface voxel of the other mask. The 95th percentile of these distances (linear
    between two of them) is taken from prediction to truth and from truth to prediction, and the larger one counts: as
    MONAI and DeepMind's surface-distance do. Others, as MedPy, take one percentile of both directions together.

    Empty masks count as in the BraTS challenges up to 2022: 0 if both are empty; if only one is, the diagonal of the
    image, which is their 373.13 mm for 240 x 240 x 155 voxels of 1 mm. (From 2023 on they score lesion by lesion.)

    Args:
        predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on any device.
        spacing: size of a voxel along X, Y and Z in mm.

    Raises ValueError if their shapes differ or do not have four axes.
    """
    if predicted.ndim != 4 or predicted.shape != target.shape:
        shapes = f"{list(predicted.shape)}, {list(target.shape)}"
        raise ValueError(f"predicted, target: expected [R, X, Y, Z] both, got {shapes}")
    diagonal = math.hypot(*(count * size for count, size in zip(target.shape[1:], spacing, strict=True)))
    # in numpy: on a GPU MONAI would send every region there and back
    pairs = zip(predicted.bool().cpu().numpy(), target.bool().cpu().numpy(), strict=True)
    return [_of_region(mask, truth, spacing, diagonal) for mask, truth in pairs]


def _of_region(predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float], diagonal: float) -> float:
    """Returns HD95 of one region, bool [X, Y, Z] both, with the diagonal where only one of them is empty."""
    empty = [not predicted.any(), not target.any()]
    if any(empty):
        return 0.0 if all(empty) else diagonal
    # not compute_hausdorff_distance, which makes float copies of the whole volume, and warns of its own calls
    ours, theirs = get_mask_edges(predicted, target)  # cropped to both masks
    there = get_surface_distance(ours, theirs, spacing=list(spacing))
    back = get_surface_distance(theirs, ours, spacing=list(spacing))
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))
