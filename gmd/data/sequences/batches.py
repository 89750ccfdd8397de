"""Batches of the (sample, modality) pairs that exist, sequences padded to one length."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gmd.data.padded import Padded, pad
from gmd.data.pairs import Pairs, nothing, samples_having
from gmd.data.sequences.samples import Sample
from gmd.data.shares import ALL, Share

NO_SCORE, NO_CLASS = float("nan"), -100  # the targets of padded steps; cross-entropy ignores -100 by default


class SequenceBatches:
    """The batches of an epoch, which have every sample once; the last batch may be smaller.

    Set `epoch` before each: the order depends on (seed, epoch) alone; and `start` to leave out the first batches.
    `len` is the number of batches of a whole epoch.

    Args:
        samples: at least one.
        modalities: their names, in canonical order; others are ignored.
        batch: samples in a batch, at least 1.
        seed: of the order of the samples.
        share: of each batch, the part that is wanted.

    Iterating gives what `collate` returns, with the numbers of the samples; of an empty part, no pairs. Raises
    ValueError for a batch below 1, no samples, or a sample without any of the modalities.
    """

    def __init__(self, samples: Sequence[Sample], modalities: Sequence[str], batch: int, seed: int, share: Share = ALL):
        if batch < 1:
            raise ValueError(f"batch: expected at least 1 sample, got {batch}")
        _check_samples(samples, modalities)
        self.samples, self.modalities, self.batch, self.seed = samples, tuple(modalities), batch, seed
        self.share = share
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch)

    def __iter__(self) -> Iterator[tuple[Pairs[Padded], Tensor]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.samples))
        for first in range(self.start * self.batch, len(order), self.batch):
            numbers = self.share.of(order[first : first + self.batch].tolist())
            if not numbers:
                yield nothing()
                continue
            inputs, targets = collate([self.samples[i] for i in numbers], self.modalities)
            yield replace(inputs, numbers=numbers), targets


def collate(samples: Sequence[Sample], modalities: Sequence[str]) -> tuple[Pairs[Padded], Tensor]:
    """Makes samples a batch of the pairs that exist, with nothing filled in for those that do not.

    Where each step has a target, all modalities are padded to the length of the targets, so that they can be fused.

    samples: n of them, at least one; each has at least one of the modalities
    returns the pairs, modality -> Padded [n_m, L_m, F_m] for the n_m samples that have it (no key for a modality that
    none of them has), and the targets, [n] or [n, L]: float32 scores, NaN in padded steps, or int64 classes, -100 there
    Raises ValueError for no samples, or a sample without any of the modalities.
    """
    _check_samples(samples, modalities)
    having = samples_having([sample.values for sample in samples], modalities)
    values = {m: pad([samples[s].values[m] for s in members]) for m, members in having.items()}
    targets = [sample.target for sample in samples]
    if targets[0].ndim == 0:
        return Pairs(len(samples), having, values), torch.stack(targets)
    longest = max(len(target) for target in targets)
    values = {m: _lengthened(padded, longest) for m, padded in values.items()}
    nothing = NO_SCORE if targets[0].is_floating_point() else NO_CLASS
    return Pairs(len(samples), having, values), pad_sequence(targets, batch_first=True, padding_value=nothing)


def _lengthened(padded: Padded, length: int) -> Padded:
    """Returns the sequences padded to `length` steps, which is at least their L."""
    return padded._replace(values=F.pad(padded.values, (0, 0, 0, length - padded.values.shape[1])))


def _check_samples(samples: Sequence[Sample], modalities: Sequence[str]) -> None:
    """Raises ValueError for no samples, and for a sample without any of the modalities."""
    if not samples:
        raise ValueError("samples: expected at least one, got none")
    for sample in samples:
        if not any(m in sample.values for m in modalities):
            has = ", ".join(sample.values) or "nothing"
            raise ValueError(f"sample {sample.name} has {has}, expected at least one of {', '.join(modalities)}")
