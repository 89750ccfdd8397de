"""The baseline without surgery: the gradient of the mean loss, behind the same interface as GMD."""

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import in_a_group
from gmd.surgery._losses import Losses, Outputs, check_factors, check_outputs, named_losses
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._one_pass import one_pass
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._scaling import Scaling
from gmd.surgery.processes.agreement import Agreed, Agreement, Counts, checked_counts
from gmd.surgery.processes.averaged import Averaged
from gmd.surgery.processes.sharded import ShardedEngine
from gmd.surgery.processes.told import kind_of, output_names, places_of
from gmd.surgery.report import Report
from gmd_kernels.pieces import is_dtensor


class MeanGradient:
    """Adds the gradient of the mean of the losses to `.grad`, in one backward pass.

    The report has one objective, the mean: its Gramian is [[squared norm of what is in `.grad` afterwards]].

    Args:
        optimizer: as in GMD, one or several.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too; once for each `scaler.update()`.
        scope, group: as in Surgeon: "global" is the mean loss over the samples of all processes, which may differ in
            their number, and objectives that any process has. The network has to be in a DistributedDataParallel, or
            sharded.
        model: the network that `fully_shard` was called on. Some processes may lack gradients of its parameters then,
            as of a modality that they have no sample of, and what no process reaches has none.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        scaler: GradScaler | None = None,
        scope: str = "local",
        group: "dist.ProcessGroup | None" = None,
        model: nn.Module | None = None,
    ):
        if scope not in ("local", "global"):
            raise ValueError(f"scope: expected 'local' or 'global', got {scope!r}")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer, sharded=scope == "global")
        self.scaler = scaler
        self.scope = scope
        self.group = group
        self.model = model
        self._agreement: Agreement | None = None  # made at the first step: torch.distributed may begin after this
        self._averaged: Averaged | None = None
        self._engine: ShardedEngine | None = None
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
        and on its way tells the norm of the gradient at each output; not where parameters are sharded, as some of the
        processes may then have the same batch.
        """
        named = named_losses(losses)
        given = list(named.values())
        check_factors(factors, outputs)
        found = [] if outputs is None else check_outputs(outputs)
        scale = self._scaling.scale(given)
        numbers = checked_counts(counts, tuple(named), isinstance(losses, Mapping), self.scope)
        agreed = self._agreed(named, numbers or [1.0] * len(named), outputs, isinstance(losses, Mapping))
        weights = self._weights(named, agreed)
        with self._ordinary_pass():
            norms = one_pass(
                given, weights if scale is None else weights * scale, (), found, factors, retain_graph=retain_graph
            )
        if scale is not None:
            self._scaling.unscale()
            norms = None if norms is None else norms / scale
        gram = self._gram_of_grad()
        values = torch.stack([loss.detach() for loss in given])
        if agreed is not None and self._averaged is not None:
            values = agreed.values
            self._averaged.check(gram[0, 0])
            norms = None if norms is None else self._averaged.norms(norms, *places_of(outputs, agreed.outputs))
            norms = None if self._is_sharded else norms
        modality = {} if norms is None else {"gradient norm": norms}
        names = tuple(named) if agreed is None else agreed.names
        return Report(values, gram, gram.new_ones(1), modality=modality, squared_norm=gram[0, 0], names=names)

    def _ordinary_pass(self) -> AbstractContextManager[object]:
        """Returns the context of the backward pass, see `ShardedEngine.ordinary_pass`."""
        if self.model is None or not self._is_sharded:
            return nullcontext()
        self._engine = self._engine or ShardedEngine(self._group(), self.model)
        return self._engine.ordinary_pass([p for p in parameters_of(self.optimizers) if p.requires_grad])

    def _group(self) -> dist.ProcessGroup:
        group = self.group or dist.group.WORLD
        assert group is not None, "there is one, as torch.distributed is initialized"
        return group

    def _gram_of_grad(self) -> Tensor:
        """Returns [[squared norm of what is in `.grad`]], over the pieces of all processes where it is sharded."""
        grads = [param.grad for param in parameters_of(self.optimizers)]
        return gk.gram([grads], reduce=self._group() if self._is_sharded else None)

    @property
    def _is_sharded(self) -> bool:
        return any(map(is_dtensor, parameters_of(self.optimizers)))

    def _agreed(
        self, losses: Mapping[Hashable, Tensor], counts: list[float], outputs: Outputs | None, by_name: bool
    ) -> Agreed | None:
        """Returns what all processes bring to a "global" mean; None where this one is by itself."""
        if self.scope == "local" or not in_a_group():
            return None
        group = self._group()
        self._agreement = self._agreement or Agreement(group)
        self._averaged = self._averaged or Averaged(group)
        return self._agreement.reach(losses, counts, kind_of(losses, by_name, outputs), output_names(outputs))

    def _weights(self, losses: Mapping[Hashable, Tensor], agreed: Agreed | None) -> Tensor:
        """Returns the weights of this process's losses in the mean, [t]."""
        like = next(iter(losses.values()))
        if agreed is None or self._agreement is None:
            return torch.full((len(losses),), 1 / len(losses), dtype=torch.float64, device=like.device)
        shares = dict(zip(agreed.names, agreed.shares, strict=True))
        # DistributedDataParallel divides by the number of processes
        factors = [self._agreement.size / len(agreed.names) * shares.get(name, 0.0) for name in losses]
        return torch.tensor(factors, dtype=torch.float64).to(like.device)
