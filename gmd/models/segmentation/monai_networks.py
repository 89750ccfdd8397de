"""MONAI's networks for segmentation, from one modality's volume to logits, with their published channels times a width.

What each takes is in architectures.py. Their last layer, a 1x1x1 convolution, is replaced by the U-Net's: it begins
with the regions' share of the voxels too.
"""

import math
from collections.abc import Callable

from torch import nn

from gmd.models.segmentation.architectures import Patch, levels_of_dynunet
from gmd.models.unet3d import Head

HEADS = 12  # of UNETR's attention; and SwinUNETR's channels are multiples of 12 for its own heads


def make_monai_network(name: str, regions: int, patch: Patch, width: float) -> tuple[nn.Module, str]:
    """Builds a network of MONAI, with weights from torch's current random state.

    name: one of MAKERS; regions: R, how many output channels it has
    patch: the size that it will be given, which decides the depth of DynUNet and the positions of UNETR
    width: factor on the published channels, which are rounded to what the network can have
    returns the network, from [n, 1, X, Y, Z] to logits [n, R, X, Y, Z], and the name of its last layer
    """
    make, last = MAKERS[name]
    network = make(regions, patch, width)
    parent, _, attribute = last.rpartition(".")
    old = getattr(network.get_submodule(parent), attribute)
    setattr(network.get_submodule(parent), attribute, Head(old.in_channels, old.out_channels, kernel_size=1))
    return network, last


def _times(channels: int, width: float, multiple: int = 1) -> int:
    """Returns the channels times the width, as the nearest multiple that is not 0."""
    return max(1, round(channels * width / multiple)) * multiple


def _segresnet(regions: int, patch: Patch, width: float) -> nn.Module:
    """SegResNet (Myronenko, BrainLes 2018) without its autoencoder: 32 to 256 channels."""
    from monai.networks.nets.segresnet import SegResNet

    filters = _times(32, width)
    norm = ("GROUP", {"num_groups": math.gcd(filters, 8)})
    return SegResNet(init_filters=filters, out_channels=regions, norm=norm)


def _dynunet(regions: int, patch: Patch, width: float) -> nn.Module:
    """DynUNet: the network of nnU-Net (Isensee et al., Nature Methods 2021), 32 to 320 channels."""
    from monai.networks.nets.dynunet import DynUNet

    levels = levels_of_dynunet(patch)
    filters = [_times(channels, width) for channels in (32, 64, 128, 256, 320, 320)[:levels]]
    strides = [1] + [2] * (levels - 1)
    return DynUNet(3, 1, regions, [3] * levels, strides, strides[1:], filters=filters)


def _swinunetr(regions: int, patch: Patch, width: float) -> nn.Module:
    """SwinUNETR (Hatamizadeh et al., BrainLes 2021): 48 to 768 channels."""
    from monai.networks.nets.swin_unetr import SwinUNETR

    return SwinUNETR(in_channels=1, out_channels=regions, feature_size=_times(48, width, HEADS))


def _unetr(regions: int, patch: Patch, width: float) -> nn.Module:
    """UNETR (Hatamizadeh et al., WACV 2022): 768 features of each 16x16x16 voxels, 16 to 128 channels behind them."""
    from monai.networks.nets.unetr import UNETR

    hidden = _times(768, width, HEADS)
    features = _times(16, width)
    return UNETR(1, regions, patch, feature_size=features, hidden_size=hidden, mlp_dim=4 * hidden, num_heads=HEADS)


def _basicunet(regions: int, patch: Patch, width: float) -> nn.Module:
    """BasicUNet: MONAI's, after the 3-D U-Net of Falk et al., Nature Methods 2019; 32 to 256 channels."""
    from monai.networks.nets.basic_unet import BasicUNet

    features = [_times(channels, width) for channels in (32, 32, 64, 128, 256, 32)]
    return BasicUNet(3, 1, regions, features=features)


def _attentionunet(regions: int, patch: Patch, width: float) -> nn.Module:
    """AttentionUnet (Oktay et al., MIDL 2018): 16 to 256 channels."""
    from monai.networks.nets.attentionunet import AttentionUnet

    channels = [_times(channels, width, 2) for channels in (16, 32, 64, 128, 256)]  # a gate has half of them
    return AttentionUnet(3, 1, regions, channels=channels, strides=[2] * 4)


def _vnet(regions: int, patch: Patch, width: float) -> nn.Module:
    """VNet (Milletari et al., 3DV 2016): 16 to 256 channels, whatever the width."""
    from monai.networks.nets.vnet import VNet

    return VNet(out_channels=regions)


# name -> what makes it, and the name of its last layer
MAKERS: dict[str, tuple[Callable[[int, Patch, float], nn.Module], str]] = {
    "segresnet": (_segresnet, "conv_final.2.conv"),
    "dynunet": (_dynunet, "output_block.conv.conv"),
    "swinunetr": (_swinunetr, "out.conv.conv"),
    "unetr": (_unetr, "out.conv.conv"),
    "basicunet": (_basicunet, "final_conv"),
    "attentionunet": (_attentionunet, "model.2.conv"),
    "vnet": (_vnet, "out_tr.conv2"),
}
