"""The header of an array as numpy writes it, in a `.npy` or inside a `.npz`: read before any room is made for it."""

import struct
from typing import IO, NamedTuple

import numpy as np

_LONGEST = 10_000  # letters of what stands before an array's numbers: numpy's own limit
_READERS = {(1, 0): ("<H", np.lib.format.read_array_header_1_0), (2, 0): ("<I", np.lib.format.read_array_header_2_0)}


class ArrayHeader(NamedTuple):
    """What stands before an array's numbers.

    Attributes:
        shape: no size of it is below 0.
        columns_first: whether the numbers lie in Fortran's order, the first axis the fastest.
        dtype: may be one of Python objects, which is for the caller to refuse.
    """

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype


def read_array_header(content: IO[bytes]) -> ArrayHeader:
    """Reads the header of an array, behind which the numbers begin.

    Raises ValueError and what numpy raises for bytes that are none: SyntaxError, TypeError, tokenize.TokenError, ...
    """
    version = np.lib.format.read_magic(content)
    if version not in _READERS:
        raise ValueError(f"format {version}, in which arrays with fields are written")
    kind, read = _READERS[version]
    # numpy reads all that is announced, and looks at its length then
    start = content.tell()
    [length] = struct.unpack(kind, content.read(struct.calcsize(kind)))
    if length > _LONGEST:
        raise ValueError(f"a header of {length} letters")
    content.seek(start)
    header = ArrayHeader(*read(content))
    if any(size < 0 for size in header.shape):
        raise ValueError(f"a shape of {list(header.shape)}")
    return header
