"""Modality dropout: each subset is as likely as any other, no sample loses all, and what is dropped is not computed."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmd.data.modality_dropout import drop_modalities
from gmd.data.padded import pad
from gmd.data.pairs import Pairs, samples_having
from gmd.models.multimodal import MultimodalNetwork, run_modalities
from gmd.subsets import all_subsets

FOUR = ("flair", "t1", "t1ce", "t2")


def batch(has: list[set[str]]) -> Pairs:
    """Samples with these modalities; each value says whose it is: 10 * sample + modality."""
    samples = samples_having(has, FOUR)
    values = {m: torch.tensor([[10.0 * s + FOUR.index(m)] for s in ones]) for m, ones in samples.items()}
    return Pairs(len(has), samples, values)


def left(pairs: Pairs) -> list[tuple[str, ...]]:
    """The modalities of each sample."""
    return [tuple(m for m in FOUR if s in pairs.samples.get(m, ())) for s in range(pairs.num_samples)]


ANY = st.lists(st.sets(st.sampled_from(FOUR), min_size=1), min_size=1, max_size=7)


@given(ANY, st.integers(0, 2**32))
def test_each_sample_keeps_some_of_its_own_and_their_values(has: list[set[str]], seed: int):
    inputs = batch(has)
    kept = drop_modalities(inputs, torch.Generator().manual_seed(seed))
    assert kept.num_samples == len(has)
    assert all(mine and set(mine) <= given for mine, given in zip(left(kept), has, strict=True))
    assert list(kept.values) == list(kept.samples) == [m for m in inputs.values if m in kept.values]
    for m, ones in kept.samples.items():
        assert ones == sorted(ones) != []
        assert kept.values[m].tolist() == [[10.0 * s + FOUR.index(m)] for s in ones]
    assert left(inputs) == [tuple(m for m in FOUR if m in given) for given in has], "the batch itself is as it was"


def test_all_subsets_of_what_a_sample_has_are_as_likely():
    """Chi-squared over the 15 subsets of one and the 3 of the other, whose draws do not depend on each other."""
    inputs, generator, draws = batch([set(FOUR), {"t1", "t2"}]), torch.Generator().manual_seed(0), 6000
    drawn = [tuple(left(drop_modalities(inputs, generator))) for _ in range(draws)]
    for found, subsets, limit in [
        (Counter(first for first, _ in drawn), all_subsets(FOUR), 36.1),  # 0.1 % of chance, 14 degrees of freedom
        (Counter(second for _, second in drawn), all_subsets(("t1", "t2")), 13.8),  # 2
        (Counter(drawn), [(a, b) for a in all_subsets(FOUR) for b in all_subsets(("t1", "t2"))], 78.7),  # 44
    ]:
        assert set(found) == set(subsets)
        expected = draws / len(subsets)
        assert sum((count - expected) ** 2 for count in found.values()) / expected < limit


def test_the_same_generator_draws_the_same():
    inputs = batch([set(FOUR)] * 5)
    generator = torch.Generator().manual_seed(3)
    first = left(drop_modalities(inputs, generator))
    state = generator.get_state()
    second = left(drop_modalities(inputs, generator))
    assert first != second
    assert left(drop_modalities(inputs, torch.Generator().manual_seed(3))) == first
    generator.set_state(state)
    assert left(drop_modalities(inputs, generator)) == second


def test_what_is_dropped_goes_through_no_network():
    rows = Counter()

    class Counting(MultimodalNetwork):
        modalities = FOUR

        def forward(self, values: torch.Tensor, modality: int) -> torch.Tensor:
            rows[FOUR[modality]] += len(values)
            return values

    kept = drop_modalities(batch([{"t1"}, {"t1", "t2"}, {"t2"}, set(FOUR)]), torch.Generator().manual_seed(1))
    run_modalities(Counting(), kept)
    assert rows == {m: len(ones) for m, ones in kept.samples.items()}
    assert sum(rows.values()) < 8


def test_sequences_lose_their_rows_too():
    sequences = [torch.full((length, 2), float(length)) for length in (3, 1, 2)]
    inputs = Pairs(3, {"text": [0, 1, 2], "audio": [0, 2]}, {"text": pad(sequences), "audio": pad(sequences[:2])})
    kept = inputs.only({"text": [0, 2], "audio": [2]})
    assert kept.values["text"].lengths.tolist() == [3, 2]
    assert torch.equal(kept.values["text"].values, inputs.values["text"].values[[0, 2]])
    assert kept.values["audio"].lengths.tolist() == [1]
    assert kept.num_samples == 3


def test_a_sample_without_any_modality_is_named():
    with pytest.raises(ValueError, match="sample 1 of this batch has no modality"):
        drop_modalities(batch([{"t1"}, set(), {"t2"}]), torch.Generator())
