"""Small networks of one modality, with every kind of norm, that tests make shared ones of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODALITIES = ("t1", "t2", "flair")


class BatchNormAct(nn.BatchNorm2d):
    """A norm with its activation, as timm has them: it calls the function by itself."""

    def forward(self, x: Tensor) -> Tensor:
        batch = self.training or self.running_mean is None
        return F.relu(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, 0.1))


class FooRMSNorm(nn.Module):
    """A norm that is not torch's, as language models have them."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x / x.square().mean(dim=1, keepdim=True).add(1e-6).sqrt()


class ChannelsLast(nn.Module):
    """Calls a norm of the last dimension on that of the channels."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.inner = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.movedim(1, -1)).movedim(-1, 1)


NORMS = {
    "batch": lambda c: nn.BatchNorm2d(c),
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "instance-plain": lambda c: nn.InstanceNorm2d(c),
    "instance-tracked": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "group": lambda c: nn.GroupNorm(2, c),
    "group-plain": lambda c: nn.GroupNorm(2, c, affine=False),
    "layer": lambda c: ChannelsLast(nn.LayerNorm(c)),
    "layer-plain": lambda c: ChannelsLast(nn.LayerNorm(c, elementwise_affine=False)),
    "rms": lambda c: ChannelsLast(nn.RMSNorm(c)),
    "rms-plain": lambda c: ChannelsLast(nn.RMSNorm(c, elementwise_affine=False)),
    "batch-act": lambda c: BatchNormAct(c),
    "foo-rms": lambda c: FooRMSNorm(c),
}


class Small(nn.Module):
    """Two blocks of convolution, norm and ReLU, and a last layer: [n, 1, H, W] -> [n, 3, H, W]."""

    def __init__(self, norm: str = "instance", channels: int = 4):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, channels, 3, padding=1), NORMS[norm](channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), NORMS[norm](channels)
        self.last = nn.Conv2d(channels, 3, 1)

    def block1(self, x: Tensor) -> Tensor:
        return self.norm1(self.conv1(x)).relu()

    def block2(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block2(self.block1(x)))


def example(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns pictures [2, 1, 5, 7]."""
    return torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def moved(network: nn.Module) -> None:
    """Gives every parameter of a network other values, so that no two modalities compute the same."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
