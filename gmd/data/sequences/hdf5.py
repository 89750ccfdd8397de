"""Reading arrays from HDF5 files: what lies in the file itself, as plain numbers or bytes, and nothing else.

An HDF5 file can lead to other files, by links, by virtual data sets and by data that are stored outside, and it can ask
for filters that are programs of their own. Nothing of that is followed. Objects of Python's are not read either.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gmd.data.file_kind import CSD, unreadable
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.memory_limit import check_claim

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}


@contextmanager
def open_hdf5(path: Path) -> Iterator["Hdf5"]:
    """Opens a file to read arrays from.

    Raises UserError if it is none, or damaged, here or where something in it is looked up.
    """
    open_regular(path).close()  # a pipe would block
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # h5py raises anything for damaged files
        raise UserError(unreadable(path, "an HDF5 file", error, own=("an HDF5 file", CSD))) from error
    with file:
        yield Hdf5(path, file)


class Hdf5:
    """The groups and data sets of a file that is open, by their paths, "group/name".

    All methods raise UserError for what is damaged, and for a path on which a link stands.
    """

    def __init__(self, path: Path, file: h5py.File):
        self._path, self._file = path, file
        self._claimed = 0

    def names(self, group: str = "") -> list[str]:
        """Returns what a group holds, sorted; nothing if it is none, or not there."""
        found = self._object(group)
        try:
            return sorted(found) if isinstance(found, h5py.Group) else []
        except Exception as error:
            raise self._damaged(group, error) from error

    def has(self, key: str) -> bool:
        """Returns whether something is there under a path."""
        return self._object(key) is not None

    def array(self, key: str, kinds: str, axes: Sequence[int]) -> np.ndarray:
        """Reads an array.

        key: its path in the file; kinds: numpy's letters of what it may hold, of "biufS"; axes: how many it may have
        Raises UserError if it is not there, is no data set or one of other kinds or axes, claims more than
        `gmd.memory_limit` allows, or lies in another file.
        """
        found = self._object(key)
        what = f"{self._path}: {shown(key, 80)}"
        if not isinstance(found, h5py.Dataset):
            raise UserError(f"{what} is {'not there' if found is None else 'no data set'}, expected an array")
        try:
            self._check(what, found, kinds, axes)
            return np.asarray(found[()])
        except UserError:  # which is a ValueError
            raise
        except Exception as error:
            raise self._damaged(key, error) from error

    def _check(self, what: str, found: h5py.Dataset, kinds: str, axes: Sequence[int]) -> None:
        """Raises UserError for a data set that is not to be read, before anything of it is."""
        if found.is_virtual or found.external:
            raise UserError(f"{what} lies in another file, to which nothing is followed; save the numbers themselves")
        if found.shape is None or found.dtype.kind not in kinds or len(found.shape) not in axes:
            shape = "without a shape" if found.shape is None else list(found.shape)
            raise UserError(
                f"{what} is {found.dtype} {shape}, expected {' or '.join(_KINDS[kind] for kind in kinds)} with "
                f"{' or '.join(map(str, axes))} axes; objects are never read"
            )
        settings = found.id.get_create_plist()
        filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
        if odd := [number for number in filters if number not in _FILTERS]:
            raise UserError(f"{what} is packed by filter {odd[0]}, which is a program; save it without, or by gzip")
        self._claimed += found.size * found.dtype.itemsize
        check_claim(self._path, self._claimed, f"{shown(what, 80)} and what else is read of it")

    def _object(self, key: str) -> Any:
        """Returns a group or a data set, or None if there is none. Raises UserError if a link stands on the way."""
        found: Any = self._file
        for part in filter(None, key.split("/")):
            try:
                link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
                if link is None:
                    return None
                if isinstance(link, h5py.HardLink):
                    found = found[part]
                    continue
            except Exception as error:
                raise self._damaged(key, error) from error
            raise UserError(
                f"{self._path}: {shown(part, 80)} is a link, which is not followed: it may lead to another file; save "
                "what it leads to in its place"
            )
        return found

    def _damaged(self, key: str, error: Exception) -> UserError:
        return UserError(
            f"{self._path}: {shown(key, 80)} cannot be read ({type(error).__name__}: {shown(error, 200)}); it may be "
            "cut off or damaged: copy or download it anew"
        )


_KINDS = {"b": "bool", "i": "signed integers", "u": "unsigned integers", "f": "float", "S": "bytes"}
