"""A network with an encoder for each modality, and a transformer that fuses their features."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gmd.data.pairs import Pairs
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.encoder import Encoder
from gmd.subsets import Subset

FUSION_LAYERS = 1  # between tokens as few as there are modalities


class LateFusionTransformer(BranchNetwork):
    """A network such as CGGM trains (Guo et al., NeurIPS 2024): private encoders, then attention between modalities.

    Each modality's features, plus a vector that says which modality it is, are a token; the fused features are the mean
    of what the fusion encoder makes of the tokens that are there. With per_step, each step is fused by itself.

    See SequenceNetwork for the arguments; `layers` is the number of blocks of each modality's encoder.
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
        self.origins = nn.ParameterList(0.02 * torch.randn(width) for _ in self.modalities)
        self.fusion = Encoder(1, width, FUSION_LAYERS, heads, dropout)

    def fuse(self, outputs: Pairs[Tensor], subset: Subset | None = None) -> tuple[Tensor, list[int]]:
        if subset is not None:
            rows, samples = outputs.rows(subset)
            return self._fused(self._tokens(subset, rows), None), samples
        rows = [outputs.for_every_sample(m) for m in outputs.values]
        present = outputs.present()
        mask = None if present.all() else present.to(rows[0].device)
        return self._fused(self._tokens(outputs.values, rows), mask), list(range(outputs.num_samples))

    def _tokens(self, modalities: Iterable[str], rows: list[Tensor]) -> Tensor:
        """Makes the features of S modalities, each [b, ..., d], tokens that know their modality: [b, ..., S, d]."""
        origins = [self.origins[self.modalities.index(m)] for m in modalities]
        return torch.stack([row + origin for row, origin in zip(rows, origins, strict=True)], dim=-2)

    def _fused(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Fuses the S tokens of each sample and step: [b, ..., S, d] -> [b, ..., d].

        mask: [b, S] bool, True for the tokens that are there; None if all are
        """
        flat = tokens.flatten(0, -3)
        if mask is None:
            fused = self.fusion(flat, 0).mean(dim=1)
        else:
            mask = mask.repeat_interleave(len(flat) // len(mask), dim=0)  # a sample's steps lie one after the other
            encoded = torch.where(mask[..., None], self.fusion(flat, 0, mask), 0)
            fused = encoded.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return fused.view(*tokens.shape[:-2], -1)
