"""The channels of a case, checked: what reads the files is a stand-in for nnU-Net's classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmd.errors import UserError
from gmd.nnunet.raw_cases import RawCase
from gmd.nnunet.read_case import read_case, without

CHANNELS = ("flair", "t1", "t2")
SHAPE = (3, 4, 5)


class Files:
    """Files in a folder, and what a reader says of them: `read` returns voxels [1, X, Y, Z] and properties."""

    def __init__(self, folder: Path):
        self.folder, self.said = folder, {}

    def add(self, channel: int, data: np.ndarray | None = None, **properties: Any) -> None:
        path = self.folder / f"case_{channel:04d}.nii.gz"
        path.touch()
        rng = np.random.default_rng(channel)
        data = rng.normal(size=(1, *SHAPE)).astype(np.float32) if data is None else data
        place = {"origin": (0.0, 0.0, 0.0), "direction": (1.0,) * 9}
        self.said[str(path)] = data, {"spacing": [1.0, 1.0, 2.0], "sitk_stuff": place} | properties

    def read(self, paths: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        return self.said[paths[0]]

    @property
    def case(self) -> RawCase:
        return RawCase("case", {int(path[-11:-7]): Path(path) for path in self.said})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_absent_channels_are_zeros_in_their_places(files: Files):
    files.add(2)
    files.add(0, np.zeros((1, *SHAPE), np.float32))
    case = read_case(files.read, files.case, CHANNELS)
    assert case.data.shape == (3, *SHAPE)
    assert case.data.dtype == np.float32
    assert np.array_equal(case.data[2], files.read([str(files.case.files[2])])[0][0])
    assert not case.data[:2].any()
    assert (case.present, case.zeros) == (("t2",), ("flair",))
    assert case.properties["spacing"] == [1.0, 1.0, 2.0]


def test_without_leaves_a_subset_and_the_case_as_it_was(files: Files):
    for channel in range(3):
        files.add(channel)
    case = read_case(files.read, files.case, CHANNELS)
    before = case.data.copy()
    left = without(case, CHANNELS, ("t1",))
    assert np.array_equal(left[1], before[1])
    assert not left[[0, 2]].any()
    assert np.array_equal(case.data, before)


SPOILT = {
    "a constant": ({"data": np.full((1, *SHAPE), 7, np.float32)}, "every voxel is 7; a channel that is absent has no"),
    "not finite": ({"data": np.full((1, *SHAPE), np.nan, np.float32)}, "60 of 60 voxels are NaN or infinite"),
    "several channels": ({"data": np.ones((3, *SHAPE), np.float32)}, "holds 3 channels, expected one"),
    "another shape": ({"data": np.zeros((1, 9, 4, 5), np.float32)}, r"differ in shape, \(3, 4, 5\) and \(9, 4, 5\)"),
    "another spacing": ({"spacing": [1.0, 1.0, 2.1]}, "differ in spacing, 1 1 2 and 1 1 2.1; resample"),
    "another origin": ({"sitk_stuff": {"origin": (0.0, 9.0, 0.0), "direction": (1.0,) * 9}}, "differ in origin"),
}


@pytest.mark.parametrize(("changed", "reason"), SPOILT.values(), ids=SPOILT)
def test_a_channel_that_cannot_be_used_is_told_with_its_file(files: Files, changed: dict, reason: str):
    files.add(0)
    files.add(1, **changed)
    with pytest.raises(UserError, match=reason) as error:
        read_case(files.read, files.case, CHANNELS)
    assert "case_0001.nii.gz" in str(error.value)


def test_rounded_places_are_one_place(files: Files):
    files.add(0)
    files.add(1, spacing=[1.0, 1.0, 2.00001])
    assert read_case(files.read, files.case, CHANNELS).present == ("flair", "t1")


def test_a_case_of_zeros_alone_has_nothing_to_look_at(files: Files):
    for channel in (0, 1):
        files.add(channel, np.zeros((1, *SHAPE), np.float32))
    with pytest.raises(UserError, match="case case: every channel that is there is 0 everywhere"):
        read_case(files.read, files.case, CHANNELS)


@pytest.mark.parametrize("error", [RuntimeError("in ITK\nITK ERROR: not a NIfTI file\n\n"), KeyError(), EOFError()])
def test_whatever_a_reader_raises_names_the_file(files: Files, error: Exception):
    files.add(0)

    def broken(paths: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        raise error

    with pytest.raises(UserError, match=r"case_0000\.nii\.gz: cannot be read \((ITK ERROR: not a NIfTI file|\w+)\)"):
        read_case(broken, files.case, CHANNELS)


def test_no_memory_is_no_fault_of_the_file(files: Files):
    files.add(0)

    def without_memory(paths: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        raise MemoryError

    with pytest.raises(MemoryError):
        read_case(without_memory, files.case, CHANNELS)
