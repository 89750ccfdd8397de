"""GMD: gradient-guided modality decoupling (Wang et al., AAAI 2024) around any torch optimizer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import add_to_grad, check_no_param_hooks, several_processes
from gmd.surgery._granularity import GRANULARITIES, groups_of, module_names
from gmd.surgery._graph import check_graph
from gmd.surgery._losses import Outputs, check_factors, check_losses, check_no_hooks, check_outputs
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._passes import gradients_of
from gmd.surgery._paths import Basis, Checked, path_gradients
from gmd.surgery._scaling import Scaling
from gmd.surgery.report import Report


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
            tensors do. The three cost the same two passes.
        model: whose modules `granularity="module"` means; not needed if the optimizer was made from
            `model.named_parameters()`.
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
    ):
        gk.weightings.check_reduction(reduction)
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity: expected 'model', 'module' or 'tensor', got {granularity!r}")
        if not 0 <= tol < 1:
            raise ValueError(f"tol: expected a relative error, at least 0 and below 1, got {tol}")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.reduction = reduction
        self.generator = generator
        self.granularity = granularity
        self.model = model
        self.tol = tol
        self.scaler = scaler
        self._scaling = Scaling(scaler, self.optimizers)
        self._checked: set[Checked] | None = (
            set() if by_sample else None
        )  # the paths that have been compared with whole passes
        self._modules = module_names(self.optimizers, model) if granularity == "module" else {}

    @ordinary_modes()
    def backward(
        self,
        losses: Sequence[Tensor],
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Adds the merged gradient to `.grad` of every parameter, as `Tensor.backward` does.

        Args:
            losses: T scalar tensors, each requiring grad.
            outputs: the M outputs, one of each modality (a list or a dict of tensors), through which alone the losses
                depend on the parameters before them, in any way. Parameters behind them, a head's, get their exact
                gradients.
            factors: [M], any float type, on the device of the outputs, which have to be given: the gradient that comes
                in at output m is multiplied by factors[m], so that everything before it gets its gradient times that.
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.

        A parameter that no loss reaches keeps its `.grad` as it is. The device is waited for once with `tol`, once with
        `by_sample`, and once more for each path that is compared with a whole pass; without the two it never is. If a
        loss or gradient may be NaN, look at `report.finite` before `optimizer.step()`.
        """
        losses = check_losses(losses)
        if len(losses) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(losses)}")
        params = [param for param in parameters_of(self.optimizers) if param.requires_grad]
        check_no_param_hooks(params)
        groups = self._groups(params)
        scale = self._scaling.scale(losses)
        basis = self._basis(losses, outputs, params, scale, factors, retain_graph)
        surgery = self._operate(basis, groups, scale)
        add_to_grad(params, surgery.merged, losses)
        if scale is not None:
            # an overflow in another process shows in what they have averaged, and nowhere else
            seen = gk.gram([[p.grad for p in params]]) if several_processes() else surgery.gram
            self._scaling.note_unscaled(seen)
        values = torch.stack([loss.detach() for loss in losses])
        modality = {} if basis.norms is None else {"gradient norm": basis.norms}
        return Report(values, surgery.gram, surgery.weights, basis.directions, basis.discarded, modality)

    def _groups(self, params: list[nn.Parameter]) -> list[int] | None:
        if self.granularity == "module" and not self._modules.keys() >= set(params):  # added since
            self._modules = module_names(self.optimizers, self.model)
        return groups_of(params, self.granularity, self._modules)

    def _operate(self, basis: Basis, groups: list[int] | None, scale: Tensor | None) -> gk.Surgery:
        return gk.surgery(
            basis.rows,
            groups=groups,
            reduction=self.reduction,
            generator=self.generator,
            mixing=basis.mixing,
            shared=basis.shared,
            scale=scale,
        )

    def _basis(
        self,
        losses: list[Tensor],
        outputs: Outputs | None,
        params: list[nn.Parameter],
        scale: Tensor | None,
        factors: Tensor | None,
        retain_graph: bool,
    ) -> Basis:
        check_factors(factors, outputs)
        if outputs is None:
            check_graph(losses)
            return Basis(gradients_of(losses, params, scale, retain_graph))
        found = check_outputs(outputs)
        check_no_hooks(outputs)
        return path_gradients(losses, found, params, self.tol, scale, factors, self._checked, retain_graph)
