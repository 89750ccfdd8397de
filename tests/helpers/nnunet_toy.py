"""A network in the manner of nnU-Net's, with a decoder that returns two resolutions or one, in a dozen lines."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmd.nnunet.network import SubsetNetwork
from gmd.nnunet.subset_losses import FlatOutputs, ScaledLoss

SIZES = (4, 6, 2)
ALL = ("channel0", "channel1", "channel2", "channel3")


class Toy(nn.Module):
    """For one channel: logits [n, 2, ...] of two regions, and with deep supervision those of half the size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.norm(self.conv(x)).relu())


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep_supervision = True
        self.fine, self.coarse = nn.Conv3d(4, 2, 1), nn.Conv3d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        fine = self.fine(x)
        return [fine, self.coarse(nn.functional.avg_pool3d(x, 2))] if self.deep_supervision else fine


def toy_network(channels: int = 4, seed: int = 0) -> SubsetNetwork:
    """Returns it in float64, its norms drawn at random, so that no two modalities have the same."""
    torch.manual_seed(seed)
    network = SubsetNetwork(Toy(), channels).double()
    with torch.no_grad():
        for view in network.views():
            view.norm.weight.uniform_(-2, 2)  # of both signs, for gradients against each other
            view.norm.bias.normal_()
    return network


def toy_data(rows: int = 2, channels: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(rows, channels, *SIZES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def toy_targets(rows: int = 2, seed: int = 2) -> list[Tensor]:
    """Returns targets of both resolutions."""
    generator = torch.Generator().manual_seed(seed)
    halves = [size // 2 for size in SIZES]
    return [(torch.rand(rows, 2, *sizes, generator=generator) > 0.5).double() for sizes in (SIZES, halves)]


def flat_outputs(network: nn.Module, data: Tensor, rows: dict[str, list[int]], loss: ScaledLoss) -> FlatOutputs:
    outputs = network(data, rows)
    return FlatOutputs.of({m: loss.taking_part(scales) for m, scales in outputs.items()}, rows, len(data))


def everywhere(rows: int = 2, modalities: Sequence[str] = ALL) -> dict[str, list[int]]:
    return {m: list(range(rows)) for m in modalities}
