"""GMD: gradient-guided modality decoupling (Wang et al., AAAI 2024) around any torch optimizer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.methods.granularity import GRANULARITIES, groups_of, module_names
from gmd.methods.losses import check_losses
from gmd.methods.passes import gradients_of
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

    With `torch.compile`, compile the model and leave this outside. A compiled graph has zeros, not None, for those of
    its parameters that a loss does not reach, which makes them shared. Where they are to stay private, compile modules
    each by itself (`module.compile()`), or use reduction="sum", for which it makes no difference.

    Args:
        optimizer: any torch optimizer; its parameters that require grad are the ones operated on.
        reduction: "mean" or "sum", how the projected gradients of shared parameters merge.
        generator: source of the projection orders; torch's default generator otherwise.
        granularity: what is one gradient to be projected: that of the whole "model", of each "module" by itself (the
            one that holds the parameter as its own, a layer as a rule), or of each "tensor". Conflicts that cancel out
            over the model show in its parts: few pairs of whole gradients conflict early in training, many pairs of
            tensors do. The three cost the same two passes.
        model: whose modules `granularity="module"` means; not needed if the optimizer was made from
            `model.named_parameters()`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        granularity: str = "model",
        model: nn.Module | None = None,
    ):
        gk.weightings.check_reduction(reduction)
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity: expected 'model', 'module' or 'tensor', got {granularity!r}")
        self.optimizer = optimizer
        self.reduction = reduction
        self.generator = generator
        self.granularity = granularity
        self.model = model
        self._modules = module_names(optimizer, model) if granularity == "module" else {}

    def backward(self, losses: Sequence[Tensor]) -> Report:
        """Adds the merged gradient to `.grad` of every parameter, as `Tensor.backward` does; frees the graph.

        Args:
            losses: T scalar tensors, each requiring grad.

        A parameter that no loss reaches keeps its `.grad` as it is. Nothing waits for the device: if a loss or gradient
        may be NaN, look at `report.finite` before `optimizer.step()`.
        """
        losses = check_losses(losses)
        if len(losses) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(losses)}")
        params = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        if self.granularity == "module" and not self._modules.keys() >= set(params):  # added since
            self._modules = module_names(self.optimizer, self.model)
        groups = groups_of(params, self.granularity, self._modules)
        grads = gradients_of(losses, params)
        surgery = gk.surgery(grads, groups=groups, reduction=self.reduction, generator=self.generator)
        for param, merged in zip(params, surgery.merged, strict=True):
            if merged is None:
                continue
            param.grad = merged if param.grad is None else param.grad.add_(merged)
        return Report(torch.stack([loss.detach() for loss in losses]), surgery.gram, surgery.weights)
