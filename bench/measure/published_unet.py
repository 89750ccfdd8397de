"""The U-Net as the published code runs it: all modalities in one batch, PyTorch's own convolution, norm and ReLU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.models.segmentation.unet3d import DoubleConv, UNet3d


class PublishedDoubleConv(DoubleConv):
    """Twice: convolution, GroupNorm, an affine of each sample's own, ReLU; an operation of PyTorch's for each."""

    def forward(self, x: Tensor, modality: list[int]) -> Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            weight, bias = (
                torch.stack([table[m] for m in modality]).view(len(x), -1, 1, 1, 1)
                for table in (norm.weight, norm.bias)
            )
            x = F.group_norm(F.conv3d(x, conv.weight, padding=1), norm.groups)
            x = F.relu(x * weight + bias)
        return x


def as_published(network: UNet3d) -> UNet3d:
    """The same network with the same parameters, computed so from now on."""
    for block in (*network.encoder, *network.decoder):
        block.__class__ = PublishedDoubleConv
    return network
