"""The header of an array as numpy writes it, in a `.npy` or inside a `.npz`: read before any room is made for it."""

import math
import struct
from typing import IO, NamedTuple

import numpy as np

from gmd.errors import UserError

_LONGEST_HEADER = 10_000  # letters of what stands before an array's numbers: numpy's own limit
_HEADERS = {(1, 0): ("<H", np.lib.format.read_array_header_1_0), (2, 0): ("<I", np.lib.format.read_array_header_2_0)}


class Header(NamedTuple):
    """What stands before the numbers of an array of numpy.

    Attributes:
        shape, dtype: of the array; by_columns: whether its first axis runs fastest (Fortran's order).
        start: bytes before the numbers.
    """

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """The bytes that its numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def checked_header(what: str, content: IO[bytes], size: int) -> Header:
    """Reads what stands before an array's numbers, and finds what it claims to be all that there is.

    what: the array, for error messages; size: of the whole content
    Raises UserError for objects of Python, and for a header that claims another size; or any of UNREADABLE.
    """
    header = read_header(content)
    if header.dtype.hasobject:
        raise UserError(
            f"{what} holds Python objects, which are never loaded from a file of arrays; save arrays of numbers and str"
        )
    if header.size != size - header.start:
        raise UserError(
            f"{what} claims to be {header.dtype} {list(header.shape)}, of {header.size} bytes, and has "
            f"{size - header.start}; it is damaged: copy or download it anew"
        )
    return header


def read_header(content: IO[bytes]) -> Header:
    """Reads what stands before an array's numbers, of a .npy file or a member of a .npz. Raises `UNREADABLE`."""
    version = np.lib.format.read_magic(content)
    if version not in _HEADERS:
        raise ValueError(f"format {version}, in which arrays with fields are written")
    kind, read = _HEADERS[version]
    # numpy reads all that is announced, and looks at its length then
    start = content.tell()
    [length] = struct.unpack(kind, content.read(struct.calcsize(kind)))
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} letters")
    content.seek(start)
    shape, by_columns, dtype = read(content)
    if any(size < 0 for size in shape):
        raise ValueError(f"a shape of {list(shape)}")
    return Header(shape, by_columns, dtype, content.tell())
