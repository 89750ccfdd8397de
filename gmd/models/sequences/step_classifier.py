"""A small transformer that predicts from the encoded steps of one modality: a classifier of CGGM as published."""

import torch
from torch import Tensor, nn

from gmd.data.padded import Padded
from gmd.models.sequences.encoder import Encoder
from gmd.models.sequences.network import pooled

LAYERS = 2  # as published


class StepClassifier(nn.Module):
    """A transformer, the mean over the steps, a projection with ReLU, and an output layer (Guo et al., NeurIPS 2024).

    The published classifier reads the first step of what its transformer makes of the sequence, in the place of their
    mean, and its projection is used twice in a row.

    Args:
        width: d of the encoded steps.
        outputs: C, the number of classes; 1 for a score.
        per_step: whether each step is judged, or the sequence as a whole.
        heads: of the attention; it has to divide the width.
        dropout: rate at which features are lost, see SequenceDropout.

    Attributes:
        head: the output layer, of the shape of the network's own.
    """

    def __init__(self, width: int, outputs: int, per_step: bool, heads: int, dropout: float):
        super().__init__()
        self.per_step = per_step
        self.encoder = Encoder(1, width, LAYERS, heads, dropout)
        self.projection = nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, steps: Tensor | Padded) -> Tensor:
        """Predicts from steps [n, L, d]: [n, C], or [n, L, C] if each step is judged."""
        if isinstance(steps, Padded):
            mask = steps.mask
            encoded = torch.where(mask[..., None], self.encoder(steps.values, 0, mask), 0)
            features = pooled(Padded(encoded, steps.lengths), self.per_step)
        else:
            features = pooled(self.encoder(steps, 0), self.per_step)
        predictions: Tensor = self.head(self.projection(features).relu())
        return predictions
