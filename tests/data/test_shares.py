"""Shares of a batch: all of it, nothing twice, neighbours, sizes that differ by one at most."""

import pytest
import torch

from gmd.data.sequences.batches import SequenceBatches
from gmd.data.sequences.samples import Sample
from gmd.data.shares import ALL, Share


@pytest.mark.parametrize("processes", range(1, 6))
@pytest.mark.parametrize("size", [*range(8), 100])
def test_shares_put_together_are_the_batch(size, processes):
    batch = list(range(size))
    shares = [Share(rank, processes).of(batch) for rank in range(processes)]
    assert [item for share in shares for item in share] == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(shares[0]) == max(map(len, shares)), "the first process has none only if nobody has"


def test_one_process_has_all():
    assert ALL.of(["a", "b"]) == ["a", "b"]


def test_batches_of_sequences_are_shared():
    samples = [Sample(str(i), {"a": torch.full((2, 1), float(i))}, torch.tensor(float(i))) for i in range(10)]
    whole = list(SequenceBatches(samples, ("a",), batch=4, seed=3))
    parts = [list(SequenceBatches(samples, ("a",), 4, 3, Share(rank, 3))) for rank in range(3)]
    assert [inputs.num_samples for inputs, _ in parts[2]] == [1, 1, 0], "the last batch has two samples"
    for number, (inputs, targets) in enumerate(whole):
        assert inputs.numbers == [n for part in parts for n in part[number][0].numbers]
        assert torch.equal(targets, torch.cat([part[number][1] for part in parts]))
    inputs, targets = parts[2][2]
    assert (inputs.samples, inputs.values, list(targets.shape)) == ({}, {}, [0])
