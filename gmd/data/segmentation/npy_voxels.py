"""The numbers of a volume in numpy's `.npy`, read piece by piece.

The file is read, not mapped into memory: one that another program cuts off meanwhile is an error, where the map of it
would end this process.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gmd.data.npy_header import checked_header
from gmd.errors import UserError
from gmd.files import open_regular
from gmd.memory_limit import check_claim


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
            header = checked_header(f"{path}:", file, os.fstat(file.fileno()).st_size)
        self.shape, self._columns_first, self.dtype, self._start = header
        self.path = path

    @property
    def ndim(self) -> int:
        """Returns the number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        order: Literal["F", "C"] = "F" if self._columns_first else "C"
        return self._read(0, math.prod(self.shape)).reshape(self.shape, order=order).astype(dtype or self.dtype)

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
