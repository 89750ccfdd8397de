"""Samples without the modalities that they are to lack."""

from collections.abc import Sequence

from gmd.data.missing import Missing
from gmd.data.sequences.samples import Sample


def make_absent(samples: Sequence[Sample], missing: Missing) -> list[Sample]:
    """Takes from each of the samples what it is to lack, see `Missing`. Raises UserError as its methods."""
    missing.check_named([sample.name for sample in samples])
    kept = [missing.kept(sample.name, tuple(sample.values)) for sample in samples]
    return [
        sample._replace(values={m: sample.values[m] for m in modalities})
        for sample, modalities in zip(samples, kept, strict=True)
    ]
