"""A 3-D convolution that stays fast on the CPU when it is given a single sample."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# For one float32 sample torch hands a convolution to oneDNN only if batch * channels * X * Y is above this
# (ConvParams::use_mkldnn in ATen/native/Convolution.cpp); below it takes a path that is 2 to 10 times slower.
TORCH_MINIMUM = 20480
SMALLEST = 8  # voxels along X from which on two halves with a halo are the faster way


class Conv3d(nn.Conv3d):
    """3x3x3 convolution, stride 1, same size. A lone CPU sample is convolved as two halves with a halo of one voxel.

    The result is that of torch.nn.Conv3d up to the rounding of another summation order.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._in_halves(x) if _torch_would_be_slow(x) else super().forward(x)

    def _in_halves(self, x: Tensor) -> Tensor:
        half = x.shape[2] // 2
        padded = F.pad(x, (1, 1, 1, 1, 1, 1))
        halves = F.conv3d(torch.cat([padded[:, :, : half + 2], padded[:, :, half:]]), self.weight)
        return torch.cat([halves[:1], halves[1:]], dim=2)


def _torch_would_be_slow(x: Tensor) -> bool:
    lone_cpu_sample = x.device.type == "cpu" and x.dtype == torch.float32 and len(x) == 1
    small = x.shape[1] * x.shape[2] * x.shape[3] <= TORCH_MINIMUM
    return lone_cpu_sample and small and x.shape[1] > 1 and x.shape[2] >= SMALLEST and x.shape[2] % 2 == 0
