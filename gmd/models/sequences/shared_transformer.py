"""The transformer of Dynamic Sharing: one encoder for the sequences of every modality."""

from collections.abc import Mapping

from torch import Tensor

from gmd.models.sequences.encoder import Encoder
from gmd.models.sequences.network import SequenceNetwork


class SharedTransformer(SequenceNetwork):
    """Dynamic Sharing (Wang et al., AAAI 2024): private projections and LayerNorms, everything else shared.

    The fusion is the mean of the features. See SequenceNetwork for the arguments; `layers` is the number of blocks.
    """

    def __init__(
        self,
        features: Mapping[str, int],
        outputs: int,
        per_step: bool,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ):
        super().__init__(features, outputs, per_step, width, heads, dropout)
        self.encoder = Encoder(len(self.modalities), width, layers, heads, dropout)

    def encode(self, tokens: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        return self.encoder(tokens, modality, mask)
