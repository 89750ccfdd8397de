"""The baseline without surgery: the gradient of the mean loss, behind the same interface as GMD."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._losses import Outputs, check_factors, check_losses, check_outputs
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._scaling import Scaling
from gmd.surgery.report import Report


class MeanGradient:
    """Adds the gradient of the mean of the losses to `.grad`, in one backward pass.

    The report has one objective, the mean: its Gramian is [[squared norm of what is in `.grad` afterwards]].

    Args:
        optimizer: as in GMD, one or several.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too; once for each `scaler.update()`.
    """

    def __init__(self, optimizer: Optimizers, scaler: GradScaler | None = None):
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.scaler = scaler
        self._scaling = Scaling(scaler, self.optimizers)

    @ordinary_modes()
    def backward(
        self,
        losses: Sequence[Tensor],
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Adds the gradient of the mean loss to `.grad`.

        All arguments are as in `GMD.backward`. The one pass goes through each modality's path once,
        and on its way tells the norm of the gradient at each output.
        """
        stacked = torch.stack(check_losses(losses))
        check_factors(factors, outputs)
        found = [] if outputs is None else check_outputs(outputs)
        scale = self._scaling.scale(list(stacked))
        with _watched(found, factors) as norms:
            mean = stacked.mean() if scale is None else stacked.mean() * scale
            mean.backward(retain_graph=retain_graph)
        if scale is not None:
            self._scaling.unscale()
            norms = [norm / scale for norm in norms]
        gram = gk.gram([[param.grad for param in parameters_of(self.optimizers)]])
        modality = {"gradient norm": torch.stack(norms)} if norms else {}
        return Report(stacked.detach(), gram, gram.new_ones(1), modality=modality)


@contextmanager
def _watched(outputs: list[Tensor], factors: Tensor | None) -> Iterator[list[Tensor]]:
    """Yields M float64 norms that a backward pass fills in, of the gradients at the outputs before their factors."""
    norms = list(torch.zeros(len(outputs), dtype=torch.float64, device=outputs[0].device)) if outputs else []

    def watch(gradient: Tensor, m: int) -> Tensor | None:
        norms[m] = torch.linalg.vector_norm(gradient, dtype=torch.float64)
        return None if factors is None else gradient * factors[m]

    handles = [output.register_hook(partial(watch, m=m)) for m, output in enumerate(outputs)]
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()
