"""Arrays of lists: as numpy makes them, unless few lists would become a large array."""

import numpy as np
import pytest

from gmd.data.sequences.nested_lists import array_of
from helpers.nifti_cases import error_of


def bomb(depth, inner=1.0):
    for _ in range(depth):
        inner = [inner, inner]
    return inner


def circle():
    one = [1]
    one.append([one])
    return one


ROW = [0.0] * 74


@pytest.mark.parametrize(
    "value",
    [
        *([], [[]], [1, 2], [[1, 2], [3, 4]], (1, (2)), ["a", "bcd"], [b"x", b""], [1, "a"], [None, {}], 3, "word"),
        *([np.ones((2, 3))] * 3, [np.float32(1), 2], [[ROW] * 50] * 30, [True, 2.5]),
    ],
)
def test_what_numpy_makes_of_it(value):
    made = array_of("text", value)
    expected = np.asarray(value)
    assert made.dtype == expected.dtype
    assert np.array_equal(made, expected)


def test_an_array_stays_what_it_is():
    array = np.ones(3)
    assert array_of("text", array) is array


@pytest.mark.parametrize(
    "value",
    [
        bomb(60),
        bomb(26),
        bomb(60, []),  # an array of no entries, at which numpy looks 2^60 times
        [bomb(40, ()), 1],
        [np.ndarray(10**10, "S0")],  # of no bytes, which becomes one of 10^10
        bomb(30, np.ones(3)),
        (bomb(60), 1),
        [[ROW * 100] * 1000] * 1000,
        [np.ones(10**5)] * 10**5,
        [np.ones(10**5), *[np.ones(10**5)] * 10**4],
        ["x" * 10**5] + [""] * 10**5,
        [b"x" * 10**6] + [b""] * 10**5,
        [bytearray(10**6)] * 10**5,
        [np.zeros(1, "S100000")] * 10**6,
    ],
    ids=range(14),
)
def test_few_lists_that_would_become_a_large_array(value):
    assert "text is no array: its " in error_of(array_of, "text", value)


def test_lists_that_hold_themselves_or_are_of_different_lengths():
    assert "text is no array: it has a list that holds itself" in error_of(array_of, "text", circle())
    assert "text is no array: " in error_of(array_of, "text", [[1, 2], [3]])


def test_lists_that_lie_very_deep():
    """The 64 axes that numpy has at most end its search; ours has no end by itself."""
    deep = 1
    for _ in range(10_000):
        deep = [deep]
    assert "maximum number of dimension of 64" in error_of(array_of, "text", deep)


def test_what_a_file_may_take_limits_lists_too(monkeypatch):
    monkeypatch.setenv("GMD_MAX_GB", "0.00001")
    assert "would become one of 1.6e-05 GB" in error_of(array_of, "text", [1.0] * 2000)
