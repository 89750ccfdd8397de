"""A network with an encoder for each modality, and one head for all of them."""

from collections.abc import Mapping

from torch import Tensor, nn

from gmd.models.sequences.encoder import Encoder
from gmd.models.sequences.network import SequenceNetwork


class BranchNetwork(SequenceNetwork):
    """A network such as MLA trains (Zhang et al., CVPR 2024): nothing but the head is shared.

    The fusion is the mean of the features. See SequenceNetwork for the arguments; `layers` is the number of blocks of
    each encoder.
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
        self.encoders = nn.ModuleList(Encoder(1, width, layers, heads, dropout) for _ in self.modalities)

    def encode(self, tokens: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        return self.encoders[modality](tokens, 0, mask)
