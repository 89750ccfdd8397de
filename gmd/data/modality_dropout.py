"""Modality dropout: of each sample of a batch a random subset of its modalities stays, and the rest is not computed."""

import torch

from gmd.data.pairs import Pairs, Values, samples_having


def drop_modalities(inputs: Pairs[Values], generator: torch.Generator) -> Pairs[Values]:
    """Returns a batch in which each sample has a random subset of its modalities left, at least one.

    All non-empty subsets of the modalities that a sample has are equally likely, whatever the other samples have. A
    modality that no sample has left gets no key. It is how most networks for missing modalities are trained (RFNet,
    Ding et al., ICCV 2021; mmFormer, Zhang et al., MICCAI 2022).

    inputs: each sample has at least one modality
    generator: on the CPU; one number is drawn for each sample, in their order
    Raises ValueError for a sample without a modality.
    """
    has: list[list[str]] = [[] for _ in range(inputs.num_samples)]
    for modality, samples in inputs.samples.items():
        for sample in samples:
            has[sample].append(modality)
    if not all(has):
        raise ValueError(f"sample {has.index([])} of this batch has no modality, expected at least one to keep")
    kept = [_any_subset(modalities, generator) for modalities in has]
    return inputs.only(samples_having(kept, list(inputs.values)))


def _any_subset(modalities: list[str], generator: torch.Generator) -> list[str]:
    """Returns one of the non-empty subsets of the modalities, each with the same probability."""
    chosen = int(torch.randint(1, 2 ** len(modalities), (), generator=generator))  # a bit for each modality
    return [m for bit, m in enumerate(modalities) if chosen >> bit & 1]
