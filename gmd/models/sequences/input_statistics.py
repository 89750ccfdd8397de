"""What the steps of each modality are standardised with: mean and standard deviation over the training samples."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gmd.data.sequences.samples import Sample

Statistics = Mapping[str, tuple[Tensor, Tensor]]  # modality -> (mean [F], standard deviation [F]), any float type


def input_statistics(samples: Sequence[Sample]) -> dict[str, tuple[Tensor, Tensor]]:
    """Of all steps of the samples that have the modality: its mean [F] and standard deviation [F], both float64.

    The standard deviation of a constant feature is exactly 0. A modality that no sample has is left out.
    """
    present = dict.fromkeys(m for sample in samples for m in sample.values)
    return {m: _statistics([sample.values[m] for sample in samples if m in sample.values]) for m in present}


def _statistics(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    # one sequence after the other, since all of a large set would not fit into memory twice; constants in float32 have
    # exact sums in float64, and so a standard deviation of 0
    count = sum(len(sequence) for sequence in sequences)
    mean = sum(sequence.double().sum(dim=0) for sequence in sequences) / count
    square = sum((sequence - mean).square().sum(dim=0) for sequence in sequences) / count
    return mean, square.sqrt()
