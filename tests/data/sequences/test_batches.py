"""Batches of sequences: each sample once, an order by seed and epoch alone, padding that is told apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.sequences.batches import SequenceBatches, collate
from gmd.data.sequences.samples import Sample

MODALITIES = ("text", "audio")


def sample(name, lengths, target):
    """Modality -> length; the values tell sample, modality and step."""
    values = {m: float(name) + torch.arange(length)[:, None] / 100 + torch.zeros(2) for m, length in lengths.items()}
    return Sample(name, values, target)


def single(count):
    return [sample(str(i + 1), {"text": i % 3 + 1, "audio": i % 4 + 1}, torch.tensor(i / 10)) for i in range(count)]


def names_of(batch):
    return [round(float(value)) for value in batch[0].values["text"].values[:, 0, 0]]


lengths = st.dictionaries(st.sampled_from(MODALITIES), st.integers(1, 6), min_size=1)


@settings(deadline=None)
@given(st.lists(lengths, min_size=1, max_size=6))
def test_nothing_is_lost_and_nothing_but_zeros_is_added(all_lengths):
    samples = [sample(str(i + 1), each, torch.tensor(float(i))) for i, each in enumerate(all_lengths)]
    pairs, targets = collate(samples, MODALITIES)
    assert pairs.num_samples == len(samples)
    assert targets.tolist() == [float(i) for i in range(len(samples))]
    assert (
        list(pairs.values) == list(pairs.samples) == [m for m in MODALITIES if any(m in each for each in all_lengths)]
    )
    for m, padded in pairs.values.items():
        assert pairs.samples[m] == [i for i, each in enumerate(all_lengths) if m in each]
        assert padded.lengths.tolist() == [all_lengths[i][m] for i in pairs.samples[m]]
        assert padded.values.shape[1] == max(padded.lengths)
        for row, mask, i in zip(padded.values, padded.mask, pairs.samples[m], strict=True):
            assert torch.equal(row[mask], samples[i].values[m])
            assert not row[~mask].any()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.sets(st.sampled_from(MODALITIES), min_size=1)), min_size=1, max_size=5))
def test_with_a_target_for_each_step_all_modalities_are_as_long_as_the_targets(items):
    """Even one that only the short samples have: or it could not be fused with the others."""
    for dtype in (torch.float32, torch.int64):
        samples = [
            sample(str(i + 1), dict.fromkeys(sorted(names), length), torch.ones(length, dtype=dtype))
            for i, (length, names) in enumerate(items)
        ]
        pairs, targets = collate(samples, MODALITIES)
        assert targets.dtype == dtype
        longest = max(length for length, _ in items)
        assert targets.shape == (len(items), longest)
        for row, (length, _) in zip(targets, items, strict=True):
            assert row[:length].eq(1).all()
            assert (row[length:].isnan() if dtype.is_floating_point else row[length:] == -100).all()
        for m, padded in pairs.values.items():
            assert padded.values.shape[1] == longest
            assert padded.lengths.tolist() == [items[i][0] for i in pairs.samples[m]]
            assert not padded.values[~padded.mask].any()


def test_classes_are_int64_and_other_modalities_are_ignored():
    samples = [sample("1", {"text": 2, "smell": 3}, torch.tensor(4))]
    pairs, targets = collate(samples, MODALITIES)
    assert targets.dtype == torch.int64
    assert list(pairs.values) == ["text"]


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_has_each_sample_once(count, batch, seed, epoch):
    batches = SequenceBatches(single(count), MODALITIES, batch, seed)
    batches.epoch = epoch
    drawn = [names_of(each) for each in batches]
    assert len(drawn) == len(batches)
    assert sorted(name for names in drawn for name in names) == list(range(1, count + 1))
    assert all(len(each) == batch for each in drawn[:-1])


def test_trap_batches_are_shuffled_by_seed_and_epoch_alone():
    def order(seed, epoch, read_before=0):
        batches = SequenceBatches(single(30), MODALITIES, 4, seed)
        for batches.epoch in range(read_before):
            next(iter(batches))
        batches.epoch = epoch
        torch.manual_seed(read_before)
        return [name for each in batches for name in names_of(each)]

    assert order(1, 2) == order(1, 2, read_before=5)
    assert len({tuple(order(*key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4
    assert order(0, 0) != sorted(order(0, 0))


def test_bad_input_is_refused():
    samples = [*single(2), sample("9", {"smell": 3}, torch.tensor(0.0))]
    for make in (lambda: collate(samples, MODALITIES), lambda: SequenceBatches(samples, MODALITIES, 2, 0)):
        with pytest.raises(ValueError, match=r"sample 9 has smell, expected at least one of text, audio"):
            make()
    with pytest.raises(ValueError, match="batch: expected at least 1 sample, got 0"):
        SequenceBatches(single(2), MODALITIES, 0, 0)
    for make in (lambda: collate([], MODALITIES), lambda: SequenceBatches([], MODALITIES, 2, 0)):
        with pytest.raises(ValueError, match="samples: expected at least one, got none"):
            make()
