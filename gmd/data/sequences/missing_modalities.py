"""Modalities that are missing at random: the same ones in every epoch, whatever else is drawn."""

import hashlib
from collections.abc import Sequence

from gmd.data.sequences.samples import Sample
from gmd.errors import UserError


def make_absent(samples: Sequence[Sample], rate: float, seed: int) -> list[Sample]:
    """Takes some of its modalities from each of the samples.

    Every modality of every sample gets a number in [0, 1) that depends on (seed, the sample's name, the modality) alone
    and is absent if that is below `rate`. A sample that would lose all keeps the one with the largest number. So what
    is absent at a rate is absent at every higher one, and of samples with M modalities the part rate - rate^M / M of
    the modalities is absent.

    rate: in [0, 1)
    Raises UserError for another rate.
    """
    if not 0 <= rate < 1:
        raise UserError(f"missing rate {rate:g}: expected at least 0 and below 1, at which no sample would be left")
    return [_lessened(sample, rate, seed) for sample in samples]


def _lessened(sample: Sample, rate: float, seed: int) -> Sample:
    """Returns the sample with the modalities whose number is not below the rate."""
    drawn = {m: _uniform(seed, sample.name, m) for m in sample.values}
    kept = [m for m in drawn if drawn[m] >= rate] or [max(drawn, key=drawn.__getitem__)]
    return sample._replace(values={m: sample.values[m] for m in kept})


def _uniform(seed: int, name: str, modality: str) -> float:
    """Returns a hash in [0, 1): a generator would make one sample's draw depend on the samples before it."""
    # the name's length, so that no name with a modality in it is taken for another
    key = f"{seed} {len(name)} {name} {modality}".encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # the digits that a float64 has
