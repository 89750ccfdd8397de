"""Fusion by attention between the modalities, as CGGM's networks have it (Guo et al., NeurIPS 2024)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gmd.data.pairs import Pairs
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.sequences.encoder import Encoder
from gmd.subsets import Subset

FUSION_LAYERS = 1  # between tokens as few as there are modalities


class AttentionFusion(MultimodalNetwork):
    """A network that fuses its modalities' features by a transformer; what derives from it calls `add_fusion`.

    Each modality's features, plus a vector that says which modality it is, are a token; the fused features are the mean
    of what the fusion encoder makes of the tokens that are there.
    """

    origins: nn.ParameterList
    fusion: Encoder

    def add_fusion(self, width: int, heads: int, dropout: float) -> None:
        """Makes the vectors of the modalities and the fusion encoder, for features [n, ..., width]."""
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
