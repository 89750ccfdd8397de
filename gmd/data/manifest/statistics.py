"""What the inputs of a manifest are standardised with, over a part of the training samples."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gmd.data.manifest.batches import one_thread
from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.manifest.load import load_cell
from gmd.data.sequences.samples import Sample

_AXIS = {"image": 1, "audio": 2, "features": 1}  # of a sample's value, over whose entries there are statistics


def input_statistics(
    samples: Sequence[Sample], inputs: Mapping[str, Input], preparation: Preparation, most: int = 1000
) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns the mean and standard deviation of each modality, over some of the samples that have it.

    most: samples of each modality, evenly spaced; they are read without augmentation
    returns modality -> (mean, standard deviation), float64 [3] of the colours of images, [M] of the bands of audio, [F]
        of features; none of text, nor of a modality that no sample has. Of what is constant the deviation is exactly 0.
    Raises UserError for a file that cannot be decoded.
    """
    having = {m: [sample for sample in samples if m in sample.values] for m in inputs if inputs[m].kind in _AXIS}
    with one_thread():
        return {m: _statistics(_some(own, most), m, inputs[m], preparation) for m, own in having.items() if own}


def _some(samples: Sequence[Sample], most: int) -> list[Sample]:
    places = np.linspace(0, len(samples) - 1, min(most, len(samples)))
    return [samples[round(place)] for place in places]


def _statistics(samples: Sequence[Sample], m: str, given: Input, preparation: Preparation) -> tuple[Tensor, Tensor]:
    """Returns the statistics of one modality, of which one value is in memory at a time.

    Parts are merged as Chan, Golub and LeVeque do (The American Statistician 37, 1983), eq. 1.5: differences of sums of
    squares would lose the digits of what hardly varies.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for sample in samples:
        value, _ = load_cell(sample.values[m], given, preparation, None)
        rows = value.double().movedim(_AXIS[given.kind], -1).flatten(end_dim=-2)
        own = rows.mean(dim=0)
        difference, total = own - mean, count + len(rows)
        mean = mean + difference * (len(rows) / total)
        squares = squares + (rows - own).square().sum(dim=0) + difference.square() * (count * len(rows) / total)
        count = total
    return mean, (squares / count).sqrt()
