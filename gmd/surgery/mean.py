"""The baseline without surgery: the gradient of the mean loss, behind the same interface as GMD."""

from collections.abc import Hashable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import in_a_group
from gmd.surgery._losses import Losses, Outputs, check_factors, check_outputs, named_losses
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._one_pass import one_pass
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._scaling import Scaling
from gmd.surgery.processes.agreement import Agreement, Counts, checked_counts
from gmd.surgery.report import Report


class MeanGradient:
    """Adds the gradient of the mean of the losses to `.grad`, in one backward pass.

    The report has one objective, the mean: its Gramian is [[squared norm of what is in `.grad` afterwards]].

    Args:
        optimizer: as in GMD, one or several.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too; once for each `scaler.update()`.
        scope, group: as in Surgeon: "global" is the mean loss over the samples of all processes, which may differ in
            their number, and objectives that any process has. The network has to be in a DistributedDataParallel.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        scaler: GradScaler | None = None,
        scope: str = "local",
        group: "dist.ProcessGroup | None" = None,
    ):
        if scope not in ("local", "global"):
            raise ValueError(f"scope: expected 'local' or 'global', got {scope!r}")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.scaler = scaler
        self.scope = scope
        self.group = group
        self._agreement: Agreement | None = None  # made at the first step: torch.distributed may begin after this
        self._scaling = Scaling(scaler, self.optimizers)

    @ordinary_modes()
    def backward(
        self,
        losses: Losses,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
        counts: Counts | None = None,
    ) -> Report:
        """Adds the gradient of the mean loss to `.grad`.

        All arguments are as in `GMD.backward`. The one pass goes through each modality's path once,
        and on its way tells the norm of the gradient at each output.
        """
        named = named_losses(losses)
        given = list(named.values())
        check_factors(factors, outputs)
        found = [] if outputs is None else check_outputs(outputs)
        scale = self._scaling.scale(given)
        values, weights = self._values_and_weights(named, counts, isinstance(losses, Mapping))
        norms = one_pass(
            given, weights if scale is None else weights * scale, (), found, factors, retain_graph=retain_graph
        )
        if scale is not None:
            self._scaling.unscale()
            norms = None if norms is None else norms / scale
        gram = gk.gram([[param.grad for param in parameters_of(self.optimizers)]])
        modality = {} if norms is None else {"gradient norm": norms}
        return Report(values, gram, gram.new_ones(1), modality=modality, squared_norm=gram[0, 0])

    def _values_and_weights(
        self, losses: Mapping[Hashable, Tensor], counts: Counts | None, by_name: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns the losses' values, [T], over all processes in a "global" mean, and the weights of this one's."""
        if counts is not None and self.scope != "global":
            raise ValueError("counts: expected scope='global' with them, as in a local mean nobody asks for them")
        numbers = checked_counts(counts, tuple(losses), by_name)
        if self.scope == "local" or not in_a_group():
            values = torch.stack([loss.detach() for loss in losses.values()])
            return values, torch.full_like(values, 1 / len(losses), dtype=torch.float64)
        group = self.group or dist.group.WORLD
        assert group is not None, "there is one, as torch.distributed is initialized"
        self._agreement = self._agreement or Agreement(group)
        agreed = self._agreement.reach(losses, numbers, "losses by name" if by_name else f"{len(losses)} losses")
        shares = dict(zip(agreed.names, agreed.shares, strict=True))
        # DistributedDataParallel divides by the number of processes
        factors = [group.size() / len(agreed.names) * shares.get(name, 0.0) for name in losses]
        return agreed.values, torch.tensor(factors, dtype=torch.float64).to(agreed.values.device)
