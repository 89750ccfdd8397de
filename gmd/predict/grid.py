"""Brings volumes back to the grid of a case's own files, and writes them to the disk."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from gmd.data.segmentation.nifti import from_ras
from gmd.data.segmentation.opened_image import open_image
from gmd.data.segmentation.readable import readable
from gmd.errors import UserError
from gmd.files import replacing
from gmd.predict.signature import check_replaceable, signed

COMPRESSION = 4  # gzip's level: on MRI a third of the time of gzip's own 9, for files one per cent larger


@dataclass(frozen=True)
class Grid:
    """How a file stores its volume.

    Attributes:
        kind: the NIfTI version of the file; 1 if it has another format.
        header: that of the file, in this version.
        affine: [4, 4], from the file's voxel indices to mm.
    """

    kind: type[nibabel.Nifti1Image]
    header: nibabel.Nifti1Header
    affine: np.ndarray

    @classmethod
    def of(cls, path: Path) -> "Grid":
        """Returns the grid of a file that `read_volume` reads. Raises UserError if it cannot be read."""
        image = open_image(path)
        kind = nibabel.Nifti2Image if isinstance(image, nibabel.Nifti2Image) else nibabel.Nifti1Image
        with readable(path):  # headers of other formats may hold what NIfTI-1 has no room for
            header = kind.header_class.from_header(image.header)
        return cls(kind, header, image.affine)

    def image(self, data: np.ndarray, about: str = "segmentation") -> nibabel.Nifti1Image:
        """Returns an image of the data with the file's shape, orientation, affine, units, codes and extensions.

        data: [X, Y, Z], or [X, Y, Z, R], in RAS+; its type becomes the image's
        about: for the header's description: that of the file is of the file's own voxels
        """
        header = self.header.copy()
        header.set_data_dtype(data.dtype)
        # the file's intensities, which a viewer would choose its window by
        header["cal_min"] = header["cal_max"] = 0
        header["descrip"] = about.encode("utf-8")[:79]
        image = self.kind(from_ras(data, self.affine), self.affine, header)
        if data.ndim == 4:
            image.header.set_zooms((*image.header.get_zooms()[:3], 1.0))
        return image


def write_image(image: nibabel.Nifti1Image, path: Path) -> None:
    """Writes the whole image or nothing, signed, and compressed if the name ends in .gz.

    The same image gives the same bytes.
    Raises UserError if it cannot be written, or if something is there that only others can make again.
    """
    check_replaceable([path])  # again: it may have come while the case was predicted
    content = signed(image.to_bytes())
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, COMPRESSION, mtime=0)
    try:
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); nothing half-written is left. "
            "Mend that (room on the disk? rights?), then give the same command again"
        ) from error
