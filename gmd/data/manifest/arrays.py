"""Arrays of numpy that cells name: a .npy, an array of a .npz, or a row of either; never through pickle."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.files import not_read
from gmd.data.npy_header import Header, read_header
from gmd.data.sequences.npz import UNREADABLE, open_npz
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.memory_limit import check_claim

_ONE_AT_A_TIME = Lock()  # headers are Python's text, which the parser of Python 3.11 cannot read in several threads
KEPT = 2**28  # bytes of arrays of .npz that stay in memory, since of a compressed one no row can be read alone


class _State(NamedTuple):
    """What tells a file from what it was before."""

    path: Path
    changed: int
    size: int


def array_header(cell: Cell, path: Path, key: str) -> tuple[Header, int]:
    """Returns what an array is, and the bytes of its file, without reading it.

    key: its name in a .npz; "": the only one that is there
    Raises Unreadable if there is none, or none of numbers.
    """
    state = _state(cell, path)
    with _telling(cell, path), _ONE_AT_A_TIME:
        header = _header(state, key)
    if header.dtype.kind not in "fiu":
        objects = "Python objects, which are never loaded" if header.dtype.hasobject else str(header.dtype)
        raise Unreadable(f"{cell.where}: {path}: holds {objects}; expected an array of numbers")
    return header, state.size


def read_array(cell: Cell, path: Path, key: str, row: int | None) -> tuple[np.ndarray, int]:
    """Reads an array, or a row of it, which has memory of its own. Returns it, and the bytes of its file.

    Raises Unreadable as `array_header`, for a row that is not there, and for an array that takes more memory than one
        may.
    """
    header, size = array_header(cell, path, key)
    if row is not None and not (header.shape and row < header.shape[0]):
        raise Unreadable(f"{cell.where}: {path}: is {list(header.shape)}, and has no row {row}")
    with _telling(cell, path):
        if path.suffix.lower() == ".npz":
            whole = _kept_array(_state(cell, path), key)
            return (whole if row is None else whole[row]).copy(), size
        return _mapped(path, header, row), size


@contextmanager
def _telling(cell: Cell, path: Path) -> Iterator[None]:
    """Makes what is raised for a damaged file Unreadable."""
    try:
        yield
    except UNREADABLE as error:
        own = ("a single array of numpy (.npy)", "a .npz of arrays")
        raise not_read(cell, path, "an array (.npy, .npz)", error, own) from error


def _state(cell: Cell, path: Path) -> _State:
    try:
        found = os.stat(path)
    except OSError as error:
        raise not_read(cell, path, "an array (.npy, .npz)", error) from error
    return _State(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)  # a file may hold all samples, a row each
def _header(state: _State, key: str) -> Header:
    path = state.path
    if path.suffix.lower() == ".npz":
        with open_npz(path) as arrays:
            return arrays.header(_name(path, list(arrays), key))
    if key:
        raise UserError(f"{path}: is a single array; expected a .npz before #{shown(key, 80)}")
    with open_regular(path) as file:
        header = read_header(file)
        if not header.dtype.hasobject and header.size != state.size - header.start:
            raise UserError(
                f"{path}: claims to be {header.dtype} {list(header.shape)}, of {header.size} bytes, and has "
                f"{state.size - header.start}; it is damaged: copy or download it anew"
            )
    return header


def _name(path: Path, there: list[str], key: str) -> str:
    """Returns the name of the array that is meant. Raises UserError."""
    if key in there:
        return key
    if not key and len(there) == 1:
        return there[0]
    listed = ", ".join(shown(name, 40) for name in there[:12]) or "none"
    wanted = f"no array {shown(key, 80)}" if key else f"{len(there)} arrays, expected {path.name}#NAME"
    raise UserError(f"{path}: has {wanted}; there is {listed}")


def _mapped(path: Path, header: Header, row: int | None) -> np.ndarray:
    """Reads a .npy, or a row of it and nothing else."""
    part = header.size if row is None else header.size // max(1, header.shape[0])
    check_claim(path, part, f"an array of {list(header.shape)}")
    if not header.size:
        return np.zeros(header.shape if row is None else header.shape[1:], header.dtype)
    with open_regular(path) as file:
        mapped: np.ndarray = np.memmap(
            file,
            header.dtype,
            "r",
            header.start,
            header.shape,
            "F" if header.by_columns else "C",
        )
        return np.array(mapped if row is None else mapped[row])


_kept: OrderedDict[tuple[_State, str], np.ndarray] = OrderedDict()  # of this process; the last used stand last


def _kept_array(state: _State, key: str) -> np.ndarray:
    """Returns an array of a .npz, from memory if it was read lately. More than KEPT bytes are not kept, but for one."""
    if (state, key) not in _kept:
        with open_npz(state.path) as arrays:
            _kept[state, key] = arrays[_name(state.path, list(arrays), key)]
        while len(_kept) > 1 and sum(array.nbytes for array in _kept.values()) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end((state, key))
    return _kept[state, key]
