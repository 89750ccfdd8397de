"""Norms with one affine per modality: the private parameters of Dynamic Sharing (Wang et al., AAAI 2024)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gmd_kernels as gk


class ModalityGroupNorm(nn.Module):
    """GroupNorm with one affine per modality, and ReLU.

    The affines are parameters of their own, not rows of one: so the gradient of a modality that is absent is None.

    Args:
        channels: C of the feature maps.
        num_modalities: how many modalities have an affine.
        max_groups: the number of groups is the greatest common divisor of this and `channels`.
    """

    def __init__(self, channels: int, num_modalities: int, max_groups: int = 8):
        super().__init__()
        self.groups = math.gcd(channels, max_groups)
        self.weight = nn.ParameterList(torch.ones(channels) for _ in range(num_modalities))
        self.bias = nn.ParameterList(torch.zeros(channels) for _ in range(num_modalities))

    def forward(self, x: Tensor, modality: int | Sequence[int]) -> Tensor:
        """Normalises feature maps [n, C, ...] floating, with the affine of their modality; returns the same shape.

        modality: the index of all n pairs, or n indices
        Raises ValueError for another number of indices.
        """
        if isinstance(modality, int):
            return gk.group_norm_relu(x, self.weight[modality][None], self.bias[modality][None], self.groups)
        if len(modality) != len(x):
            raise ValueError(f"modality: expected {len(x)} indices, one for each pair, got {len(modality)}")
        # a row for each pair, not for each modality: the gradient of one that is absent has to be None
        weight = torch.stack([self.weight[m] for m in modality])
        bias = torch.stack([self.bias[m] for m in modality])
        return gk.group_norm_relu(x, weight, bias, self.groups)


class ModalityLayerNorm(nn.Module):
    """LayerNorm over the last dimension with one affine per modality, each a parameter of its own."""

    def __init__(self, width: int, num_modalities: int):
        super().__init__()
        self.weight = nn.ParameterList(torch.ones(width) for _ in range(num_modalities))
        self.bias = nn.ParameterList(torch.zeros(width) for _ in range(num_modalities))

    def forward(self, x: Tensor, modality: int) -> Tensor:
        """Normalises tokens [..., d] of one modality, the one with this index; returns the same shape."""
        return F.layer_norm(x, x.shape[-1:], self.weight[modality], self.bias[modality])
