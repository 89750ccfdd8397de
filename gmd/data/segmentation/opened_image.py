"""Opens an image: its header alone, then the voxels that the header speaks of, whatever else the file is or holds."""

import gzip
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import FileBasedImage, ImageFileError
from nibabel.imageclasses import all_image_classes
from nibabel.spatialimages import SpatialImage

from gmd.data.file_kind import is_gzip
from gmd.data.segmentation.image_files import is_npy
from gmd.data.segmentation.npy_image import open_npy
from gmd.data.segmentation.readable import readable
from gmd.errors import UserError
from gmd.files import check_regular, open_regular
from gmd.memory_limit import check_claim

MOST_HEADER = 2**28  # bytes before the voxels: the header, and extensions that may hold that of another format
MOST_BEHIND = 2**20  # bytes behind the voxels, which nothing reads
MOST_PACKED = 1032  # bytes that gzip can make of one: deflate's limit


def open_image(path: Path) -> SpatialImage:
    """Opens a file and reads its header; of a .nii or .nii.gz nothing more, and it can only be asked for that.

    A .nii that is compressed, and a .nii.gz that is not, are read as what they are.
    Raises UserError for a file that cannot be read, or is no regular one: a pipe, a device, a folder.
    """
    with readable(path):
        check_regular(path)
        if is_npy(path):
            return open_npy(path)
        return _open_nifti(path) if _is_called_nifti(path) else _open_other(path)


def read_voxels(path: Path, image: SpatialImage) -> np.ndarray:
    """Reads the voxels of a file, float32 in the header's shape, scaled as it says, and not a byte more than it claims.

    Of a .nii.gz all is read against the checksum, which nibabel, reading no further than the voxels, never comes to.

    image: what `open_image` returned for the path
    Raises UserError: a file that claims more memory than one may take, that is cut off, damaged, or much longer than
        its header says. Raises NoRoom if there is no memory for it.
    """
    check_memory(path, image)
    with readable(path):
        whole = _whole_nifti(path, image) if _is_called_nifti(path) else image
        return whole.get_fdata(dtype=np.float32, caching="unchanged")


def check_memory(path: Path, image: SpatialImage) -> int:
    """Returns how many bytes it takes to read an image, by its header. Raises UserError if a file may not take so much.

    They are what is stored, twice, and the voxels in float32, three times: for scaling, and turning them to RAS+.
    """
    sides = [max(int(side), 0) for side in image.shape]
    claimed = math.prod(sides) * (2 * image.get_data_dtype().itemsize + 12)
    check_claim(path, claimed, f"a volume of {' x '.join(map(str, sides))} voxels")
    return claimed


def _is_called_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Opens a file to read what is in it, decompressed if its first bytes say that it is compressed."""
    with open_regular(path) as file:
        if is_gzip(path):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _open_nifti(path: Path) -> nibabel.Nifti1Image:
    """Reads what comes before the voxels of a NIfTI-1 or NIfTI-2 file."""
    with _unpacked(path) as file:
        head = file.read(nibabel.Nifti2Header.sizeof_hdr + 4)
        kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
        kind = next((kind for kind in kinds if kind.header_class.may_contain_header(head)), None)
        if kind is None:
            raise ImageFileError("there is no header of NIfTI")
        begin = kind.header_class(head[: kind.header_class.sizeof_hdr], check=False).get_data_offset()
        if begin > MOST_HEADER:
            raise ImageFileError(f"its header has the voxels begin at byte {begin:.3g}, beyond {MOST_HEADER}")
        return kind.from_bytes(head + file.read(max(begin - len(head), 0)))


def _whole_nifti(path: Path, image: SpatialImage) -> nibabel.Nifti1Image:
    """Reads a NIfTI file to its end, if that is where the header says. image: of the header alone"""
    assert isinstance(image, nibabel.Nifti1Image)
    assert isinstance(image.dataobj, ArrayProxy)
    needed = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    most = os.stat(path).st_size * (MOST_PACKED if is_gzip(path) else 1)
    if most < needed:  # before room is made for it
        raise EOFError(f"its header speaks of {needed} bytes, and there are {most} at most")
    with _unpacked(path) as file:
        content = file.read(needed)
        if len(content) < needed:
            raise EOFError(f"its header speaks of {needed} bytes, and there are {len(content)}")
        if len(file.read(MOST_BEHIND + 1)) > MOST_BEHIND:
            raise ImageFileError(f"its header speaks of {needed} bytes, and more than {MOST_BEHIND} follow them")
    whole = type(image).from_bytes(content)
    if whole.header != image.header:
        raise ImageFileError("it has changed while it was read")
    return whole


def _open_other(path: Path) -> SpatialImage:
    """Opens a file of the other formats that nibabel knows, by its name; the files that belong to it are checked too.

    Their voxels are read when they are asked for, decompressed as far as the header speaks of them.
    """
    for kind in all_image_classes:
        for companion in _companions(kind, path):
            if companion.exists():  # the optional ones, as the .mat beside a .img
                check_regular(companion)
    kind = _kind_of(path)
    if not issubclass(kind, SpatialImage):  # a surface, for example
        raise UserError(f"{path}: {kind.__name__} holds no volume; give a NIfTI image")
    # a file that another program cuts off would end this one, if it were mapped into memory
    return kind.from_filename(path, mmap=False)


def _companions(kind: type[FileBasedImage], path: Path) -> list[Path]:
    """Returns the files that an image of this kind consists of: a .hdr for a .img, a .rec for a .par."""
    try:
        holders = kind.filespec_to_file_map(path).values()
        return [Path(holder.filename) for holder in holders if holder.filename]
    except ImageFileError:  # none of this kind is called so
        return []


def _kind_of(path: Path) -> type[FileBasedImage]:
    """Returns nibabel's class for a file, as `nibabel.load` finds it."""
    sniff = None
    for kind in all_image_classes:
        found, sniff = kind.path_maybe_image(path, sniff)
        if found:
            return kind
    raise ImageFileError("nothing that nibabel reads is called so and begins so")
