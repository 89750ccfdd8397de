"""The paired difference of two runs: exact where it can be, turned round with the runs, resampled by patient."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from gmd.evaluation.compare.paired import paired_difference

SCORES = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=8)


def each_alone(values: object) -> list[str]:
    return [f"patient{k}" for k in range(len(values))]


@given(SCORES)
@settings(max_examples=20, deadline=None)
def test_equal_runs_differ_by_nothing_for_certain(scores: list[float]):
    told = paired_difference(np.array(scores), np.array(scores), each_alone(scores))
    assert (told.difference, told.low, told.high) == (0, 0, 0)
    assert not told.excludes_zero
    assert told.base == told.other == pytest.approx(np.mean(scores))


@given(SCORES, st.sampled_from([-0.3, 0.001, 7.5]))
@settings(max_examples=20, deadline=None)
def test_a_constant_shift_is_that_shift_for_certain(scores: list[float], shift: float):
    """However much the cases differ among themselves: that is what pairing is for."""
    told = paired_difference(np.array(scores), np.array(scores) + shift, each_alone(scores))
    assert (told.difference, told.low, told.high) == pytest.approx((shift, shift, shift), abs=1e-12)
    assert told.excludes_zero


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_runs_that_change_places_change_the_sign(pairs: list[tuple[float, float]], seed: int):
    base, other = np.array(pairs).T
    there, back = (paired_difference(*runs, each_alone(base), seed) for runs in ((base, other), (other, base)))
    assert there.low <= there.difference <= there.high or np.ptp(other - base) < 1e-6
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low), abs=1e-9
    )


def test_the_interval_of_many_is_that_of_the_normal_distribution():
    rng = np.random.default_rng(0)
    base, difference = rng.normal(size=400), rng.normal(0.3, 1, 400)
    told = paired_difference(base, base + difference, each_alone(base))
    half = norm.ppf(0.975) * difference.std(ddof=1) / math.sqrt(400)
    assert told.low == pytest.approx(difference.mean() - half, abs=0.01)
    assert told.high == pytest.approx(difference.mean() + half, abs=0.01)


def test_examinations_of_one_patient_are_no_further_patients():
    """The same 20 patients, each examined four times with the same outcome: no more is known than from once."""
    rng = np.random.default_rng(1)
    base, other, units = rng.random(20), rng.random(20), each_alone(range(20))
    once = paired_difference(base, other, units)
    often = paired_difference(np.repeat(base, 4), np.repeat(other, 4), np.repeat(units, 4).tolist())
    assert (often.items, often.units) == (80, 20)
    assert (often.difference, often.low, often.high) == pytest.approx((once.difference, once.low, once.high))
    apart = paired_difference(np.repeat(base, 4), np.repeat(other, 4), each_alone(range(80)))
    assert apart.high - apart.low < 0.7 * (once.high - once.low), "else this test would show nothing"


def test_every_item_counts_alike_whatever_its_patient_has():
    told = paired_difference(np.zeros(4), np.array([1.0, 1.0, 1.0, 5.0]), ["a", "a", "a", "b"])
    assert told.difference == 2
    assert (told.low, told.high) == (1, 5)


def test_a_single_patient_has_no_interval():
    told = paired_difference(np.array([0.5, 0.25]), np.array([0.75, 1.0]), ["a", "a"])
    assert told.difference == 0.5
    assert math.isnan(told.low)
    assert math.isnan(told.high)
    assert not told.excludes_zero


def test_the_seed_decides():
    rng = np.random.default_rng(2)
    base, other = rng.random((2, 6))
    intervals = [paired_difference(base, other, each_alone(base), seed)[-2:] for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 3, 2), (2, 2, 1)])
def test_lengths_that_do_not_fit_are_named(lengths: tuple[int, int, int]):
    with pytest.raises(ValueError, match=f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"):
        paired_difference(np.zeros(lengths[0]), np.zeros(lengths[1]), ["a"] * lengths[2])
