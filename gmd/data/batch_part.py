"""A part of a batch in which every subset of the modalities that the batch has is still there."""

import math

from gmd.data.pairs import Pairs, Values


def representative_samples(inputs: Pairs[Values], fraction: float) -> list[int]:
    """Returns the numbers of the samples of a part of a batch, ascending.

    They are those with the most modalities, `fraction` of the batch rounded up, and as many more as it takes: whatever
    subset of the modalities some sample of the batch has all of, some sample of the part has all of.

    fraction: above 0, at most 1
    """
    has = [frozenset(m for m, samples in inputs.samples.items() if s in samples) for s in range(inputs.num_samples)]
    least = math.ceil(fraction * inputs.num_samples)
    chosen: list[int] = []
    for sample in sorted(range(inputs.num_samples), key=lambda s: -len(has[s])):
        if len(chosen) < least or not any(has[sample] <= has[other] for other in chosen):
            chosen.append(sample)
    return sorted(chosen)
