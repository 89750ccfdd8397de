"""MLA: multimodal learning with alternating unimodal adaptation (Zhang et al., CVPR 2024)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import add_to_grad, check_one_process
from gmd.surgery._graph import leaves_of
from gmd.surgery._losses import check_losses, check_outputs
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._passes import gradients_of
from gmd.surgery._scaling import Scaling
from gmd.surgery.report import Report


class MLA:
    """Trains one modality at a time, through one head that keeps what the turns before have taught it.

        mla = MLA(optimizer, network.head)
        for m in batch:  # the modalities take turns, each with an optimizer step of its own
            rows = network(batch[m], m)
            optimizer.zero_grad()
            mla.backward([criterion(network.head(rows), target)], outputs={m: rows})
            optimizer.step()

    The gradient of the head's weight is multiplied by a projector that has closed the directions of the mean inputs so
    far, see `gmd_kernels.owm_update_`: P <- P - k k^T / (alpha + h . k) with k = P h, then grad <- grad P, with the
    mean h of this turn's inputs. Everything else gets its gradient as it is.

    Args:
        optimizer: any torch optimizer but LBFGS that has the head's weight, or a list of them, as in GMD.
        head: nn.Linear, the last layer of every modality. The projector is [d, d] float32 (float64 with a float64
            head), on the device where the head is now.
        alpha: above 0, in units of |h|^2. A direction h that was met n times is open by 1 / (1 + n |h|^2 / alpha). With
            LayerNorm before the head every input has |h|^2 ~ d, and so has what all of them share: by default, d, that
            is half closed after one turn. In a direction in which they differ at random the mean of r rows has a
            square of 1 / r: it is half closed after r alpha turns. A small alpha soon closes all of the head; a huge
            one leaves it open, which is alternating training without a projector.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too.
        alpha_end: what alpha is at the end of each epoch, where it begins with `alpha`: in between it is
            alpha * (alpha_end / alpha)^progress. The published code goes from 0.1 to 0.01. None: alpha is constant.
        normalised: whether the projector is divided by its Frobenius norm after each update, as in the published code.
            The head's gradient is then shorter, by sqrt(d) at first: a higher learning rate is called for.

    Attributes:
        projector: [d, d], from the identity on.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        head: nn.Linear,
        alpha: float | None = None,
        scaler: GradScaler | None = None,
        alpha_end: float | None = None,
        normalised: bool = False,
    ):
        if not isinstance(head, nn.Linear):
            raise TypeError(f"head: expected an nn.Linear, got {type(head).__name__}")
        for name, value in (("alpha", alpha), ("alpha_end", alpha_end)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a finite number above 0, got {value}")
        check_one_process("MLA", "each would have a projector of its own")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.head = head
        self.alpha = float(head.in_features if alpha is None else alpha)
        self.alpha_end = alpha_end
        self.normalised = normalised
        self.scaler = scaler
        self._scaling = Scaling(scaler, self.optimizers)
        if not any(p is head.weight for p in self._params()):
            raise ValueError("head: expected one whose weight is a parameter of the optimizer and requires grad")
        dtype = torch.float64 if head.weight.dtype is torch.float64 else torch.float32
        self.projector = torch.eye(head.in_features, dtype=dtype, device=head.weight.device)

    @ordinary_modes()
    def backward(
        self,
        losses: Sequence[Tensor],
        outputs: Mapping[str, Tensor],
        retain_graph: bool = False,
        progress: float | None = None,
    ) -> Report:
        """Adds the gradient of one modality's loss to `.grad`, that of the head's weight projected.

        Args:
            losses: one scalar tensor, the loss of the modality whose turn it is.
            outputs: {modality: [..., d]}, the rows that went into the head, without padded steps.
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.
            progress: how much of the epoch is done, in [0, 1]: of batch i of n, i / n for each of its turns. With
                `alpha_end` alone.

        If the loss or any gradient is not finite, the projector stays as it is and the gradient of the head's weight is
        NaN, which `report.finite` shows. Nothing waits for the device. The report's Gramian, [1, 1], is that of the
        gradient as it is applied.
        """
        mean_input, alpha = self._mean_of(outputs), self._alpha_at(progress)
        stacked, weight = self._stacked(losses, outputs), self.head.weight
        scale = self._scaling.scale(list(stacked))
        params = self._params()
        gradients = self._gradients(stacked[0], params, scale, retain_graph)
        [of_weight] = [gradient for param, gradient in zip(params, gradients, strict=True) if param is weight]
        if of_weight is None:  # an autograd.Function of the user's own, on the way back to the weight, has sent nothing
            raise ValueError("losses: expected a gradient of the head's weight from the loss, got none")
        others = gk.gram([[g for p, g in zip(params, gradients, strict=True) if p is not weight]]).to(weight.device)
        sound = stacked[0].detach().isfinite() & others.isfinite().all()
        self._project(of_weight, mean_input.where(sound, torch.nan), alpha)
        gram = others + gk.gram([[of_weight]])
        add_to_grad(params, gradients, losses)
        if scale is not None:
            self._scaling.note_unscaled(gram)
        return Report(stacked.detach(), gram, gram.new_ones(1), squared_norm=gram[0, 0])

    def state_dict(self) -> dict[str, Tensor]:
        """Returns a copy of the projector, {"projector": [d, d]}; training goes on from it as if it had not stopped."""
        return {"projector": self.projector.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` has returned, from any device; a ValueError if it is of another head."""
        projector = state["projector"]
        if projector.shape != self.projector.shape or projector.dtype != self.projector.dtype:
            expected, got = (f"{p.dtype} {list(p.shape)}" for p in (self.projector, projector))
            raise ValueError(f"projector: expected {expected} for this head, got {got}")
        self.projector.copy_(projector)

    def _params(self) -> list[nn.Parameter]:
        return [param for param in parameters_of(self.optimizers) if param.requires_grad]

    def _stacked(self, losses: Sequence[Tensor], outputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the loss, [1]; a ValueError unless there is one, and it was computed through the head."""
        stacked = torch.stack(check_losses(losses))
        if len(stacked) != 1:
            raise ValueError(f"losses: expected one, of the modality whose turn it is, got {len(stacked)}")
        if not any(leaf is self.head.weight for leaf in leaves_of([stacked], outputs.values())):
            raise ValueError(
                "losses: expected one that was computed through the head, got one that its weight is not in"
            )
        return stacked

    def _project(self, of_weight: Tensor, mean_input: Tensor, alpha: float) -> None:
        """Updates the projector, and projects the gradient of the head's weight, both in place."""
        gk.owm_update_(self.projector, of_weight, mean_input, alpha)
        if self.normalised:
            # a gradient of NaN tells that the projector is as it was before
            norm = self.projector.norm().where(~of_weight.isnan().any(), 1.0)
            self.projector.div_(norm)
            of_weight.div_(norm)

    def _alpha_at(self, progress: float | None) -> float:
        """Returns the alpha of a turn; a ValueError unless it is known how much of the epoch is done."""
        if self.alpha_end is None:
            return self.alpha
        if progress is None or not 0 <= progress <= 1:
            raise ValueError(f"progress: expected how much of the epoch is done, in [0, 1], got {progress}")
        return float(self.alpha * (self.alpha_end / self.alpha) ** progress)

    def _mean_of(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the mean of the rows that went into the head, [d], detached."""
        if not isinstance(outputs, Mapping) or len(outputs) != 1:
            got = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise ValueError(f"outputs: expected those of the one modality whose turn it is, got {got}")
        [(modality, rows)] = outputs.items()
        check_outputs(outputs)
        if rows.ndim == 0 or rows.shape[-1] != self.head.in_features or rows.numel() == 0:
            expected = f"[..., {self.head.in_features}], at least one row"
            raise ValueError(f"outputs[{modality!r}]: expected {expected}, as the head takes, got {list(rows.shape)}")
        return rows.detach().reshape(-1, rows.shape[-1]).mean(dim=0, dtype=self.projector.dtype)

    def _gradients(
        self, loss: Tensor, params: list[nn.Parameter], scale: Tensor | None, retain_graph: bool
    ) -> list[Tensor | None]:
        """Returns [P] gradients, unscaled; that of the head's weight, which will be changed, in memory of its own."""
        row = list(gradients_of([loss], params, scale, retain_graph)[0])
        if scale is not None:
            factor = scale.double().reciprocal().float()
            row = [None if gradient is None else gradient * factor.to(gradient.device) for gradient in row]
        weight = next(p for p, param in enumerate(params) if param is self.head.weight)
        gradient = row[weight]
        row[weight] = None if gradient is None else gradient.clone()
        return row
