"""GMD: gradient-guided modality decoupling (Wang et al., AAAI 2024) around any torch optimizer."""

from collections.abc import Sequence

import torch
from torch import Tensor

import gmd_kernels as gk
from gmd.methods.losses import check_losses
from gmd.methods.report import Report


class GMD:
    """Replaces `loss.backward()` when there are several losses: their gradients are cleared of conflicts, then merged.

        surgeon = gmd.GMD(optimizer)
        ...
        optimizer.zero_grad()
        report = surgeon.backward(losses)  # instead of sum(losses).backward()
        optimizer.step()

    Each objective's gradient is projected off the gradients that it conflicts with, in a random order
    (PCGrad, Yu et al., NeurIPS 2020). A parameter that every objective reaches (shared) gets the mean of the projected
    gradients, any other (private) their sum.

    Args:
        optimizer: any torch optimizer; its parameters that require grad are the ones operated on.
        reduction: "mean" or "sum", how the projected gradients of shared parameters merge.
        generator: source of the projection orders; torch's default generator otherwise.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, reduction: str = "mean", generator: torch.Generator | None = None
    ):
        gk.weightings.check_reduction(reduction)
        self.optimizer = optimizer
        self.reduction = reduction
        self.generator = generator

    def backward(self, losses: Sequence[Tensor]) -> Report:
        """Adds the merged gradient to `.grad` of every parameter, as `Tensor.backward` does; frees the graph.

        Args:
            losses: T scalar tensors, each requiring grad.

        A parameter that no loss reaches keeps its `.grad` as it is. Nothing waits for the device: if a loss or gradient
        may be NaN, look at `report.finite` before `optimizer.step()`.
        """
        losses = check_losses(losses)
        params = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        last = len(losses) - 1
        grads = [
            torch.autograd.grad(loss, params, retain_graph=k < last, allow_unused=True) for k, loss in enumerate(losses)
        ]
        surgery = gk.surgery(grads, reduction=self.reduction, generator=self.generator)
        for param, merged in zip(params, surgery.merged, strict=True):
            if merged is None:
                continue
            param.grad = merged if param.grad is None else param.grad.add_(merged)
        return Report(torch.stack([loss.detach() for loss in losses]), surgery.gram, surgery.weights)
