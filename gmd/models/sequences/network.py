"""What the networks for sequences have in common: a path for each modality, from its steps to its features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gmd.data.padded import Padded
from gmd.data.pairs import Values
from gmd.models.multimodal import FeatureNetwork
from gmd.models.sequences.encoder import SequenceDropout
from gmd.models.sequences.input_statistics import Statistics
from gmd.models.sequences.projection import Projection, positions
from gmd.models.sequences.standardised import Standardised, set_statistics


class SequenceNetwork(FeatureNetwork):
    """A network that standardises steps, projects them, adds positions and encodes; kinds differ in `encode`, `fuse`.

    Args:
        features: modality -> F, the numbers of a step, at least 1.
        outputs: C, the number of classes; 1 for a score.
        per_step: whether each step has a target, and so features, of its own.
        width: d of the features.
        heads: number of the attention's heads in the encoders; it has to divide the width.
        dropout: rate at which the projected steps lose features, see SequenceDropout.

    Call it with the sequences of one modality and its index: Padded, or a tensor [n, L, F] if all are equally long.
    It returns [n, L, d] if per_step, zeros in the padded steps, else [n, d], the mean over the steps.
    Nothing depends on what stands in the padded steps, not even if that is NaN.
    `head` makes fused features into predictions [..., C].

    Raises ValueError for sizes that do not fit together, when it is made and when it is called.
    """

    def __init__(
        self, features: Mapping[str, int], outputs: int, per_step: bool, width: int, heads: int, dropout: float
    ):
        super().__init__()
        _check_sizes(features, outputs, width, heads)
        self.modalities = tuple(features)
        self.per_step = per_step
        self.heads = heads
        self.inputs = nn.ModuleList(Projection(m, number, width) for m, number in features.items())
        self.dropout = SequenceDropout(dropout)
        self.head = nn.Linear(width, outputs)

    def encode(self, tokens: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        """Lets the steps of one modality see each other: [n, L, d] -> [n, L, d].

        mask: [n, L] bool, True where there is a step; None if nothing is padded
        """
        raise NotImplementedError

    def forward(self, values: Values, modality: int) -> Tensor:
        return self.pool(self.encoded(values, modality))

    def encoded(self, values: Values, modality: int) -> Values:
        """Returns the encoded steps of a modality, [n, L, d], Padded with zeros if the sequences are; see `pool`."""
        if isinstance(values, Tensor):
            return self._encoded(values, modality, None)
        mask = values.mask
        return Padded(torch.where(mask[..., None], self._encoded(values.values, modality, mask), 0), values.lengths)

    def pool(self, steps: Tensor | Padded) -> Tensor:
        """Makes encoded steps the features of a modality: each step's own if per_step, else their mean."""
        return pooled(steps, self.per_step)

    def _encoded(self, steps: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        """Makes the steps of a modality tokens and encodes them: [n, L, F] -> [n, L, d]."""
        tokens = self.inputs[modality](steps, mask)
        return self.encode(self.dropout(tokens + positions(tokens)), modality, mask)

    def set_input_statistics(self, statistics: Statistics) -> None:
        """Sets the mean and the standard deviation that the steps are standardised with, which are 0 and 1 at first.

        Modalities that are not given keep theirs. A standard deviation of 0 counts as 1.
        Raises ValueError for a modality that the network does not know, and for numbers it cannot divide by.
        """
        layers = zip(self.modalities, self.inputs, strict=True)
        set_statistics({m: layer for m, layer in layers if isinstance(layer, Standardised)}, statistics)


def pooled(steps: Tensor | Padded, per_step: bool) -> Tensor:
    """Returns the mean of the steps of each sequence, [n, d], or with per_step all of them, [n, L, d]."""
    if not isinstance(steps, Padded):
        return steps if per_step else steps.mean(dim=1)
    return steps.values if per_step else steps.values.sum(dim=1) / steps.lengths[:, None]


def _check_sizes(features: Mapping[str, int], outputs: int, width: int, heads: int) -> None:
    """Raises ValueError for sizes that no network can have."""
    if not features:
        raise ValueError("features: expected at least one modality, got none")
    for modality, number in features.items():
        if number < 1:
            raise ValueError(f"features[{modality!r}]: expected at least 1 number per step, got {number}")
    if outputs < 1:
        raise ValueError(f"outputs: expected at least 1, got {outputs}")
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads, got {width}")
