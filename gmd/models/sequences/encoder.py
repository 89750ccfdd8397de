"""A transformer encoder whose LayerNorms belong to one modality each, and whose other parameters to all of them."""

import torch.nn.functional as F
from torch import Tensor, nn

from gmd.models.modality_norms import ModalityLayerNorm

EXPANSION = 2  # the MLP is twice as wide between its layers; the usual 4 would be half of all the work


class Encoder(nn.Module):
    """A pre-norm transformer (Xiong et al., ICML 2020): blocks, then a last LayerNorm.

    Args:
        num_modalities: how many modalities share it. An encoder of a modality's own serves one, with index 0.
        width: d of the tokens, a multiple of `heads`.
        layers: number of blocks.
        heads: number of the attention's heads.
        dropout: rate at which what a block adds to the tokens loses features, see SequenceDropout. The attention's own
            weights are left whole: torch has no fused attention on the CPU that drops some.
    """

    def __init__(self, num_modalities: int, width: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(Block(num_modalities, width, heads, dropout) for _ in range(layers))
        self.norm = ModalityLayerNorm(width, num_modalities)

    def forward(self, tokens: Tensor, modality: int, mask: Tensor | None = None) -> Tensor:
        """Lets the tokens of each sequence attend to one another: [n, L, d] floating -> [n, L, d].

        modality: the index of the one that all the sequences are of
        mask: [n, L] bool, True for the tokens that are attended to, of which every sequence has to have one; None: all
        """
        mask = None if mask is None else mask[:, None, None]  # the same for all heads and queries
        for block in self.blocks:
            tokens = block(tokens, modality, mask)
        return self.norm(tokens, modality)


class Block(nn.Module):
    """Self-attention, then an MLP; both read the normalised tokens and add to the tokens what they make of them."""

    def __init__(self, num_modalities: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm1 = ModalityLayerNorm(width, num_modalities)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = ModalityLayerNorm(width, num_modalities)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))
        self.dropout = SequenceDropout(dropout)

    def forward(self, tokens: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        tokens = tokens + self.dropout(self._attention(self.norm1(tokens, modality), mask))
        return tokens + self.dropout(self.mlp(self.norm2(tokens, modality)))

    def _attention(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        # each [n, heads, L, d / heads]; split so that their gradients need one copy to become that of the product
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.mix(mixed.transpose(1, 2).flatten(2))


class SequenceDropout(nn.Dropout1d):
    """Dropout of a sequence's features at all of its steps together (Gal and Ghahramani, NeurIPS 2016).

    Drawing a number for each step would take a CPU as long as all the rest of a forward pass.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Drops features of tokens [n, L, d] while training; returns the same shape."""
        return super().forward(tokens.transpose(1, 2)).transpose(1, 2)
