"""The networks for pictures and spectrograms, in two parts: the first convolution, and all that is behind it.

So modalities of other channels than each other's can share one: each has a first convolution of its own.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from gmd.errors import UserError, shown
from gmd.models.lone_batch_norm import allow_lone_values
from gmd.models.strip_mlp import STRIDE, VARIANTS, StripMLP, Variant, check_sizes

PATCH = 4  # pixels, along each side, of which Strip-MLP makes a token
RESNET_CHANNELS = 64, 512  # of ResNet-18: behind its first convolution, and of its features


class PictureNetwork(NamedTuple):
    """How the parts of a network are made.

    Attributes:
        stem: channels of the pictures -> the first convolution.
        body: side -> the rest, from what the stem returns to features [n, F].
        features: F.
        square: whether pictures have to be squares of a multiple of 32 pixels, the side that the body is made for.
        parameters: about how many there are, for pictures of 224 pixels.
    """

    stem: Callable[[int], nn.Conv2d]
    body: Callable[[int], nn.Module]
    features: int
    square: bool
    parameters: int


def resnet_network(widen: float = 1.0) -> PictureNetwork:
    """Returns how a ResNet-18 (He et al., CVPR 2016) is made, of channels that are the published ones times `widen`."""
    first, last = (int(channels * widen) for channels in RESNET_CHANNELS)
    stem, body = partial(_resnet_stem, outputs=first), partial(_resnet_body, widen=widen)
    return PictureNetwork(stem, body, last, square=False, parameters=int(11.2e6 * widen**2))


def _resnet_stem(channels: int, outputs: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, outputs, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem


def _resnet_body(side: int, widen: float) -> nn.Module:
    from monai.networks.nets.resnet import resnet18  # slow to import, and not needed for text and features

    network = resnet18(spatial_dims=2, conv1_t_stride=2, bias_downsample=False, feed_forward=False, widen_factor=widen)
    network.set_submodule("conv1", nn.Identity())
    allow_lone_values(network)
    return network


class StripBody(StripMLP):
    """Strip-MLP (Cao et al., ICCV 2023) behind its first convolution and without its last layer.

    Call it with the tokens of patches [n, E, side / 4, side / 4]; it returns features [n, 8E].
    """

    def __init__(self, side: int, variant: Variant):
        super().__init__(side, 1, *variant)
        del self.patch_embed, self.head
        allow_lone_values(self)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mixed(self.laid_out(tokens))


def _strip_stem(channels: int, variant: Variant) -> nn.Conv2d:
    return nn.Conv2d(channels, variant.width, PATCH, stride=PATCH, bias=False)


def strip_network(variant: Variant) -> PictureNetwork:
    """Returns how a Strip-MLP of these sizes is made."""
    stem, body = partial(_strip_stem, variant=variant), partial(StripBody, variant=variant)
    # a block of C channels has some 12 C^2, and a stage's C is twice that of the one before
    blocks = sum(depth * 4**stage for stage, depth in enumerate(variant.depths))
    return PictureNetwork(stem, body, 8 * variant.width, square=True, parameters=12 * variant.width**2 * blocks)


PICTURE_NETWORKS = {
    "resnet18": resnet_network(),
    **{f"strip-mlp-{name}": strip_network(variant) for name, variant in VARIANTS.items()},
}
_OWN = re.compile(r"strip-mlp:(\d{1,4}):(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})")


def picture_network(name: str) -> PictureNetwork:
    """Returns how a network is made, by its name in PICTURE_NETWORKS or as strip-mlp:WIDTH:DEPTHS.

    Raises UserError for a name that is none, and for sizes of which no Strip-MLP can be made.
    """
    if name in PICTURE_NETWORKS:
        return PICTURE_NETWORKS[name]
    expected = f"expected one of {', '.join(PICTURE_NETWORKS)}, or strip-mlp:WIDTH:DEPTHS as in strip-mlp:32:1-1-1-1"
    own = _OWN.fullmatch(name)
    if own is None:
        raise UserError(f"--pictures: got {shown(name, 80)}, {expected}")
    width, *depths = map(int, own.groups())
    variant = Variant(width, (depths[0], depths[1], depths[2], depths[3]))
    try:
        check_sizes(STRIDE, 1, *variant)
    except ValueError as error:
        raise UserError(f"--pictures {name}: {error}") from error
    return strip_network(variant)


def side_of(height: int, width: int) -> int:
    """Returns the side of the square that a Strip-MLP gets a picture as: the least that has as many pixels."""
    side = STRIDE
    while side**2 < height * width:
        side += STRIDE
    return side
