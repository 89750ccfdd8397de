"""Features that were computed elsewhere: vectors, or sequences of them, in files of numpy."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gmd.data.manifest.arrays import array_header, read_array
from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.files import path_of
from gmd.data.sequences.checks import MOST_FEATURES, finite
from gmd.errors import UserError, shown

_CELL = re.compile(r"(?P<path>.+?\.np[yz])(#(?P<key>.+?))?(\[(?P<row>\d{1,12})\])?", re.IGNORECASE)


class FeatureFacts(NamedTuple):
    """What an array's header says. size: bytes of its file; steps: L, 1 for a vector; features: F."""

    size: int
    steps: int
    features: int


def check_array(cell: Cell) -> FeatureFacts:
    """Reads the header of a cell's array.

    Raises Unreadable for a file that is missing, damaged, of something else than numbers, or not [F] or
        [L, F]; UserError for a path that may not be, and a cell that names no array.
    """
    path, key, row = _parts(cell)
    header, size = array_header(cell, path, key)
    shape = header.shape
    if row is not None:
        if not shape or row >= shape[0]:
            raise Unreadable(f"{cell.where}: {path}: is {list(shape)}, and has no row {row}")
        shape = shape[1:]
    if len(shape) not in (1, 2) or 0 in shape:
        what = "the row" if row is not None else "the array"
        raise Unreadable(f"{cell.where}: {path}: {what} is {list(shape)}, expected [F] or [L, F] with something in it")
    if shape[-1] > MOST_FEATURES:
        raise Unreadable(f"{cell.where}: {path}: has {shape[-1]} features, expected at most {MOST_FEATURES}")
    return FeatureFacts(size, 1 if len(shape) == 1 else shape[0], shape[-1])


def load_features(cell: Cell, longest: int) -> tuple[Tensor, int]:
    """Reads a cell's array.

    longest: steps at most, of which the first are kept
    returns float32 [L, F], where 0 stands for what is NaN, infinite or beyond 1e18, and how many of these there were
    Raises Unreadable as `check_array`.
    """
    values, _ = read_array(cell, *_parts(cell))
    steps, replaced = finite(values.reshape(-1, values.shape[-1])[:longest])
    return torch.from_numpy(steps), replaced


def _parts(cell: Cell) -> tuple[Path, str, int | None]:
    """Returns the file, the name of the array in it or "", and the number of the row. Raises UserError."""
    match = _CELL.fullmatch(cell.text)
    if match is None:
        raise UserError(
            f"{cell.where}: got {shown(cell.text, 120)}, expected a file of numpy: FILE.npy, FILE.npz#NAME, or a row "
            "of one, FILE.npy[17]"
        )
    return path_of(cell, match["path"]), match["key"] or "", None if match["row"] is None else int(match["row"])
