"""Reading one case: its files brought to one orientation, checked against each other, normalised, as tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from torch import Tensor

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.image_files import is_npy
from gmd.data.segmentation.labels import region_targets
from gmd.data.segmentation.nifti import Volume, read_channels, read_volume
from gmd.data.segmentation.opened_image import check_memory, open_image
from gmd.data.segmentation.z_scored import check_z_scored, without_background
from gmd.errors import UserError
from gmd.memory_limit import check_claim
from gmd.printing import warn

MOST_BRAIN = 0.9  # more than that of a volume is hardly brain
ROUNDED = 0.1  # mm by which affines may differ that were one before a tool rounded them; more is another place


def load_case(case: Case, labels: bool = True, zero_is_missing: bool = False) -> dict:
    """Reads a case as a MONAI-style dictionary, in RAS+ orientation, however its files are stored.

    Each modality that EXISTS -> float32 tensor [1, X, Y, Z], normalised (see `normalise`). A modality that is
    absent has no key, and nothing stands in for it. Further
        "target"  uint8 tensor [R, X, Y, Z], 0/1 per region of the case's scheme; if labels are wanted and there
        "brain"   bool tensor [1, X, Y, Z]: the mask file > 0.5; without one, where any modality is non-zero
        "name"    str
        "affine"  float64 array [4, 4], voxel indices (in RAS+) to mm
        "scheme"  the LabelScheme of the case; if there is a target
    labels: whether the label map is wanted, if there is one
    zero_is_missing: a modality that is 0 everywhere in the brain, or has one value there as a mask has, counts as
        absent; otherwise it is an error
    Raises UserError: what `read_volume` raises, files on different grids (other orientations of one grid are no
        difference), an empty brain, no modality left, unknown label values, label values whose meaning nothing says.
    """
    return prepare_case(case, read_files(case, labels), zero_is_missing)


def prepare_case(case: Case, volumes: dict[str, Volume], zero_is_missing: bool = False) -> dict:
    """Makes what `load_case` returns of the volumes of a case, as `read_files` has read them."""
    brain = _brain(case, volumes)
    result: dict[str, Any] = dict(_normalised_modalities(case, volumes, brain, zero_is_missing))
    if "seg" in volumes:
        if case.scheme is None:
            raise UserError(f"case {case.name}: nothing says what its label values mean; give it a label scheme")
        result["scheme"] = case.scheme
        result["target"] = torch.from_numpy(region_targets(volumes["seg"].data, case.scheme, str(case.label)))
    affine = next(iter(volumes.values())).affine
    return result | {"brain": torch.from_numpy(brain)[None], "name": case.name, "affine": affine}


def read_files(case: Case, labels: bool = True) -> dict[str, Volume]:
    """Reads each modality, the brain mask as "mask" and, if wanted, the labels as "seg".

    The background of modalities that are z-scored already becomes 0, which it is in other files.
    Raises UserError: what `read_volume` raises, files that claim too much memory together, files on different grids.
    """
    paths = _paths(case, labels)
    memory_of(case, labels)
    if case.channels:
        images = read_channels(next(iter(case.images.values())), case.channels, case.images)
        volumes = images | {key: read_volume(path) for key, path in paths.items() if key not in images}
    else:
        volumes = {key: read_volume(path) for key, path in paths.items()}
    _check_same_grid(case, paths, volumes)
    z_scored = {modality: volumes[modality] for modality, path in case.images.items() if is_npy(path)}
    return volumes | {m: volume._replace(data=without_background(volume.data)) for m, volume in z_scored.items()}


def memory_of(case: Case, labels: bool = True) -> int:
    """Returns how many bytes it takes to read a case, by the headers of its files.

    Raises UserError if a file cannot be opened, or if one of them or all together may not take so much.
    """
    files = dict.fromkeys(_paths(case, labels).values())  # one may hold several modalities
    claimed = sum(check_memory(path, open_image(path)) for path in files)
    check_claim(case.folder, claimed, f"case {case.name}, of {len(files)} files together,")
    return claimed


def _paths(case: Case, labels: bool) -> dict[str, Path]:
    """Returns the files of a case that are to be read: modality, "mask" or "seg" -> path."""
    mask = {} if case.mask is None else {"mask": case.mask}
    seg = {} if case.label is None or not labels else {"seg": case.label}
    return case.images | mask | seg


def _normalised_modalities(
    case: Case, volumes: dict[str, Volume], brain: np.ndarray, zero_is_missing: bool
) -> dict[str, Tensor]:
    """Normalises each modality inside the mask file, or where it is non-zero itself: float32 [1, X, Y, Z].

    So a modality is what it would be if the case had no other. What is z-scored already stays as it is there.
    Raises UserError for a modality that shows nothing, unless that counts as missing, for one that is not z-scored
    where all should be, and if none is left.
    """
    modalities = {}
    for modality, path in case.images.items():
        image = volumes[modality].data
        own = brain if case.mask else image != 0  # what other modalities show must not leak into this one
        if is_npy(path):
            check_z_scored(path, modality, image[own])
            normalised = np.where(own, image, np.float32(0))
        else:
            normalised = normalise(image, own) if own.any() else image
        if normalised.any():
            modalities[modality] = torch.from_numpy(normalised)[None]
        elif not zero_is_missing:
            raise UserError(_shows_nothing(path, image[own], case.mask))
    if not modalities:
        inside = f" inside {case.mask}" if case.mask else ""
        raise UserError(f"case {case.name}: every modality has one value only{inside}; there is nothing to look at")
    return modalities


def _shows_nothing(path: Path, values: np.ndarray, mask: Path | None) -> str:
    """Returns the error message for a modality without contrast.

    values: of the image, in the mask, or where it is not 0
    """
    where = f"every voxel inside {mask}" if mask else "every voxel that is not 0" if values.any() else "every voxel"
    what = f"is {np.median(values):g}, or nearly every one (a mask?)" if values.any() else "is 0"
    return (
        f"{path}: {where} {what}; mend or remove the file, a missing modality is no trouble "
        "(gmd predict --zero-is-missing takes it for one)"
    )


def _brain(case: Case, volumes: dict[str, Volume]) -> np.ndarray:
    """Returns the brain, bool [X, Y, Z]: inside the mask file, or where any modality is not 0.

    Warns if that is nearly the whole volume, which no brain is. Raises UserError if it is empty.
    """
    if case.mask:
        brain = volumes["mask"].data > 0.5
    else:
        brain = np.logical_or.reduce([volumes[modality].data != 0 for modality in case.images])
    if not brain.any():
        reason = f"{case.mask} is empty" if case.mask else "every voxel of every modality is 0"
        raise UserError(f"case {case.name}: no brain, since {reason}; mend or remove the case")
    if not case.mask and brain.mean() > MOST_BRAIN:
        warn(
            f"case {case.name}: {brain.mean():.0%} of the voxels are not 0, so all of them count as brain; if the "
            "background has another value, give a brain mask: --patterns ... mask=GLOB to train, --image mask=FILE to "
            "predict",
            stacklevel=3,
        )
    return brain


def normalise(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Clips an image to the 0.5 and 99.5 percentiles inside the brain and z-scores it there; outside it becomes 0.

    image: float32 [X, Y, Z]; brain: bool [X, Y, Z]
    returns float32 [X, Y, Z], all zeros where the image is constant. Raises UserError if the brain is empty.
    """
    if not brain.any():
        raise UserError("the brain mask is empty, so there is nothing to normalise by; check the mask")
    values = image[brain].astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    result = np.zeros(image.shape, np.float32)
    if high > low:
        values = values.clip(low, high)
        result[brain] = (values - values.mean()) / values.std()
    return result


