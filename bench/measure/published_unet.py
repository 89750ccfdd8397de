"""The U-Net as the published code runs it: all modalities in one batch, PyTorch's own convolution, norm and ReLU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.models.modality_norms import ModalityGroupNorm
from gmd.models.unet3d import DoubleConv, UNet3d


class PublishedDoubleConv(DoubleConv):
    """Twice: convolution, GroupNorm, an affine of each sample's own, ReLU; an operation of PyTorch's for each."""

    def forward(self, x: Tensor, modality: int | Sequence[int]) -> Tensor:
        modalities = [modality] * len(x) if isinstance(modality, int) else modality
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            weight, bias = _affines(norm, modalities)
            x = F.group_norm(F.conv3d(x, conv.weight, conv.bias, padding=1), norm.groups)
            x = F.relu(x * weight + bias)
        return x


def _affines(norm: ModalityGroupNorm, modalities: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of each sample, by its modality: both [n, C, 1, 1, 1]."""
    weight, bias = (torch.stack([table[m] for m in modalities]) for table in (norm.weight, norm.bias))
    return weight[..., None, None, None], bias[..., None, None, None]


def as_published(network: UNet3d) -> UNet3d:
    """Changes the network's blocks in place, to compute as the published code does, and returns it."""
    for block in (*network.encoder, *network.decoder):
        block.__class__ = PublishedDoubleConv
    return network
