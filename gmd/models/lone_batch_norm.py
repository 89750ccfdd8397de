"""Batch normalisation that can train on a single value of each channel."""

import torch.nn.functional as F
from torch import Tensor, nn


class LoneBatchNorm2d(nn.BatchNorm2d):
    """torch's BatchNorm2d, which goes by its running statistics where a channel has a single value.

    There torch refuses to train, as one value has no variance. It happens where one sample of a batch has a modality
    and its pictures are small: behind a halving for each stage a single pixel is left. The running statistics stay as
    they are then.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def allow_lone_values(network: nn.Module) -> None:
    """Makes every BatchNorm2d in a network a `LoneBatchNorm2d`, in place; subclasses of torch's stay as they are."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = LoneBatchNorm2d