def _check_same_grid(case: Case, paths: dict[str, Path], volumes: dict[str, Volume]) -> None:
    """Raises UserError if a volume lies on another grid than the first."""
    first, *others = volumes
    for key in others:
        if differing := _differences(volumes[first], volumes[key], case.affine_tolerance):
            both = f"{paths[first].name} and {paths[key].name}"
            advice = "resample them to one grid"
            shapes = volumes[first].data.shape, volumes[key].data.shape
            if shapes[0] == shapes[1] and np.abs(volumes[first].affine - volumes[key].affine).max() < ROUNDED:
                advice += ", or allow more by --affine-tolerance if another tool has only rounded the numbers"
            raise UserError(f"case {case.name}: {both} differ in {'; in '.join(differing)}; {advice}")


def _differences(a: Volume, b: Volume, tolerance: float) -> list[str]:
    """Returns what the grids of two volumes differ in, in words; nothing if they are one grid.

    tolerance: mm by which spacing and affine may differ
    """
    found = []
    if a.data.shape != b.data.shape:
        found.append(f"shape, {a.data.shape} and {b.data.shape}")
    ours, theirs = voxel_sizes(a.affine), voxel_sizes(b.affine)
    if not np.allclose(ours, theirs, atol=tolerance):
        told = (" x ".join(f"{mm:.4g}" for mm in spacing) for spacing in (ours, theirs))
        found.append(f"spacing, {' and '.join(told)} mm")
    # where the grids differ their first voxels do too, which would tell nothing new
    if not found and not np.allclose(a.affine, b.affine, atol=tolerance):
        largest = np.abs(a.affine - b.affine).max()
        found.append(f"affine, by {largest:.4g} (allowed {tolerance:g})")
    return found
