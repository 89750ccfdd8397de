"""Reads the channels of a case with nnU-Net's own reader, and checks them: zeros stand for a channel that is absent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gmd.data.segmentation.case import SAME_PLACE
from gmd.errors import UserError
from gmd.files import check_regular
from gmd.nnunet.raw_cases import RawCase, check_numbers

Reader = Callable[[list[str]], tuple[np.ndarray, dict[str, Any]]]  # `read_images` of nnU-Net's classes for files


class ReadCase(NamedTuple):
    """The channels of a case as nnU-Net reads them.

    Attributes:
        data: float32 [M, X, Y, Z], a channel that is absent 0 everywhere; of pictures X is 1.
        properties: what the reader says of the first file that is there: spacing, and what it needs to write.
        present: names of the channels that show something, in the order of their numbers.
        zeros: names of the channels of which there is a file, of zeros.
    """

    data: np.ndarray
    properties: dict[str, Any]
    present: tuple[str, ...]
    zeros: tuple[str, ...]


def read_case(read: Reader, case: RawCase, channels: tuple[str, ...]) -> ReadCase:
    """Reads what there is of a case, and puts zeros where there is nothing.

    read: takes the names of files, returns their voxels [channels, X, Y, Z] and what else the files say
    channels: names of all channels, in the order of their numbers
    Raises UserError: a file whose number is of no channel, that cannot be read or holds several channels; files of
        other shapes, spacings or places; voxels that are not finite; a channel of one value that is not 0; no channel
        that shows anything.
    """
    check_numbers(case, channels)
    first: tuple[Path, dict[str, Any]] | None = None
    data = np.zeros(0, np.float32)
    present: list[str] = []
    zeros: list[str] = []
    for index, path in sorted(case.files.items()):
        voxels, properties = _read_channel(read, path)
        if first is None:
            first = path, properties
            data = np.zeros((len(channels), *voxels.shape), np.float32)
        _check_same_place(case.name, first, (path, properties), data.shape[1:], voxels.shape)
        data[index] = voxels
        (zeros if _is_zero(path, voxels) else present).append(channels[index])
    if not present or first is None:
        raise UserError(f"case {case.name}: every channel that is there is 0 everywhere; there is nothing to look at")
    return ReadCase(data, first[1], tuple(present), tuple(zeros))


def without(case: ReadCase, channels: tuple[str, ...], subset: tuple[str, ...]) -> np.ndarray:
    """Returns the data of a case in which only the channels of a subset are left, float32 [M, X, Y, Z]."""
    data = case.data.copy()
    for index, name in enumerate(channels):
        if name not in subset:
            data[index] = 0
    return data


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever the library of a file's format raises in the block into a UserError that names the file."""
    check_regular(path)  # a pipe would block the library
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each library has error classes of its own, for which nnU-Net has no common one
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); is it damaged, or of another format?") from error


def _read_channel(read: Reader, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Reads one file: [X, Y, Z] and what else it says. Raises UserError if it holds anything but one channel."""
    with readable(path):
        voxels, properties = read([str(path)])
    if len(voxels) != 1:
        raise UserError(f"{path}: holds {len(voxels)} channels, expected one; gmd needs a file for each channel")
    if bad := int(np.count_nonzero(~np.isfinite(voxels))):
        raise UserError(f"{path}: {bad} of {voxels.size} voxels are NaN or infinite; give them finite values")
    return voxels[0], properties


def _is_zero(path: Path, voxels: np.ndarray) -> bool:
    """Returns whether a channel is 0 everywhere. Raises UserError if it has one other value everywhere.

    Such a channel would pass for the brain in nnU-Net's cropping, and so change the other channels.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if low != high:
        return False
    if low:
        raise UserError(f"{path}: every voxel is {low:g}; a channel that is absent has no file, or one of zeros")
    return True


def _check_same_place(
    case: str,
    first: tuple[Path, dict[str, Any]],
    other: tuple[Path, dict[str, Any]],
    shape: tuple[int, ...],
    other_shape: tuple[int, ...],
) -> None:
    """Raises UserError if two files of a case differ in shape, spacing, or where they lie. first, other: path, says"""
    files = f"case {case}: {first[0].name} and {other[0].name}"
    if shape != other_shape:
        raise UserError(f"{files} differ in shape, {shape} and {other_shape}; resample them to one grid")
    theirs = _place(other[1])
    for name, numbers in _place(first[1]).items():
        if not np.allclose(numbers, theirs[name], rtol=0, atol=SAME_PLACE):
            told = f"{_told(numbers)} and {_told(theirs[name])}"
            raise UserError(f"{files} differ in {name}, {told}; resample them to one grid")


def _place(properties: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns what nnU-Net's readers say of where an image lies: name -> numbers."""
    own = {key: value for key, value in properties.items() if key in ("sitk_stuff", "nibabel_stuff")}
    numbers = {"spacing": properties["spacing"]}
    for value in own.values():
        numbers |= {key.replace("_", " "): each for key, each in value.items() if key != "original_orientation"}
    return {name: np.asarray(each, float) for name, each in numbers.items()}


def _told(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.5g}" for number in numbers.ravel())
