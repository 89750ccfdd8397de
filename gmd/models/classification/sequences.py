"""Texts and sequences of features become features, by a transformer for each modality or by one for all of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gmd.data.manifest.inputs import Input
from gmd.data.padded import Padded
from gmd.models.classification.words import Words
from gmd.models.modality_norms import ModalityLayerNorm
from gmd.models.sequences.encoder import Encoder, SequenceDropout
from gmd.models.sequences.projection import Projection, positions


class SequenceEncoders(nn.Module):
    """A transformer for the sequences of several modalities.

    Args:
        inputs: modality -> its kind, text or features, and its sizes.
        width: d of the tokens and of the features, a multiple of `heads`.
        layers: number of blocks.
        heads: number of the attention's heads.
        dropout: rate at which tokens, and what a block adds to them, lose features, see SequenceDropout.
        shared: whether one transformer serves all modalities, with an embedding or projection and LayerNorms of each
            one's own (Dynamic Sharing); else each has its own.

    Call it with the sequences of one modality, tokens int64 [n, L] or features float [n, L, F], both Padded, and its
    index; it returns [n, d], the mean over the steps. Nothing depends on what stands in the padded steps.
    """

    def __init__(self, inputs: Mapping[str, Input], width: int, layers: int, heads: int, dropout: float, shared: bool):
        super().__init__()
        self.shared = shared
        self.inputs = nn.ModuleList(_first_layer(m, given, width) for m, given in inputs.items())
        self.dropout = SequenceDropout(dropout)
        of_each = [len(inputs)] if shared else [1] * len(inputs)
        self.encoders = nn.ModuleList(Encoder(number, width, layers, heads, dropout) for number in of_each)

    def forward(self, sequences: Padded, place: int) -> Tensor:
        mask = sequences.mask
        tokens = self.inputs[place](sequences.values, mask)
        encoder, index = (self.encoders[0], place) if self.shared else (self.encoders[place], 0)
        encoded = encoder(self.dropout(tokens + positions(tokens)), index, mask)
        return torch.where(mask[..., None], encoded, 0).sum(dim=1) / sequences.lengths[:, None]

    def private_parameters(self, place: int) -> list[nn.Parameter]:
        """Returns the parameters that belong to the modality of this index alone."""
        own = [*self.inputs[place].parameters()]
        if not self.shared:
            return [*own, *self.encoders[place].parameters()]
        norms = (module for module in self.encoders.modules() if isinstance(module, ModalityLayerNorm))
        return own + [affine[place] for norm in norms for affine in (norm.weight, norm.bias)]


def _first_layer(modality: str, given: Input, width: int) -> Words | Projection:
    if given.kind == "text":
        return Words(modality, given.sizes["vocabulary"], width)
    return Projection(modality, given.sizes["features"], width)
