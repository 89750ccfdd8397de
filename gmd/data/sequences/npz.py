"""Reading arrays from `.npz` files, never through pickle, and checking them."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmd.data.file_kind import unreadable
from gmd.errors import UserError, shown

Arrays = dict[str, np.ndarray]

# what numpy and zipfile raise for files that are cut off, damaged, or something else (found by flipping bits)
_UNREADABLE = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError),
    *(ValueError, KeyError, TypeError, IndexError, SyntaxError, OverflowError, MemoryError, RuntimeError),
)


def read_npz(path: Path) -> Arrays:
    """Reads all arrays of a file. Raises UserError if one cannot be read, such as one of Python objects."""
    try:
        # given a path, numpy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except _UNREADABLE as error:
        if "allow_pickle=False" in str(error):  # numpy's only word for it
            raise UserError(
                f"{path}: holds Python objects, which are never loaded from a .npz; save arrays of numbers and str"
            ) from error
        raise UserError(unreadable(path, "a .npz", error, own=("a .npz of arrays",))) from error
    if others := [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise UserError(f"{path}: {shown(others[0], 80)} is no array; it is an archive, but not one of arrays")
    return arrays


def check_arrays(path: Path, arrays: Arrays, expected: dict[str, tuple[str, int]], same_length: Sequence[str]) -> None:
    """Raises UserError for arrays that are missing or of another kind, or that do not belong together.

    expected: name -> (dtype kinds as numpy's letters, number of axes)
    same_length: the names of the arrays that must have the same number of entries
    """
    if missing := [key for key in expected if key not in arrays]:
        there = ", ".join(shown(key, 40) for key in list(arrays)[:12]) or "nothing"
        raise UserError(f"{path}: has no {', '.join(missing)}; there is {there}")
    for key, (kinds, axes) in expected.items():
        value = arrays[key]
        if value.dtype.kind not in kinds or value.ndim != axes:
            kind = " or ".join(_KINDS[letter] for letter in kinds)
            raise UserError(f"{path}: {key} is {value.dtype} {list(value.shape)}, expected {kind} with {axes} axes")
    lengths = {key: len(arrays[key]) for key in same_length}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise UserError(f"{path}: the arrays are not of one length ({listed})")


_KINDS = {"f": "float", "i": "signed integers", "u": "unsigned integers", "U": "str", "b": "bool"}
