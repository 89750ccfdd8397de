"""The metrics of segmentation, per region: hard Dice, HD95 in mm, surface Dice, and volumes."""

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
    return [surface_hd95(mask, truth, spacing, diagonal) for mask, truth in pairs]


def surface_hd95(predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float], penalty: float) -> float:
    """Returns HD95 of one region in mm, see `hausdorff95`: 0 if both are empty, the penalty if one of them is.

    predicted, target: bool [X, Y, Z]; penalty: in mm
    """
    empty = [not predicted.any(), not target.any()]
    if any(empty):
        return 0.0 if all(empty) else penalty
    return float(max(np.percentile(distances, 95) for distances in _surface_distances(predicted, target, spacing)))


def surface_dice(predicted: Tensor, target: Tensor, spacing: Sequence[float], tolerance: float) -> list[float]:
    """Returns the normalised surface Dice of each region: the share of both surfaces that lies close to the other one.

    Surfaces and distances are those of HD95, and the share is MONAI's `compute_surface_dice`, of voxels of the surfaces
    (Nikolov et al., 2018, arXiv:1809.04430, weigh them by their area). It is 1 if prediction and truth are both empty,
    where MONAI has NaN, and 0 if only one of them is.

    Args:
        predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on any device.
        spacing: size of a voxel along X, Y and Z in mm.
        tolerance: how far apart in mm still counts as close.
    """
    pairs = zip(predicted.bool().cpu().numpy(), target.bool().cpu().numpy(), strict=True)
    return [_surface_dice(*pair, spacing, tolerance) for pair in pairs]


def volumes(predicted: Tensor, target: Tensor, spacing: Sequence[float]) -> list[dict[str, float | None]]:
    """Returns the volumes of each region in ml, and how far they are apart: in ml, and as a share of the true one.

    The share is None where the truth is empty. Arguments are those of `hausdorff95`.
    """
    millilitres = math.prod(map(float, spacing)) / 1000
    found = []
    for mask, truth in zip(predicted, target, strict=True):
        voxels, true_voxels = int(mask.sum()), int(truth.sum())
        apart = abs(voxels - true_voxels)
        found.append(
            {
                "true_ml": true_voxels * millilitres,
                "predicted_ml": voxels * millilitres,
                "error_ml": apart * millilitres,
                "relative_error": apart / true_voxels if true_voxels else None,
            }
        )
    return found


def _surface_dice(predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float], tolerance: float) -> float:
    """Returns the surface Dice of one region, bool [X, Y, Z] both."""
    empty = [not predicted.any(), not target.any()]
    if any(empty):
        return float(all(empty))
    return float((np.concatenate(_surface_distances(predicted, target, spacing)) <= tolerance).mean())


def _surface_distances(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far each surface voxel is from the other surface in mm: of the prediction's, then of the truth's.

    predicted, target: bool [X, Y, Z], neither of them empty
    """
    # not compute_hausdorff_distance, which makes float copies of the whole volume, and warns of its own calls
    ours, theirs = get_mask_edges(predicted, target)  # cropped to both masks
    there = get_surface_distance(ours, theirs, spacing=list(spacing))
    back = get_surface_distance(theirs, ours, spacing=list(spacing))
    return np.asarray(there, np.float64), np.asarray(back, np.float64)  # a percentile lies between two of them
