"""Strip-MLP, an image network whose tokens mix along rows and columns (Cao et al., ICCV 2023).

A token sees the other tokens of its row and of the two rows beside it through one linear map, then the same along
columns (a strip layer). Half of the channels mix so, the other half by narrow depthwise convolutions. Names of
parameters are those of the published code, whose checkpoints load.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 32  # pixels to a token of the last stage, along each side
DROP_PATH = 0.1  # in every block of all published variants, whatever their configurations say


class Variant(NamedTuple):
    """The sizes of a published network."""

    width: int
    depths: tuple[int, int, int, int]


VARIANTS = {
    "light": Variant(80, (2, 2, 6, 2)),
    "tiny": Variant(80, (2, 2, 12, 2)),
    "small": Variant(96, (2, 2, 18, 2)),
    "base": Variant(112, (2, 2, 18, 2)),
}


class StripMLP(nn.Module):
    """Strip-MLP (Cao et al., ICCV 2023): from images [N, 3, I, I] to the logits of classes [N, K].

    Args:
        image_size: I, in pixels, a multiple of 32. It is fixed: the strip layers have weights for each column and row.
        classes: K, the number of classes.
        width: E, the channels of the first stage, an even number; those of the others are 2E, 4E and 8E.
        depths: the numbers of blocks of the four stages. `VARIANTS` has the published widths and depths.
        drop_path: the rate at which a training leaves out what a block adds to a sample.

    Raises:
        TypeError, ValueError: sizes of which no network can be made; images of another size than `image_size`.
    """

    def __init__(self, image_size: int, classes: int, width: int, depths: Sequence[int], drop_path: float = DROP_PATH):
        super().__init__()
        check_sizes(image_size, classes, width, depths)
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path: expected a rate of at least 0 and below 1, got {drop_path}")
        self.image_size = image_size
        channels = [width * 2**stage for stage in range(4)]
        self.patch_embed = nn.Conv2d(3, width, 4, stride=4, bias=False)
        stages = (
            nn.Sequential(*(Block(c, image_size // 4 // 2**stage, drop_path) for _ in range(depth)))
            for stage, (c, depth) in enumerate(zip(channels, depths, strict=True))
        )
        self.blocks1, self.blocks2, self.blocks3, self.blocks4 = stages
        self.merging1, self.merging2, self.merging3 = (_halving(c) for c in channels[:3])
        # skips from the first stage to the third and fourth, and from the second to the fourth
        self.conv_s1_28 = _halving(channels[1], groups=channels[1])
        self.conv_s1_14 = _halving(channels[2], groups=channels[2])
        self.conv_s2_14 = _halving(channels[2], groups=channels[2])
        self.norm = nn.BatchNorm2d(channels[3])
        self.head = nn.Linear(channels[3], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Computes what `head` makes the logits of: [N, 3, I, I] floating -> [N, 8E]."""
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"images: expected [N, 3, {size}, {size}], as the network was made with image_size={size}, "
                f"got {list(images.shape)}; resize the images, or make a network for their size"
            )
        return self.mixed(self.patch_embed(self.laid_out(images)))

    def mixed(self, tokens: Tensor) -> Tensor:
        """Computes the features from the tokens of the patches: [N, E, I / 4, I / 4] floating -> [N, 8E]."""
        x = self.merging1(self.blocks1(tokens))
        from_1_to_3 = self.conv_s1_28(x)
        x = self.merging2(self.blocks2(x))
        from_2_to_4 = self.conv_s2_14(x)
        x = self.merging3(self.blocks3(x + from_1_to_3))
        x = self.blocks4(x + self.conv_s1_14(from_1_to_3) + from_2_to_4)
        return self.norm(x).mean(dim=(2, 3))

    def laid_out(self, images: Tensor) -> Tensor:
        """Returns the images in channels-last, in which convolutions of single channels are faster."""
        return images.contiguous(memory_format=torch.channels_last)


def _halving(channels: int, groups: int = 1) -> nn.Conv2d:
    """Returns the convolution that halves a side and doubles the channels."""
    return nn.Conv2d(channels, 2 * channels, 2, stride=2, groups=groups, bias=False)


