"""Absent modalities: fixed for each sample, whatever the order; never all of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.sequences.missing_modalities import make_absent
from gmd.data.sequences.samples import Sample
from helpers.nifti_cases import error_of

MODALITIES = ("text", "audio", "vision")
rates = st.floats(0, 1, exclude_max=True)
seeds = st.integers(0, 2**32)
sets = st.lists(
    st.tuples(st.text(max_size=8), st.sets(st.sampled_from(MODALITIES), min_size=1)),
    max_size=12,
    unique_by=lambda item: item[0],
)


def samples_of(items):
    return [
        Sample(name, {m: torch.ones(2, 3) for m in MODALITIES if m in modalities}, torch.tensor(1.0))
        for name, modalities in items
    ]


def present(samples):
    return {sample.name: tuple(sample.values) for sample in samples}


@settings(deadline=None)
@given(sets, rates, seeds, st.randoms(use_true_random=False))
def test_what_is_absent_depends_on_seed_name_and_modality_alone(items, rate, seed, random):
    samples = samples_of(items)
    kept = present(make_absent(samples, rate, seed))
    random.shuffle(samples)
    assert present(make_absent(samples, rate, seed)) == kept
    for sample in samples:
        assert present(make_absent([sample], rate, seed))[sample.name] == kept[sample.name]


@settings(deadline=None)
@given(sets, rates, rates, seeds)
def test_one_modality_at_least_is_left_and_what_is_left_is_untouched(items, one, other, seed):
    low, high = sorted((one, other))
    samples = samples_of(items)
    less, more = make_absent(samples, high, seed), make_absent(samples, low, seed)
    for sample, few, many in zip(samples, less, more, strict=True):
        assert few.values
        assert set(few.values) <= set(many.values) <= set(sample.values)
        assert all(few.values[m] is sample.values[m] for m in few.values)
        assert few.target is sample.target
        assert list(few.values) == [m for m in MODALITIES if m in few.values]


def test_a_rate_of_0_leaves_all_as_it_is():
    samples = samples_of([("a", {"text"}), ("b", set(MODALITIES))])
    assert present(make_absent(samples, 0, 7)) == present(samples)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.999])
def test_the_rate_is_observed_within_binomial_bounds(rate):
    count = 4000
    kept = present(make_absent(samples_of([(f"sample {i}", set(MODALITIES)) for i in range(count)]), rate, seed=3))
    expected = 1 - rate + rate**3 / 3  # of three: all of them would be lost with rate^3, and one of them is kept then
    for modality in MODALITIES:
        share = sum(modality in names for names in kept.values()) / count
        assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)
    # independent: two are there together as often as their rates say
    both = sum({"text", "audio"} <= set(names) for names in kept.values()) / count
    assert abs(both - (1 - rate) ** 2) < 4.5 * math.sqrt(0.25 / count)


def test_another_seed_or_name_or_modality_draws_anew():
    samples = samples_of([(f"sample {i}", set(MODALITIES)) for i in range(200)])
    draws = [make_absent(samples, 0.5, seed) for seed in (0, 1)]
    assert present(draws[0]) != present(draws[1])
    assert {tuple(sample.values) for sample in draws[0]} > {("text",), ("audio",), ("vision",), ("text", "audio")}


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, 2, float("nan"), float("inf")])
def test_a_rate_that_leaves_nothing_or_is_none_is_refused(rate):
    assert f"missing rate {rate:g}: expected at least 0 and below 1" in error_of(make_absent, [], rate, 0)
