"""What the inputs of a manifest are standardised with, over a part of the training samples."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.sequences.samples import Sample


def input_statistics(
    samples: Sequence[Sample], inputs: Mapping[str, Input], preparation: Preparation, most: int = 1000
) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns modality -> (mean, standard deviation): float64 [3] of images, [M] of audio, [F] of features."""
    raise NotImplementedError
