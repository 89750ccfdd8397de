"""A part of a batch: no subset of the modalities is lost, as few samples as that takes, values go along."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmd.data.batch_part import representative_samples
from gmd.data.padded import pad
from gmd.data.pairs import Pairs, samples_having
from gmd.subsets import all_subsets

FOUR = ("flair", "t1", "t1ce", "t2")


def batch(has: list[set[str]]) -> Pairs:
    """Samples with these modalities; each value says whose it is: 10 * sample + modality."""
    samples = samples_having(has, FOUR)
    values = {m: torch.tensor([[10.0 * s + FOUR.index(m)] for s in ones]) for m, ones in samples.items()}
    return Pairs(len(has), samples, values)


ANY = st.lists(st.sets(st.sampled_from(FOUR), min_size=1), min_size=1, max_size=7)


@given(ANY, st.floats(0.01, 1))
def test_no_subset_is_left_without_a_sample_and_the_part_is_no_larger_than_it_has_to_be(
    has: list[set[str]], fraction: float
):
    inputs = batch(has)
    chosen = representative_samples(inputs, fraction)
    part = inputs.of(chosen)
    assert chosen == sorted(set(chosen))
    assert part.num_samples == len(chosen) >= fraction * len(has)
    for subset in all_subsets(FOUR):
        assert bool(part.having(subset)) == bool(inputs.having(subset))
    assert list(part.values) == list(inputs.values)
    for place, sample in enumerate(chosen):
        for m in has[sample]:
            row = part.samples[m].index(place)
            assert part.values[m][row].item() == 10 * sample + FOUR.index(m)
    largest = {frozenset(one) for one in has if not any(one < other for other in has)}
    assert len(chosen) <= math.ceil(fraction * len(has)) + len(largest) - 1, "what one sample has, no second one is for"


def test_the_samples_with_the_most_modalities_come_first():
    inputs = batch([{"t1"}, {"t1", "t2"}, set(FOUR), {"t2"}, {"flair", "t1", "t2"}])
    assert representative_samples(inputs, 0.2) == [2]
    assert representative_samples(inputs, 0.21) == [2, 4]
    assert representative_samples(inputs, 0.6) == [1, 2, 4]
    assert representative_samples(inputs, 1) == [0, 1, 2, 3, 4]
    apart = batch([{"t1"}, {"t2"}, {"t1"}, {"flair"}])
    assert representative_samples(apart, 0.1) == [0, 1, 3], "no sample has what these have"


def test_sequences_go_along():
    sequences = [torch.full((length, 2), float(length)) for length in (3, 1, 2)]
    inputs = Pairs(3, {"text": [0, 1, 2], "audio": [0]}, {"text": pad(sequences), "audio": pad(sequences[:1])})
    part = inputs.of([1, 2])
    assert part.samples == {"text": [0, 1]}
    assert part.values["text"].lengths.tolist() == [1, 2]
    assert "audio" not in part.values


@pytest.mark.parametrize("fraction", [0.5, 1])
def test_a_batch_of_one_is_its_own_part(fraction: float):
    assert representative_samples(batch([{"t1"}]), fraction) == [0]
