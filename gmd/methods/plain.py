"""No surgery: the gradient of the mean loss, behind the same interface as GMD."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.methods.losses import check_losses
from gmd.methods.report import Report


class MeanGradient:
    """`backward(losses)` adds the gradient of the mean of the losses to `.grad`, in one backward pass.

    The report has one objective, the mean: its Gramian is [[squared gradient norm]].

    Args:
        scaler: as in GMD: the losses come unscaled, and `.grad` does too; once for each `scaler.update()`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: GradScaler | None = None):
        self.optimizer = optimizer
        self.scaler = scaler

    def backward(
        self, losses: Sequence[Tensor], outputs: Mapping[str, Tensor] | Sequence[Tensor] | None = None
    ) -> Report:
        """`outputs` is GMD's; the one pass here goes through each modality's path once anyway."""
        stacked = torch.stack(check_losses(losses))
        if self.scaler is None:
            stacked.mean().backward()
        else:
            self.scaler.scale(stacked.mean()).backward()
            self.scaler.unscale_(self.optimizer)
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        gram = gk.gram([[p.grad for p in params]])
        return Report(stacked.detach(), gram, gram.new_ones(1))
