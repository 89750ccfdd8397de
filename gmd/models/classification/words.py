"""Tokens of a text become the vectors that a transformer takes."""

import torch
from torch import Tensor, nn

PADDING = 0  # the token that no text has


class Words(nn.Module):
    """A learnt vector for each token of a vocabulary.

    The weights are as small as those of other layers, and multiplied by the root of the width (Vaswani et al., NeurIPS
    2017, section 3.4). An optimizer such as AdamW, which moves all weights by about as much, would take that many more
    steps to learn a vector of numbers around 1, of a word that it sees a few times.

    Args:
        modality: its name, for error messages.
        vocabulary: V; tokens are from 1 to V - 1.
        width: d of the vectors.
    """

    def __init__(self, modality: str, vocabulary: int, width: int):
        super().__init__()
        self.modality = modality
        self.scale = width**0.5
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight /= self.scale

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Looks up tokens, int64 [n, L], as [n, L, d]. Raises ValueError for another shape or type.

        mask: [n, L] bool, True where there is a token; the others count as padding, whatever stands there
        """
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"{self.modality}: expected int64 [n, L], got {tokens.dtype} {list(tokens.shape)}")
        return self.scale * self.embedding(tokens if mask is None else torch.where(mask, tokens, PADDING))
