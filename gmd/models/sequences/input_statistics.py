"""What the steps of each modality are standardised with: mean and standard deviation over the training samples."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gmd.data.sequences.samples import Sample

Statistics = Mapping[str, tuple[Tensor, Tensor]]  # modality -> (mean [F], standard deviation [F]), any float type


def input_statistics(samples: Sequence[Sample]) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns the mean and standard deviation of each modality's features, over all steps of the samples that have it.

    returns modality -> (mean, standard deviation), both float64 [F]; a modality that no sample has is left out. The
    standard deviation (not the unbiased one) of a constant feature is exactly 0.
    """
    present = dict.fromkeys(m for sample in samples for m in sample.values)
    return {m: _statistics([sample.values[m] for sample in samples if m in sample.values]) for m in present}


def _statistics(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    # one sequence after the other, since all of a large set would not fit into memory twice; constants in float32 have
    # exact sums in float64, and so a standard deviation of 0
    count = sum(len(sequence) for sequence in sequences)
    zeros = torch.zeros(sequences[0].shape[1:], dtype=torch.float64)
    mean = sum((sequence.double().sum(dim=0) for sequence in sequences), zeros) / count
    square = sum(((sequence - mean).square().sum(dim=0) for sequence in sequences), zeros) / count
    return mean, square.sqrt()
