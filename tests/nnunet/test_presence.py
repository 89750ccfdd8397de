"""Which channels a preprocessed case has."""

import numpy as np
import pytest

from gmd.errors import UserError
from gmd.nnunet.presence import channels_there

NAMES = ("flair", "t1", "t2")


def case_data() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 5, 4, 6)).astype(np.float32)


def test_a_channel_of_zeros_is_missing():
    data = case_data()
    data[1] = 0
    assert channels_there(data, "case", NAMES) == [0, 2]


def test_a_channel_that_shows_something_anywhere_is_there():
    data = case_data()
    data[2] = 0
    data[2, 4, 3, 5] = 1
    assert channels_there(data, "case", NAMES) == [0, 1, 2]


def test_another_constant_is_refused_and_named():
    data = case_data()
    data[1] = -1
    with pytest.raises(UserError, match=r"case7: channel t1: got -1 in every voxel.*zeros for a missing channel"):
        channels_there(data, "case7", NAMES)


def test_a_case_without_any_channel_is_refused():
    with pytest.raises(UserError, match="case7: got zeros in every channel, expected at least one of flair, t1, t2"):
        channels_there(np.zeros((3, 4, 4, 4)), "case7", NAMES)


def test_of_a_channel_that_is_there_one_slice_is_read():
    class Counted:
        """As an array in a file: remembers what was asked for."""

        def __init__(self, data: np.ndarray):
            self.data, self.shape, self.asked = data, data.shape, []

        def __getitem__(self, index: object) -> np.ndarray:
            self.asked.append(index)
            return self.data[index]

    data = Counted(case_data())
    assert channels_there(data, "case", NAMES) == [0, 1, 2]
    assert data.asked == [(0, 2), (1, 2), (2, 2)]