class Block(nn.Module):
    """Tokens mix, then channels; each adds to what it is given [N, C, R, R]."""

    def __init__(self, channels: int, size: int, drop_path: float):
        super().__init__()
        self.token_mixing = TokenMixing(channels, size)
        self.channel_mixing = ChannelMixing(channels, size)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self.token_mixing(x))
        return x + self._dropped(self.channel_mixing(x))

    def _dropped(self, x: Tensor) -> Tensor:
        """Drops whole samples while training, and scales the others so that the expectation stays."""
        if not self.training or self.drop_path == 0:
            return x
        kept = torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.drop_path)
        return x * (kept / (1 - self.drop_path))


class TokenMixing(nn.Module):
    """A depthwise convolution, then the strip block."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        steps = OrderedDict(BN=nn.BatchNorm2d(channels), GELU=nn.GELU(), Conv=Depthwise(channels, size, (3, 3)))
        self.dwsc = nn.Sequential(OrderedDict(conv_merge=nn.Sequential(steps)))  # its name in checkpoints
        self.smlp_block = StripBlock(channels, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.smlp_block(self.dwsc(x))


class StripBlock(nn.Module):
    """Half of the channels through strip layers (CGSMM), half through narrow convolutions (LSMM).

    [N, C, R, R] -> the same. Channel c of the C / 2 of the first half is of group c mod G, of which each has strip
    weights of its own; G is a quarter of C / 2, or the half where 80 divides C, as in the published code.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        half = channels // 2
        self.groups = _groups_of(channels)
        self.mlp = nn.Sequential(Pointwise(channels, channels), nn.BatchNorm2d(channels), nn.GELU())
        self.relate_pos_h, self.relate_pos_w = RelativePosition(half, size), RelativePosition(half, size)
        self.proj_h, self.proj_w = Strip(self.groups, size), Strip(self.groups, size)
        self.fuse_h = Pointwise(2 * half, half, bias=False)
        self.BN = nn.BatchNorm2d(half)
        self.fuse_w = Pointwise(2 * half, half, bias=False)
        self.fc_h, self.fc_w = Depthwise(half, size, (3, 7)), Depthwise(half, size, (7, 3))
        self.reweight = Reweight(half)
        self.fuse = Pointwise(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        along_strips, local = self.mlp(x).chunk(2, dim=1)
        return self.fuse(torch.cat([self._strips(along_strips), self._local(local)], dim=1))

    def _strips(self, x: Tensor) -> Tensor:
        rows = self.proj_h(x + self.relate_pos_h())
        mixed = F.gelu(self.BN(self.fuse_h(torch.cat([rows, x], dim=1)))) + self.relate_pos_w()
        columns = self.proj_w(mixed.transpose(2, 3)).transpose(2, 3)
        return self.fuse_w(torch.cat([x, columns], dim=1))

    def _local(self, x: Tensor) -> Tensor:
        wide, high = self.fc_h(x), self.fc_w(x)
        of_high, of_wide, of_x = self.reweight((high + wide + x).mean(dim=(2, 3), keepdim=True))
        return high * of_high + wide * of_wide + x * of_x


class Strip(nn.Module):
    """A strip layer: each row's R tokens become R others, from those of the row itself and of the rows beside it.

    It is G products of dense matrices, [R, 3R] by [3R, tokens]. The published code has a convolution in G groups, with
    the same weights; groups of so few channels are slow. The channels of the input [N, P * G, R, R] are P patches of G.

    Attributes:
        weight: [G * R, R, 1, 3], of (group and new column, old column, 1, row above, this one, below).
        bias: [G * R].
    """

    def __init__(self, groups: int, size: int):
        super().__init__()
        self.groups, self.size = groups, size
        as_published = nn.Conv2d(groups * size, groups * size, (1, 3), groups=groups)  # for its initial values
        self.weight, self.bias = as_published.weight, as_published.bias

    def forward(self, x: Tensor) -> Tensor:
        groups, size = self.groups, self.size
        # [G, N, P, R, R], the rows with zeros above and below
        padded = F.pad(x.unflatten(1, (-1, groups)).movedim(2, 0), (0, 0, 1, 1))
        three_rows = padded.unfold(3, 3, 1)  # [G, N, P, R, R, 3]
        assert self.bias is not None
        mixed = torch.baddbmm(
            self.bias.view(groups, 1, size),
            three_rows.reshape(groups, -1, 3 * size),
            self.weight.reshape(groups, size, 3 * size).transpose(1, 2),
        )
        return mixed.view(groups, len(x), -1, size, size).movedim(0, 2).flatten(1, 2)


class RelativePosition(nn.Module):
    """What a position adds to each channel, by how far its column is from its row.

    The first and the last row of the table are never read, as in the published code.
    """

    index: Tensor

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.embeddings_table = nn.Parameter(nn.init.trunc_normal_(torch.empty(2 * size + 1, channels), std=0.02))
        position = torch.arange(size)
        self.register_buffer("index", position[None, :] - position[:, None] + size, persistent=False)

    def forward(self) -> Tensor:
        """Returns [C, R, R]."""
        return self.embeddings_table[self.index].permute(2, 0, 1)


class Reweight(nn.Module):
    """The weights of three summands, from their mean over the image: [N, D, 1, 1] -> three [N, D, 1, 1] of sum 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = Pointwise(channels, channels // 2)
        self.fc2 = Pointwise(channels // 2, 3 * channels)

    def forward(self, mean: Tensor) -> tuple[Tensor, ...]:
        return self.fc2(F.gelu(self.fc1(mean))).unflatten(1, (-1, 3)).softmax(dim=2).unbind(dim=2)


class ChannelMixing(nn.Module):
    """A depthwise convolution, then an MLP over the channels with global response normalisation."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.conv_77 = Depthwise(channels, size, (7, 7))
        self.layer_norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 3 * channels)
        self.grn = GlobalResponse(3 * channels)
        self.fc2 = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(self.conv_77(x).permute(0, 2, 3, 1))
        return self.fc2(self.grn(F.gelu(self.fc1(x)))).permute(0, 3, 1, 2)


