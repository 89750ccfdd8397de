"""Volumes in numpy's `.npy`, as nibabel has images: without a place in space, so that a voxel counts as 1 mm.

The file is read, not mapped into memory: one that another program cuts off meanwhile is an error, where the map of it
would end this process.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage

from gmd.data.npy_header import read_array_header
from gmd.errors import UserError
from gmd.files import open_regular
from gmd.memory_limit import check_claim

ENDING = ".npy"


def is_npy(path: Path) -> bool:
    """Returns whether a file is called as numpy's arrays are."""
    return path.name.lower().endswith(ENDING)


class NpyVoxels:
    """The numbers of a `.npy`, read when an array is made of them, as nibabel's array proxies are.

    Attributes:
        path: of the file.
        shape, dtype: of the array.
    """

    is_proxy = True

    def __init__(self, path: Path):
        """Reads the header. Raises UserError for Python objects, and another size than the header says; ValueError."""
        with open_regular(path) as file:
            self.shape, self._columns_first, self.dtype = read_array_header(file)
            self._start = file.tell()
            held = os.fstat(file.fileno()).st_size - self._start
        if self.dtype.hasobject:
            raise UserError(f"{path}: holds Python objects, which are never loaded; save an array of numbers")
        claimed = math.prod(self.shape) * self.dtype.itemsize
        if claimed != held:
            raise UserError(
                f"{path}: claims to be {self.dtype} {list(self.shape)}, of {claimed} bytes, and has {held}; it is cut "
                "off or damaged: copy it anew"
            )
        self.path = path

    @property
    def ndim(self) -> int:
        """Returns the number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        numbers = self._read(0, math.prod(self.shape)).astype(dtype or self.dtype)
        return numbers.reshape(self.shape[::-1]).T if self._columns_first else numbers.reshape(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray[Any, Any]:
        return np.asarray(self)[index]

    def slabs(self) -> Iterator[np.ndarray]:
        """Yields the array in pieces along its first axis, those in the middle first; whole, if it lies otherwise."""
        if self._columns_first or not all(self.shape):
            yield np.asarray(self)
            return
        size = math.prod(self.shape[1:])
        for place in sorted(range(self.shape[0]), key=lambda place: abs(place - self.shape[0] // 2)):
            yield self._read(place * size, size).reshape(self.shape[1:])

    def _read(self, first: int, count: int) -> np.ndarray:
        """Reads numbers from the so-manieth on. Raises EOFError if the file has become shorter."""
        check_claim(self.path, count * self.dtype.itemsize, f"an array of shape {list(self.shape)}")
        with open_regular(self.path) as file:
            file.seek(self._start + first * self.dtype.itemsize)
            numbers = np.fromfile(file, self.dtype, count)
        if len(numbers) < count:
            raise EOFError(f"{len(numbers)} numbers from the {first}th on, expected {count}")
        return numbers


def open_npy(path: Path) -> SpatialImage:
    """Opens an array of numpy as an image whose voxels are 1 mm along each axis, in RAS+ as they lie.

    Raises UserError as `NpyVoxels`, and what it raises.
    """
    image = SpatialImage(NpyVoxels(path), np.eye(4))
    if image.get_data_dtype() == np.float16:  # which no NIfTI header can say, as that of a prediction has to
        image.set_data_dtype(np.float32)
    return image


def varying_volumes(path: Path) -> list[bool]:
    """Returns, for each volume along the last of four axes, whether it holds more than one value.

    All that is read is what it takes to see that: of a volume of one value the whole file.
    Raises UserError as `open_npy`, if the array has not four axes or nothing in it; ValueError, and what numpy raises.
    """
    voxels = NpyVoxels(path)
    if voxels.ndim != 4 or not all(voxels.shape) or voxels.dtype.kind not in "iuf":
        raise UserError(f"{path}: is {voxels.dtype} {list(voxels.shape)}, expected numbers [X, Y, Z, channels]")
    varying = np.zeros(voxels.shape[-1], bool)
    first: np.ndarray | None = None
    for slab in voxels.slabs():
        rows = slab.reshape(-1, slab.shape[-1])
        first = rows[0] if first is None else first
        varying |= (rows != first).any(axis=0)
        if varying.all():
            break
    return varying.tolist()
