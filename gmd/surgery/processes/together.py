"""One step of a surgery over several processes: what they agree on, what each has, and what comes of it."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._delivery import put_in_grad
from gmd.surgery._losses import Outputs
from gmd.surgery._paths import Basis
from gmd.surgery._step import Step
from gmd.surgery.processes.agreement import Agreement
from gmd.surgery.processes.replicated import Replicated


class Together:
    """The processes of a "global" surgery, as one of them sees them.

    group: the processes, all of which make the same calls
    """

    def __init__(self, group: "dist.ProcessGroup | None"):
        group = group or dist.group.WORLD
        assert group is not None, "there is one, as torch.distributed is initialized"
        self._group = group
        self._agreement = Agreement(group)
        self._engine = Replicated(group)

    def begin(self, params: list[nn.Parameter]) -> None:
        """Takes note of the parameters of a step."""
        self._engine.begin(params)

    def agreed(self, step: Step, steps: int) -> Step:
        """Returns the step with the objectives of all processes; steps: so many were made before it, on all."""
        if step.agreed is not None:
            return step
        losses = dict(zip(step.own_names, step.losses, strict=True))
        counts = step.counts or [1.0] * len(losses)
        kind = "losses by name" if step.by_name else f"a list of {len(losses)} losses"
        numbers = sum(param.numel() for param in step.params)
        like = f"{kind}, {len(step.params)} parameters of {numbers} numbers, step {steps}"
        agreed = self._agreement.reach(losses, counts, like)
        if len(agreed.names) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(agreed.names)} in all")
        return step._replace(names=agreed.names, agreed=agreed)

    def basis(
        self, losses: Sequence[Tensor], outputs: Outputs | None, step: Step, groups: Sequence[int] | None
    ) -> Basis:
        """Returns this process's pieces of the gradients over all processes, and their Gramian over all of them.

        losses: of this process, of its batch or of a part of it; groups: of the parameters, or None
        """
        assert step.agreed is not None, "as at every step that takes weights"
        own = dict(zip(step.own_names, losses, strict=True))
        shares = zip(step.names, step.agreed.shares, strict=True)
        terms = [own[name] * share if share > 0 else None for name, share in shares]
        rows, reach = self._engine.passes(step.names, terms, step.scale, step.retain_graph)
        grams = gk.gram(rows, groups)
        grams, reach = self._engine.joined(grams if groups else grams.unsqueeze(0), reach)
        grams = grams if groups else grams[0]
        return Basis(rows, reach=reach, grams=grams if step.scale is None else grams / step.scale / step.scale)

    def of_the_first(self, weights: Tensor) -> Tensor:
        """Returns the weights that the first process has found: it may have drawn another order."""
        return self._engine.agreed(weights)

    def merge(self, step: Step, basis: Basis, weights: Tensor) -> None:
        """Combines this process's pieces, and adds what all have combined to `.grad`; weights: [T] or [P, T]."""
        assert basis.reach is not None, "which `basis` has found"
        weights = weights if step.scale is None else weights / step.scale
        merged = self._engine.merged(basis.rows, weights, basis.reach.any(dim=0).tolist())
        put_in_grad(step.params, merged)

    def weights_of_own(self, weights: Tensor, step: Step) -> Tensor:
        """Returns the weights of this process's losses, whose gradients are averaged over the processes afterwards.

        weights: [T], of the losses over all processes
        """
        if step.agreed is None:  # each has as many samples as the others
            return weights
        shares = dict(zip(step.names, step.agreed.shares, strict=True))
        places = {name: place for place, name in enumerate(step.names)}
        index = [places.get(name, 0) for name in step.own_names]  # of a stand-in, any
        factors = [self._group.size() * shares.get(name, 0.0) for name in step.own_names]
        return weights[index] * torch.tensor(factors, dtype=weights.dtype).to(weights.device)
