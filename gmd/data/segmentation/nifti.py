"""Reading one volume of a NIfTI file, turned to RAS+ (axes to the right, to the front and up), and turning it back."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import SpatialImage

from gmd.data.segmentation.opened_image import open_image, read_voxels
from gmd.data.segmentation.readable import readable
from gmd.errors import UserError
from gmd.printing import warn

RAS = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's: input axis i goes along output axis [i, 0], flipped if [i, 1] < 0


class Volume(NamedTuple):
    """A volume in RAS+ orientation.

    Attributes:
        data: float32 [X, Y, Z], C-contiguous.
        affine: float64 [4, 4], from voxel indices of `data` to mm; oblique where the file's is.
    """

    data: np.ndarray
    affine: np.ndarray


def read_volume(path: Path) -> Volume:
    """Reads one volume, scaled as its header says, in RAS+.

    A NIfTI header whose qform and sform codes are both 0 says nothing of orientation: the axes are taken to point left,
    to the front and up, as nibabel has it, with a warning.
    Raises UserError: a file that cannot be read, that holds anything but one volume of real numbers, that does not say
    how it lies in space, that claims more memory than one may take, or with voxels that are not finite. Raises NoRoom
    if there is no memory for it.
    """
    image = open_image(path)
    _check_header(path, image)
    data = read_voxels(path, image)
    return _finite(path, data.reshape(data.shape[:3]), image.affine)


def read_channels(path: Path, channels: Mapping[str, int], wanted: Iterable[str]) -> dict[str, Volume]:
    """Reads volumes that lie along the fourth axis of one file, as `read_volume` reads one.

    channels: modality -> its place on that axis, of all volumes in the file; wanted: the modalities to return. A single
        one needs no fourth axis.
    returns modality -> volume. Raises UserError as `read_volume`, and if the file has another number of volumes.
    """
    image = open_image(path)
    if len(channels) != math.prod(image.shape[3:]):
        raise UserError(
            f"{path}: has shape {image.shape}, expected four axes with {len(channels)} volumes along the last, for "
            f"{', '.join(channels)}; say by --channels what each volume is"
        )
    _check_header(path, image, volumes=len(channels))
    data = read_voxels(path, image)
    data = data.reshape(*data.shape[:3], len(channels))
    return {modality: _finite(path, data[..., channels[modality]], image.affine) for modality in wanted}


def read_affine(path: Path) -> np.ndarray:
    """Reads the affine in the header of a file, [4, 4], and nothing else. Raises UserError if it tells no place."""
    image = open_image(path)
    _check_affine(path, image)
    return image.affine


def _finite(path: Path, data: np.ndarray, affine: np.ndarray) -> Volume:
    """Returns a volume in RAS+. Raises UserError for voxels that are not finite."""
    if bad := int(np.count_nonzero(~np.isfinite(data))):
        raise UserError(
            f"{path}: {bad} of {data.size} voxels are NaN or infinite; give them finite values, 0 outside the brain"
        )
    return to_ras(data, affine)


def voxel_checksum(volume: Volume) -> str:
    """Returns a checksum of the voxels, which is the same however the file is packed, stored, or turned."""
    return hashlib.blake2b(volume.data.data, digest_size=8).hexdigest()


def to_ras(data: np.ndarray, affine: np.ndarray) -> Volume:
    """Swaps and flips the axes so that they point to the right, to the front and up; nothing is resampled.

    data: [X, Y, Z]; affine: its own, float64 [4, 4]
    """
    orientation = io_orientation(affine)
    turned = np.ascontiguousarray(apply_orientation(data, orientation))
    return Volume(turned, affine @ inv_ornt_aff(orientation, data.shape))


def from_ras(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turns a volume from RAS+ back to a file's own orientation, undoing `to_ras`.

    data: in RAS+, [X, Y, Z] or [X, Y, Z, R]; affine: that of the orientation to go back to, float64 [4, 4]
    """
    return np.ascontiguousarray(apply_orientation(data, ornt_transform(RAS, io_orientation(affine))))


def _check_header(path: Path, image: SpatialImage, volumes: int = 1) -> None:
    """Raises UserError for what the header says is not so many volumes of real numbers that lie somewhere in space.

    It is asked before any voxel is read, as a series of hundreds of volumes may not fit into memory. Warns where the
    header says nothing of orientation.
    """
    found = math.prod(image.shape[3:])
    if len(image.shape) < 3 or found != volumes:
        several = f", that is {found} volumes" if len(image.shape) > 3 else ""
        raise UserError(
            f"{path}: has shape {image.shape}{several}; expected three axes, or a fourth of length 1: "
            "split it into single volumes and give one"
        )
    if min(image.shape) < 1:
        raise UserError(f"{path}: has shape {image.shape}, expected at least one voxel along each axis; copy it anew")
    if image.get_data_dtype().kind not in "iuf":
        raise UserError(f"{path}: holds {image.get_data_dtype()}, expected one real number for each voxel")
    _check_affine(path, image)
    if isinstance(image, nibabel.Nifti1Pair) and not (image.header["qform_code"] or image.header["sform_code"]):
        warn(
            f"{path}: its header does not say how the volume lies in space (qform and sform codes are 0); the axes are "
            "taken to point left, to the front and up, which is a guess: if it is wrong, set the sform",
            stacklevel=3,
        )


def _check_affine(path: Path, image: SpatialImage) -> None:
    """Raises UserError for an affine that does not say which way the axes of the voxels point."""
    with readable(path):  # numbers close to the end of their range have no singular values
        told = bool(np.isfinite(image.affine).all()) and not np.isnan(io_orientation(image.affine)).any()
    if not told:
        raise UserError(
            f"{path}: its affine {image.affine.tolist()} does not say where its axes point; mend the header's sform or "
            "qform"
        )
