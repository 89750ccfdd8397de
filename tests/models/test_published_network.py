"""UNet3d is the network of the published code: its parameters to the unit, its outputs and its gradients."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from gmd.models.unet3d import UNet3d

MODALITIES, REGIONS = ("flair", "t1", "t1ce", "t2"), ("WT", "TC", "ET")
# In, middle and out of each double convolution at width 1, as published: down to the bottom, halved as the upsampling
# is trilinear, and up again.
DOWN = [(1, 32, 32), (32, 64, 64), (64, 128, 128), (128, 256, 256), (256, 256, 256)]
UP = [(512, 256, 128), (256, 128, 64), (128, 64, 32), (64, 32, 32)]

pytestmark = pytest.mark.usefixtures("one_thread")


class Published(nn.Module):
    """The published network in plain PyTorch: the U-Nets of all modalities share convolutions, and no norms."""

    def __init__(self, modalities: int, width: float):
        super().__init__()
        sizes = [[size if size == 1 else round(size * width) for size in block] for block in (*DOWN, *UP)]
        pairs = [pair for block in sizes for pair in pairwise(block)]
        self.convs = nn.ModuleList(nn.Conv3d(i, o, kernel_size=3, padding=1) for i, o in pairs)
        self.norms = nn.ModuleList(nn.ModuleList(nn.GroupNorm(8, o) for _ in range(modalities)) for _, o in pairs)
        self.head = nn.Conv3d(sizes[-1][-1], len(REGIONS), kernel_size=1)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)

    def forward(self, x: Tensor, modality: int) -> Tensor:
        skips = []
        for block in range(len(DOWN)):
            x = self.double_conv(block, nn.MaxPool3d(2)(x) if block else x, modality)
            skips.append(x)
        for block in range(len(DOWN), len(DOWN) + len(UP)):
            x = self.double_conv(
                block, torch.cat([skips[len(DOWN) + len(UP) - 1 - block], self.up(x)], dim=1), modality
            )
        return self.head(x)

    def double_conv(self, block: int, x: Tensor, modality: int) -> Tensor:
        for layer in (2 * block, 2 * block + 1):
            x = torch.relu(self.norms[layer][modality](self.convs[layer](x)))
        return x


def pairs_of_parameters(ours: UNet3d, theirs: Published) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Yields each parameter of ours with that of theirs, from the first layer to the last."""
    blocks = (*ours.encoder, *ours.decoder)
    convs = [conv for block in blocks for conv in (block.conv1, block.conv2)]
    norms = [norm for block in blocks for norm in (block.norm1, block.norm2)]
    for conv, norm, their_conv, their_norms in zip(convs, norms, theirs.convs, theirs.norms, strict=True):
        yield conv.weight, their_conv.weight
        yield conv.bias, their_conv.bias
        for weight, bias, their_norm in zip(norm.weight, norm.bias, their_norms, strict=True):
            yield weight, their_norm.weight
            yield bias, their_norm.bias
    yield ours.head.weight, theirs.head.weight
    yield ours.head.bias, theirs.head.bias


def same_network(width: float, modalities: int = 2) -> tuple[UNet3d, Published]:
    """Returns ours and theirs with the same weights, none of which is 0 or 1, and no modality's affine another's."""
    torch.manual_seed(0)
    ours, theirs = UNet3d(MODALITIES[:modalities], REGIONS, width), Published(modalities, width)
    with torch.no_grad():
        for mine, other in pairs_of_parameters(ours, theirs):
            if other.ndim == 1:
                other.add_(0.3 * torch.randn_like(other))
            mine.copy_(other)
    return ours, theirs


def built(modalities: Sequence[str], regions: Sequence[str], width: float) -> UNet3d:
    """Returns a network to count in, without memory for its weights."""
    with torch.device("meta"):
        return UNet3d(modalities, regions, width)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("width", "modalities", "parameters", "private"),
    [
        (1.0, 4, 12_960_099, 17_664),
        (0.5, 4, 3_245_235, 8_832),
        # a single modality's norms are the published network with one norm for all
        (1.0, 1, 12_946_851, 4_416),
        (0.5, 1, 3_238_611, 2_208),
    ],
)
def test_as_many_parameters_as_published(width: float, modalities: int, parameters: int, private: int):
    network = built(MODALITIES[:modalities], REGIONS, width)
    assert count(network) == parameters
    assert sum(p.numel() for name, p in network.named_parameters() if ".norm" in name) == private
    assert len(list(network.parameters())) == 38 + 36 * modalities, "182 of four modalities"


@pytest.mark.parametrize("width", [1.0, 0.5, 0.375, 0.125])
@pytest.mark.parametrize(("modalities", "regions"), [(2, 1), (3, 2), (4, 3), (7, 5)])
def test_a_modality_adds_its_affines_and_a_region_its_output(width: float, modalities: int, regions: int):
    scale = [round(c * width) for c in (32, 64, 128, 256)]
    one = built(("flair",), ("WT",), width)
    network = built([f"m{i}" for i in range(modalities)], [f"r{i}" for i in range(regions)], width)
    # twice in each of the encoder's blocks, the middle and the output in each of the decoder's
    channels = 2 * sum(scale) + 2 * scale[3] + sum(scale) + sum([scale[0], *scale[:3]])
    assert count(network) - count(one) == (modalities - 1) * 2 * channels + (regions - 1) * (scale[0] + 1)
    assert len(list(network.parameters())) == 38 + 36 * modalities


def test_the_published_network_has_as_many_too():
    """Or it would be no witness."""
    theirs = Published(4, width=0.5)
    assert count(theirs) == 3_245_235
    assert len(list(theirs.parameters())) == 182


@pytest.mark.parametrize(
    ("dtype", "samples", "layout"),
    [
        (torch.float64, 1, torch.contiguous_format),
        (torch.float64, 1, torch.channels_last_3d),
        (torch.float32, 1, torch.contiguous_format),
        (torch.float32, 1, torch.channels_last_3d),
        (torch.float32, 2, torch.channels_last_3d),
    ],
    ids=str,
)
def test_it_computes_what_the_published_network_does(dtype: torch.dtype, samples: int, layout: torch.memory_format):
    """A modality's output, and every gradient: none for the affines of the other modality."""
    ours, theirs = (network.to(dtype) for network in same_network(width=0.5))
    ours, tolerance = ours.to(memory_format=layout), 1e-10 if dtype is torch.float64 else 2e-4
    x = torch.randn(samples, 1, 32, 16, 16, dtype=dtype)
    mine, other = ours(x.to(memory_format=layout), 1), theirs(x, 1)
    assert distance(mine, other) < tolerance
    cotangent = torch.randn_like(other)
    (mine * cotangent).sum().backward(), (other * cotangent).sum().backward()
    for a, b in pairs_of_parameters(ours, theirs):
        assert (a.grad is None) == (b.grad is None)
        assert b.grad is None or distance(a.grad, b.grad) < tolerance
    assert sum(p.grad is None for p in ours.parameters()) == 36


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Returns |ours - theirs| / |theirs|."""
    return float((ours - theirs).detach().norm() / theirs.detach().norm())
