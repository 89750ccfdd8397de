"""Reading one case: NIfTI files checked against each other, normalised, as tensors."""

import gzip
import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from gmd.data.cases import Case
from gmd.data.labels import LabelScheme, region_targets
from gmd.errors import UserError

MOST_BRAIN = 0.9  # more than that of a volume is hardly brain
Volume = tuple[np.ndarray, np.ndarray]  # float32 [X, Y, Z]; affine, float64 [4, 4], voxel indices to mm

# what nibabel and gzip raise for files that are cut off, damaged, or something else (found by flipping bits)
_UNREADABLE = (
    *(OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, WrapStructError),
    *(ValueError, TypeError, OverflowError),
)


def load_case(case: Case, scheme: LabelScheme | None) -> dict:
    """A MONAI-style dictionary of one case.

    Each modality that EXISTS -> float32 tensor [1, X, Y, Z], normalised (see `normalise`). A modality that is
    absent has no key, and nothing stands in for it. Further
        "target"  uint8 tensor [R, X, Y, Z], 0/1 per region of the scheme; if there are label map and scheme
        "brain"   bool tensor [1, X, Y, Z]: the mask file > 0.5; without one, where any modality is non-zero. Each
                  modality is normalised inside the mask, or where it is non-zero itself: so it is what it would be
                  if the case had no other.
        "name"    str
        "affine"  float64 array [4, 4], voxel indices to mm
    Raises UserError: a file that cannot be read or is not three-dimensional, voxels that are not finite,
        files of different shape or affine, an empty brain, unknown label values.
    """
    paths = dict(case.images)
    if case.mask is not None:
        paths["mask"] = case.mask
    if case.label is not None and scheme is not None:
        paths["seg"] = case.label
    volumes = {key: _read(path) for key, path in paths.items()}
    _check_same_space(case.name, paths, volumes)

    images = {modality: volumes[modality][0] for modality in case.images}
    brain = volumes["mask"][0] > 0.5 if case.mask else np.logical_or.reduce(list(images.values()))
    if not brain.any():
        reason = f"{case.mask} is empty" if case.mask else "every voxel of every modality is 0"
        raise UserError(f"case {case.name}: no brain, since {reason}; mend or remove the case")
    if not case.mask and brain.mean() > MOST_BRAIN:
        warnings.warn(
            f"case {case.name}: {brain.mean():.0%} of the voxels are not 0, so all of them count as brain; if the "
            "background has another value, give a brain mask: --patterns ... mask=GLOB",
            stacklevel=2,
        )
    result = {}
    for key, image in images.items():
        own = brain if case.mask else image != 0  # what other modalities show must not leak into this one
        if not own.any():
            raise UserError(
                f"{paths[key]}: every voxel is 0; mend or remove the file, a missing modality is no trouble"
            )
        result[key] = torch.from_numpy(normalise(image, own))[None]
    if "seg" in volumes:
        result["target"] = torch.from_numpy(region_targets(volumes["seg"][0], scheme, str(case.label)))
    affine = next(iter(volumes.values()))[1]
    return result | {"brain": torch.from_numpy(brain)[None], "name": case.name, "affine": affine}


def normalise(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Clipped to the 0.5 and 99.5 percentiles inside the brain, z-scored inside the brain, 0 outside.

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


def _read(path: Path) -> Volume:
    try:
        image = _open(path)
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except _UNREADABLE as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); "
            "it may be cut off, damaged or no NIfTI file: copy or download it anew"
        ) from error
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise UserError(f"{path}: has shape {data.shape}, expected three axes; split it into single volumes")
    if bad := int(np.count_nonzero(~np.isfinite(data))):
        raise UserError(f"{path}: {bad} of {data.size} voxels are NaN or infinite; give them finite values")
    return data, image.affine


def _open(path: Path) -> SpatialImage:
    if not path.name.endswith(".nii.gz"):
        return nibabel.load(path)
    # nibabel stops before the checksum at the end: most flipped bits would pass. Read all of it
    content = gzip.decompress(path.read_bytes())
    nifti1 = nibabel.Nifti1Image.header_class.may_contain_header(content)
    return (nibabel.Nifti1Image if nifti1 else nibabel.Nifti2Image).from_bytes(content)


def _check_same_space(case: str, paths: dict[str, Path], volumes: dict[str, Volume]) -> None:
    first, *others = volumes
    data, affine = volumes[first]
    for key in others:
        other, other_affine = volumes[key]
        both = f"case {case}: {paths[first].name} and {paths[key].name} differ in"
        if other.shape != data.shape:
            raise UserError(f"{both} shape, {data.shape} and {other.shape}; resample them to one grid")
        if not np.allclose(other_affine, affine, atol=1e-3):
            largest = np.abs(other_affine - affine).max()
            raise UserError(f"{both} affine, by {largest:.4g} (allowed 0.001); resample them to one grid")
