"""OGM-GE: on-the-fly gradient modulation with generalization enhancement (Peng et al., CVPR 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gmd.surgery._delivery import check_no_late_hooks, check_one_process
from gmd.surgery._graph import leaves_of
from gmd.surgery._losses import Metric, check_losses, check_outputs, check_rows, checked_metric
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, check_same, optimizers_of, parameters_of
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report

AHEAD = 1 + 1e-12  # a ratio above it is more than the rounding error between equals, for whom k would jump


class OGMGE:
    """Slows down the modality that predicts better by itself than the others do.

    Everything before the output of modality m gets its gradient times k_m:

        r_m = score_m / mean of the others' scores        k_m = 1 - tanh(alpha * r_m) where r_m > 1, else 1

    The gradient of a parameter that belongs to modality m alone gets Gaussian noise too, of the standard deviation that
    its elements had before k_m. A parameter belongs to m alone as long as no batch has had the losses reach it in any
    other way. In a batch with a single modality there is nothing to balance, and no noise. The paper has two modalities
    and classes; for more of them, and for regression (by a score in [0, 1] that falls with the error), this is an
    extension. The published code modulates convolutions alone, and for some epochs only: `convolutions`, and `modulate`
    of `backward`.

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, as in GMD.
        alpha: above 0, how much the modality that is ahead is slowed down.
        score: (predictions, targets) -> number or scalar tensor in [0, 1]; the paper's is the mean probability of the
            right class.
        generator: source of the noise, drawn on its device and copied to the gradients; without one, each device's own.
        surgeon: what merges the losses' gradients, GMD or MeanGradient (the default) of the same optimizer.
        noise: whether there is noise; without it, it is the paper's OGM.
        convolutions: whether only parameters of four dimensions, the weights of 2-D convolutions, get the factor and
            the noise, and only those that belong to one modality alone, as in the published code.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        alpha: float,
        score: Metric,
        generator: torch.Generator | None = None,
        surgeon: GMD | MeanGradient | None = None,
        noise: bool = True,
        convolutions: bool = False,
    ):
        if not alpha > 0:
            raise ValueError(f"alpha: expected a number above 0, got {alpha}")
        check_one_process("OGM-GE", "each would add noise of its own")
        self.surgeon = MeanGradient(optimizer) if surgeon is None else surgeon
        check_same(optimizers_of(optimizer), self.surgeon.optimizers)
        self.optimizer = optimizer
        self.alpha = alpha
        self.score = score
        self.generator = generator
        self.noise = noise
        self.convolutions = convolutions
        if convolutions and not any(map(_is_convolution, self._params())):
            raise ValueError("convolutions: expected a parameter of four dimensions in the optimizer, got none")
        self._owners: dict[int, str | None] = {}  # parameter, by number -> its modality; None if it has several
        self._searched: set[frozenset[str]] = set()  # the modalities of batches whose graph is known

    @ordinary_modes()
    def backward(
        self,
        losses: Sequence[Tensor],
        outputs: Mapping[str, Tensor],
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        retain_graph: bool = False,
        modulate: bool = True,
    ) -> Report:
        """Adds the modulated gradient, with its noise, to `.grad`, where there should be none yet.

        Args:
            losses: T scalars.
            outputs: of the modalities that the batch has, [n_m, ...] each, the tensors that the losses came from.
            predictions: from each of them alone, [n_m, ..., C]; not differentiated.
            targets: of the same modalities, [n_m, ...].
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.
            modulate: False leaves the gradient as it is, with factors of 1 and no noise, as in epochs before or after
                those that are to be modulated.

        `report.modality` has "score" and "factor" (k_m); the Gramian is that of the gradient without noise, and with
        `convolutions` without the factors too. Nothing waits for the device, unless the generator is on another one,
        from which the noise is copied.
        """
        losses = check_losses(losses)
        scores = self._scores(outputs, predictions, targets)
        factors = modulation(scores, self.alpha) if modulate else torch.ones_like(scores)
        owners = self._owners_after(losses, outputs)
        of_outputs = factors if modulate and not self.convolutions else None
        report = self.surgeon.backward(losses, outputs=outputs, factors=of_outputs, retain_graph=retain_graph)
        self._owners = owners
        self._searched.add(frozenset(outputs))
        if modulate and len(outputs) > 1:
            self._change(dict(zip(outputs, factors, strict=True)))
        # the norm of what is in .grad is that without noise
        return replace(report, modality=report.modality | {"score": scores, "factor": factors}, squared_norm=None)

    def _scores(
        self, outputs: Mapping[str, Tensor], predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the score of each modality's predictions, [M] float64; raises an error for what cannot be scored."""
        for what, given in (("predictions", predictions), ("targets", targets)):
            check_rows(outputs, given, what)
        check_outputs(outputs)
        check_no_late_hooks(self._params(), "the noise is added later")
        with torch.no_grad():
            found = [
                checked_metric(self.score(predictions[m], targets[m]), "score", x.device) for m, x in outputs.items()
            ]
        return torch.stack(found)

    def _owners_after(self, losses: Sequence[Tensor], outputs: Mapping[str, Tensor]) -> dict[int, str | None]:
        """Returns the modality of each parameter after a batch; searches the graph once for each set of modalities."""
        owners = dict(self._owners)
        if frozenset(outputs) in self._searched:
            return owners
        numbers = {id(param): p for p, param in enumerate(self._params())}
        ways = [(None, leaves_of(losses, outputs.values())), *((m, leaves_of([out])) for m, out in outputs.items())]
        for owner, leaves in ways:
            for p in (numbers[id(leaf)] for leaf in leaves if id(leaf) in numbers):
                owners[p] = owner if owners.get(p, owner) == owner else None
        return dict(sorted(owners.items()))  # the graph's order is another in every process

    def _params(self) -> list[nn.Parameter]:
        return parameters_of(self.surgeon.optimizers)

    def _change(self, factors: Mapping[str, Tensor]) -> None:
        """Adds noise to the gradients of what is one modality's own; convolutions get their factor here, too."""
        # in the optimizer's order, modality by modality: the graph's is another in every process, and so would be the
        # noise
        owned = [(param, self._owners.get(p)) for p, param in enumerate(self._params())]
        for m, factor in factors.items():
            for param, owner in owned:
                if owner != m or param.grad is None or (self.convolutions and not _is_convolution(param)):
                    continue
                deviation = param.grad.std(correction=0)
                if self.convolutions:
                    param.grad.mul_(factor)
                else:  # the surgeon has multiplied it already; where that was by 0, no gradient is left, and no noise
                    deviation = deviation / factor.clamp(min=torch.finfo(factor.dtype).tiny)
                if self.noise:
                    self._add_noise(param.grad, deviation)

    def _add_noise(self, gradient: Tensor, deviation: Tensor) -> None:
        device = gradient.device if self.generator is None else self.generator.device
        noise = torch.randn(gradient.shape, generator=self.generator, device=device)
        gradient.add_(noise.to(gradient) * deviation)

    def state_dict(self) -> dict[str, Any]:
        """Returns the modality that each parameter belongs to, as far as the batches have told."""
        return {"owners": dict(self._owners)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        self._owners = dict(state["owners"])
        self._searched = set()


def _is_convolution(param: Tensor) -> bool:
    return param.ndim == 4


def modulation(scores: Tensor, alpha: float) -> Tensor:
    """Returns the factors k, [M] float64, from scores [M] float64 in [0, 1]; 1 for a modality that is alone."""
    if len(scores) == 1:
        return torch.ones_like(scores)
    others = (scores.sum() - scores) / (len(scores) - 1)
    ratios = scores / others.clamp(min=torch.finfo(scores.dtype).tiny)
    return torch.where(ratios > AHEAD, 1 - torch.tanh(alpha * ratios), 1.0)
