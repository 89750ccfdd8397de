"""Reading arrays from `.npz` and `.npy` files, never through pickle, and checking them.

An array is read when it is asked for, and others are not, whatever they hold. What its header claims has to be what the
archive says it holds, to the byte, and what all that is read takes is limited, before any room is made for it.
"""

import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from gmd.data.file_kind import unreadable
from gmd.data.npy_header import Header, checked_header
from gmd.data.sequences.checks import check_file
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.memory_limit import check_claim

Arrays = Mapping[str, np.ndarray]

# what numpy and zipfile raise for files that are cut off, damaged, or something else (found by flipping bits)
UNREADABLE = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, struct.error),
    *(ValueError, KeyError, TypeError, IndexError, SyntaxError, OverflowError, MemoryError, RuntimeError),
    *(RecursionError, tokenize.TokenError),  # of headers, which are Python's text
)


@contextmanager
def open_npz(path: Path) -> Iterator["Npz"]:
    """Opens a file of arrays and yields these by their names; each is read when it is looked up, and then kept.

    Raises UserError if it is no such file, here or where an array is looked up: one that cannot be read, is one of
    Python objects, is there twice, claims another size than it has, or takes more than `gmd.memory_limit` allows.
    """
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except UNREADABLE as error:
            raise _not_read(path, error) from error
        with archive:
            yield Npz(path, archive)


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an archive that is open."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._path, self._archive = path, archive
        self._read: dict[str, np.ndarray] = {}
        self._claimed = 0
        members = archive.infolist()
        self._members = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
        if members and not self._members:
            name = shown(members[0].filename, 80)
            raise UserError(f"{path}: {name} is no array; it is an archive, but not one of arrays")

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._read:
            with self._open(key) as content:
                self._claimed += self._header(key, content).size
                check_claim(self._path, self._claimed, f"{shown(key, 80)} and what else is read of it")
                content.seek(0)
                array = np.lib.format.read_array(content, allow_pickle=False)
                _check_text(array)
                self._read[key] = array
        return self._read[key]

    def header(self, key: str) -> Header:
        """Returns what an array is, without reading it. Raises KeyError, and UserError as where it is looked up."""
        with self._open(key) as content:
            return self._header(key, content)

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        """Opens the member that holds an array, and makes what is raised for a damaged one a UserError."""
        member = self._members[key]
        try:
            if sum(other.filename == member.filename for other in self._archive.infolist()) > 1:
                raise UserError(f"{self._path}: {shown(key, 80)} is there twice, expected one array of each name")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
                raise NotImplementedError(f"compression {member.compress_type}, expected what numpy.savez writes")
            with self._archive.open(member) as content:
                yield content
        except UserError:  # which is a ValueError
            raise
        except UNREADABLE as error:
            raise _not_read(self._path, error) from error

    def _header(self, key: str, content: IO[bytes]) -> Header:
        """Reads a header, as `checked_header`."""
        return checked_header(f"{self._path}: {shown(key, 80)}", content, self._members[key].file_size)


def read_npy(path: Path) -> np.ndarray:
    """Reads the array of a `.npy` file.

    Raises UserError if it is no such file, one of Python objects, claims another size than it has, or takes more than
    `gmd.memory_limit` allows.
    """
    check_file(path, "a .npy")
    try:
        with open_regular(path) as file:
            check_claim(path, checked_header(str(path), file, os.fstat(file.fileno()).st_size).size, "its array")
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False)
        _check_text(array)
        return array
    except UserError:  # which is a ValueError
        raise
    except UNREADABLE as error:
        raise UserError(unreadable(path, "a .npy", error, own=("a single array of numpy (.npy)",))) from error


def _check_text(array: np.ndarray) -> None:
    """Raises ValueError for str with numbers that are no characters, of which numpy would make no Python str later."""
    if array.dtype.kind == "U" and array.nbytes:
        numbers = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if ((numbers > 0x10FFFF) | ((numbers >= 0xD800) & (numbers < 0xE000))).any():
            raise ValueError(f"{array.dtype} with numbers that are no characters")


def _not_read(path: Path, error: BaseException) -> UserError:
    return UserError(unreadable(path, "a .npz", error, own=("a .npz of arrays",)))


def check_arrays(path: Path, arrays: Arrays, expected: dict[str, tuple[str, int]], same_length: Sequence[str]) -> None:
    """Raises UserError for arrays that are missing or of another kind, or that do not belong together.

    expected: name -> (dtype kinds as numpy's letters, number of axes)
    same_length: the names of the arrays that must have the same number of entries
    """
    if missing := [key for key in expected if key not in arrays]:
        there = ", ".join(shown(key, 40) for key in list(arrays)[:12]) or "nothing"
        raise UserError(f"{path}: has no {', '.join(shown(key, 40) for key in missing[:12])}; there is {there}")
    for key, (kinds, axes) in expected.items():
        _check_array(f"{path}: {shown(key, 80)}", arrays[key], kinds, axes)
    lengths = {key: len(arrays[key]) for key in same_length}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{shown(key, 40)}: {length}" for key, length in lengths.items())
        raise UserError(f"{path}: the arrays are not of one length ({listed})")


def _check_array(what: str, value: np.ndarray, kinds: str, axes: int) -> None:
    """Raises UserError for an array of another kind or number of axes, or of entries that have nothing in them."""
    found = f"{value.dtype} {list(value.shape)}"
    if value.dtype.kind not in kinds or value.ndim != axes:
        kind = " or ".join(_KINDS[letter] for letter in kinds)
        raise UserError(f"{what} is {found}, expected {kind} with {axes} axes")
    # such an array takes no room, however many entries it claims to have
    if value.ndim and len(value) and not value.nbytes:
        raise UserError(f"{what} is {found}, with nothing in its entries; expected something in each")


_KINDS = {"f": "float", "i": "signed integers", "u": "unsigned integers", "U": "str", "b": "bool"}
