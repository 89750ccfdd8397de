"""Tokens of a text become the vectors that a transformer takes."""

import torch
from torch import Tensor, nn

PADDING = 0  # the token that no text has


class Words(nn.Module):
    """A learnt vector for each token of a vocabulary.

    Args:
        modality: its name, for error messages.
        vocabulary: V; tokens are from 1 to V - 1.
        width: d of the vectors.
    """

    def __init__(self, modality: str, vocabulary: int, width: int):
        super().__init__()
        self.modality = modality
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Looks up tokens, int64 [n, L], as [n, L, d]. Raises ValueError for another shape or type.

        mask: [n, L] bool, True where there is a token; the others count as padding, whatever stands there
        """
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"{self.modality}: expected int64 [n, L], got {tokens.dtype} {list(tokens.shape)}")
        return self.embedding(tokens if mask is None else torch.where(mask, tokens, PADDING))
