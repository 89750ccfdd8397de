"""A network with an encoder for each modality, and a transformer that fuses their features."""

from collections.abc import Mapping

from gmd.models.attention_fusion import AttentionFusion
from gmd.models.sequences.branch_network import BranchNetwork


class LateFusionTransformer(AttentionFusion, BranchNetwork):
    """A network such as CGGM trains (Guo et al., NeurIPS 2024): private encoders, then attention between modalities.

    With per_step, each step is fused by itself. See SequenceNetwork for the arguments; `layers` is the number of blocks
    of each modality's encoder.
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
        super().__init__(features, outputs, per_step, width, layers, heads, dropout)
        self.add_fusion(width, heads, dropout)
