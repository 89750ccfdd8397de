"""No surgery: the gradient of the mean loss, behind the same interface as GMD."""

from collections.abc import Sequence

import torch
from torch import Tensor

import gmd_kernels as gk
from gmd.methods.losses import check_losses
from gmd.methods.report import Report


class MeanGradient:
    """`backward(losses)` adds the gradient of the mean of the losses to `.grad`, in one backward pass.

    The report has one objective, the mean: its Gramian is [[squared gradient norm]].
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def backward(self, losses: Sequence[Tensor]) -> Report:
        stacked = torch.stack(check_losses(losses))
        stacked.mean().backward()
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        gram = gk.gram([[p.grad for p in params]])
        return Report(stacked.detach(), gram, gram.new_ones(1))
