"""The baseline without surgery: the gradient of the mean loss, behind the same interface as GMD."""

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._losses import Losses, Outputs, check_factors, check_losses, check_outputs
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._one_pass import one_pass
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
        losses: Losses,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Adds the gradient of the mean loss to `.grad`.

        All arguments are as in `GMD.backward`. The one pass goes through each modality's path once,
        and on its way tells the norm of the gradient at each output.
        """
        given = check_losses(losses)
        check_factors(factors, outputs)
        found = [] if outputs is None else check_outputs(outputs)
        scale = self._scaling.scale(given)
        values = torch.stack([loss.detach() for loss in given])
        weights = torch.full_like(values, 1 / len(given), dtype=torch.float64)
        norms = one_pass(
            given, weights if scale is None else weights * scale, (), found, factors, retain_graph=retain_graph
        )
        if scale is not None:
            self._scaling.unscale()
            norms = None if norms is None else norms / scale
        gram = gk.gram([[param.grad for param in parameters_of(self.optimizers)]])
        modality = {} if norms is None else {"gradient norm": norms}
        return Report(values, gram, gram.new_ones(1), modality=modality, squared_norm=gram[0, 0])
