"""GMD: gradient-guided modality decoupling (Wang et al., AAAI 2024) around any torch optimizer."""

from collections.abc import Hashable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._optimizers import Optimizers
from gmd.surgery._paths import Basis
from gmd.surgery._sketches import SKETCH_SIZE
from gmd.surgery._step import Step
from gmd.surgery.surgeon import ORDERS, Surgeon


class GMD(Surgeon):
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
    each by itself (by `module = torch.compile(module)`: `module.compile()` does nothing for torch's own, an nn.Linear
    say), or use reduction="sum", for which it makes no difference.

    Where the objectives meet the network only at the outputs of its modalities, as they do behind any fusion, say so:

        outputs = {m: network(x[m], m) for m in x}
        losses = [criterion(fuse(outputs, subset), target) for subset in subsets]
        report = surgeon.backward(losses, outputs=outputs)

    Then each modality's path is gone through by itself and freed before the next one's turn, and with `tol` only for
    the few directions that the objectives' gradients at its output have in common.

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, each with parameters of its own, which you step one
            by one; the parameters that require grad take part in one surgery. Where the network is in a
            DistributedDataParallel, that averages what each process has merged.
        reduction: "mean" or "sum", how the projected gradients of shared parameters merge.
        generator: source of the projection orders; torch's default generator otherwise.
        granularity: what is one gradient to be projected: that of the whole "model", of each "module" by itself (the
            one that holds the parameter as its own, a layer as a rule), or of each "tensor". Conflicts that cancel out
            over the model show in its parts: few pairs of whole gradients conflict early in training, many pairs of
            tensors do. The three cost the same two passes. With `every` it has to be the whole model.
        model: whose modules `granularity="module"` means; not needed for it if the optimizer was made from
            `model.named_parameters()`. And the network whose parameters are sharded, as in Surgeon.
        tol: with outputs, the relative error up to which the objectives' gradients at an output may be compressed to
            few directions: of each of them at most `tol` times its own norm is left out, however small it is beside
            the others. 0 is exact.
        by_sample: with outputs, that row i of each output comes from sample i alone, batch first in every layer. Where
            all objectives then send multiples of one vector back into a row, as behind a mean and a linear head for a
            score or two classes, and the path has parameters in linear layers and LayerNorms only, one pass through it
            has the gradients of all of them, exactly. Elsewhere it changes nothing. Each path is compared with a whole
            pass once, and samples that mix are a ValueError. Takes memory for a layer's gradients of all samples.
        scaler: the one of mixed precision in float16. Give `backward` the losses as they are, without
            `scaler.scale`; `.grad` comes out unscaled, for clipping say, without `scaler.unscale_`. Then
            `scaler.step(optimizer)`, which skips the step if the gradient of any objective has overflown, and
            `scaler.update()`, as ever. A step by other ways is a RuntimeError, before it is made.
        every: how often the weights are taken, as in Surgeon: at every step (1), at every so many, or "auto"; between,
            a step is one ordinary backward pass. Weights that are to last are the mean of PCGrad's over several random
            orders, so that one order does not rule over many steps. Which parameters are private is told when they
            are taken.
        keep: as in Surgeon: with keep="sketches" the memory of one gradient is enough, whatever the number of
            objectives. Weights are then the mean over several random orders, as with `every`.
        sketch_size: as in Surgeon, of those sketches.
        scope: as in Surgeon: where several processes train together, "global" is the surgery that one process would
            make on all of their batches.
        group: as in Surgeon, of those processes.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        granularity: str = "model",
        model: nn.Module | None = None,
        tol: float = 0.0,
        scaler: GradScaler | None = None,
        by_sample: bool = False,
        every: int | str = 1,
        scope: str = "local",
        group: "dist.ProcessGroup | None" = None,
        keep: str = "gradients",
        sketch_size: int = SKETCH_SIZE,
    ):
        gk.weightings.check_reduction(reduction)
        super().__init__(
            optimizer,
            gk.weightings.pcgrad,
            every=every,
            granularity=granularity,
            model=model,
            tol=tol,
            scaler=scaler,
            by_sample=by_sample,
            scope=scope,
            group=group,
            keep=keep,
            sketch_size=sketch_size,
        )
        self.reduction = reduction
        self.generator = generator

    def _surgery(self, basis: Basis, step: Step) -> gk.Surgery:
        """Returns the surgery on the gradients, by projections in one random order."""
        return gk.surgery(
            basis.rows,
            groups=self._groups(step.params),
            reduction=self.reduction,
            generator=self.generator,
            mixing=basis.mixing,
            shared=basis.shared,
            scale=step.scale,
        )

    def _weights_together(self, grams: Tensor, basis: Basis, step: Step) -> tuple[Tensor, Tensor]:
        """Returns the weights of shared parameters, [T] or [K, T], and those for each parameter, [P, T]."""
        assert basis.reach is not None, "which all processes have joined"
        total = self._of_the_first(gk.weightings.pcgrad(grams, self.generator))
        weights = total / self._private_factor(len(step.names))
        index = self._groups(step.params) or [0] * len(step.params)
        of_shared, of_private = (w.view(-1, len(step.names))[index] for w in (weights, total))
        return weights, torch.where(basis.reach.all(dim=0).to(total.device)[:, None], of_shared, of_private)

    def _weights(self, gram: Tensor, names: tuple[Hashable, ...], losses: Tensor) -> Tensor:
        """Returns the weights of a shared parameter, [T], the mean over random orders."""
        total = gk.weightings.pcgrad(gram.expand(ORDERS, *gram.shape), self.generator).mean(dim=0)
        return total / self._private_factor(len(names))

    def _private_factor(self, num_objectives: int) -> float:
        return num_objectives if self.reduction == "mean" else 1