class GlobalResponse(nn.Module):
    """Global response normalisation (Woo et al., CVPR 2023) of [N, H, W, C]; it starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        # a norm over these axes is slow on the CPU, and a sum is not; half precision would overflow
        squares = x.to(torch.promote_types(x.dtype, torch.float32)).square().sum(dim=(1, 2), keepdim=True)
        energy = squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()  # a root has no gradient at zero
        response = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return x * (1 + self.gamma * response.to(x.dtype)) + self.beta


class Pointwise(nn.Conv2d):
    """A convolution of single pixels, as the product of matrices that it is in channels-last."""

    def __init__(self, channels: int, outputs: int, bias: bool = True):
        super().__init__(channels, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class Depthwise(nn.Conv2d):
    """A convolution of each channel by itself, which keeps the size R.

    Less than R pixels from its middle a kernel meets pixels, farther off only padding: that part is left out.
    """

    def __init__(self, channels: int, size: int, kernel: tuple[int, int]):
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(channels, channels, kernel, padding=padding, groups=channels, bias=False)
        self.reach = (min(padding[0], size - 1), min(padding[1], size - 1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = (side // 2 for side in self.kernel_size)
        up, left = self.reach
        weight = self.weight[:, :, height - up : height + up + 1, width - left : width + left + 1]
        return F.conv2d(x, weight, padding=self.reach, groups=self.groups)


def _groups_of(channels: int) -> int:
    """Returns how many groups half of the channels are of; the rule is the published code's."""
    return channels // 2 // (2 if channels % 80 == 0 else 4)


def _has_groups(channels: int) -> bool:
    """Returns whether the channels are even, and their half a multiple of the number of groups."""
    return channels > 0 and channels % 2 == 0 and _groups_of(channels) > 0 and channels // 2 % _groups_of(channels) == 0


def check_sizes(image_size: int, classes: int, width: int, depths: Sequence[int]) -> None:
    """Raises TypeError or ValueError for sizes of which no network can be made."""
    for name, value in (("image_size", image_size), ("classes", classes), ("width", width)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
    if image_size < STRIDE or image_size % STRIDE:
        raise ValueError(f"image_size: expected a multiple of {STRIDE}, got {image_size}")
    if classes < 1:
        raise ValueError(f"classes: expected at least 1, got {classes}")
    if not all(_has_groups(width * 2**stage) for stage in range(4)):
        raise ValueError(f"width: expected an even number such as 16, 80, 96 or 112, got {width}")
    if len(depths) != 4 or not all(isinstance(depth, int) and depth >= 0 for depth in depths):
        raise ValueError(f"depths: expected the numbers of blocks of four stages, got {list(depths)}")
