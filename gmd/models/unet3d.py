"""A 3-D U-Net whose convolutions serve every modality and whose norms belong to one each."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gmd.models.conv import Conv3d
from gmd.models.modality_norms import ModalityGroupNorm
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.models.segmentation.resampling import doubled, halved

CHANNELS = (32, 64, 128, 256, 256)  # of the levels, at width 1
# Regions are a few per cent of the voxels. From that prior (Lin et al., ICCV 2017, section 3.3) the background is right
# at once; starting from 0, it drives every weight of the last layer below 0 before any region is found.
PRIOR_LOGIT = -3.0


class UNet3d(SegmentationNetwork):
    """U-Net of Dynamic Sharing (Wang et al., AAAI 2024): shared 3-D convolutions, one GroupNorm affine per modality.

    It is the published network to the unit: of four modalities and three regions it has 12,960,099 parameters, of which
    17,664 are private, and at width 0.5 3,245,235 and 8,832, in 182 tensors.

    Args:
        modalities: names, in the order of their indices.
        regions: names of the output channels.
        width: factor on the published channels: 32, 64, 128, 256, 256 on the way down, 128, 64, 32, 32 on the way up.

    Call it with single-channel volumes [n, 1, X, Y, Z], float, and the modality index of each
    (an int for all of them, or n ints); it returns logits [n, R, X, Y, Z]. X, Y and Z must be multiples of `stride`.
    """

    stride = 2 ** (len(CHANNELS) - 1)

    def __init__(self, modalities: Sequence[str], regions: Sequence[str], width: float = 1.0):
        super().__init__()
        channels = [max(1, round(c * width)) for c in CHANNELS]
        self.modalities = tuple(modalities)
        self.regions = tuple(regions)
        down = pairwise([1, *channels])
        self.encoder = nn.ModuleList(DoubleConv(i, o, o, len(modalities)) for i, o in down)
        # a level gets as many channels from below as over the skip, and hands on as many as the finer level's skip has
        up = reversed(list(pairwise([channels[0], *channels[:-1]])))
        self.decoder = nn.ModuleList(DoubleConv(2 * skip, skip, finer, len(modalities)) for finer, skip in up)
        self.head = Head(channels[0], len(regions), kernel_size=1)

    def forward(self, volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        return self.head(self.features(volumes, modality))

    def features(self, volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        """Computes what `head` makes the logits of: [n, C, X, Y, Z], with the channels of the finest level."""
        if volumes.ndim != 5 or volumes.shape[1] != 1 or any(s % self.stride for s in volumes.shape[2:]):
            raise ValueError(
                f"volumes: expected [n, 1, X, Y, Z] with X, Y, Z multiples of {self.stride}, got {list(volumes.shape)}"
            )
        x, skips = volumes, []
        for level, block in enumerate(self.encoder):
            x = block(halved(x) if level else x, modality)
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = block(torch.cat([skips.pop(), doubled(x)], dim=1), modality)
        return x


class Head(Conv3d):
    """The last layer, from features to logits. A reset copy of it, such as CGGM's, starts from the prior again."""

    def reset_parameters(self) -> None:
        """Draws the weights anew, and sets every bias to the logit of the prior."""
        super().reset_parameters()
        assert self.bias is not None  # torch leaves it out only where a convolution is asked to have none
        nn.init.constant_(self.bias, PRIOR_LOGIT)


class DoubleConv(nn.Module):
    """One level of the U-Net: twice a shared 3x3x3 convolution, GroupNorm with the modality's own affine, and ReLU."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, num_modalities: int):
        super().__init__()
        self.conv1 = Conv3d(in_channels, mid_channels, kernel_size=3, padding=1)
        self.norm1 = ModalityGroupNorm(mid_channels, num_modalities)
        self.conv2 = Conv3d(mid_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = ModalityGroupNorm(out_channels, num_modalities)

    def forward(self, x: Tensor, modality: int | Sequence[int]) -> Tensor:
        x = self.norm1(self.conv1(x), modality)
        return self.norm2(self.conv2(x), modality)
