"""Batches of the (sample, modality) pairs that exist, patches of one size."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd.data.pairs import Pairs, samples_having


def collate(samples: Sequence[dict[str, Tensor]], modalities: Sequence[str]) -> tuple[Pairs[Tensor], Tensor]:
    """Makes samples a batch of the pairs that exist, with nothing filled in for those that do not.

    samples: B dictionaries as from RandomPatches
    returns the pairs, modality -> float32 [n_m, 1, X, Y, Z] for the n_m samples that have it (no key for a
    modality that none of them has), and the targets, float32 [B, R, X, Y, Z]
    """
    having = samples_having(samples, modalities)
    values = {m: torch.stack([samples[s][m] for s in members]) for m, members in having.items()}
    return Pairs(len(samples), having, values), torch.stack([sample["target"] for sample in samples]).float()
