"""Light classifiers, one for each modality, that learn what can be told from this modality alone."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gmd.surgery._losses import Criterion, Metric, checked_loss, checked_metric


class Verdicts(NamedTuple):
    """What the classifiers make of a batch, before they learn from it.

    Attributes:
        metrics: {modality: float64 scalar}.
        gradients: {modality: the gradient of each parameter of its classifier}.
    """

    metrics: dict[str, Tensor]
    gradients: dict[str, Sequence[Tensor]]


class _Adam(torch.optim.Adam):
    found_inf: Tensor  # read by a fused step, which does nothing where it is 1: the way in which GradScaler skips steps


class Classifiers:
    """Copies of the head with weights and an optimizer (Adam) of their own.

    The classifiers learn from the modalities' outputs; no gradient of theirs goes back into the network.

    Args:
        head: a module whose parts all have reset_parameters(), as torch's layers do.
    """

    def __init__(self, head: nn.Module, modalities: Sequence[str], criterion: Criterion, metric: Metric, lr: float):
        self.models = dict(zip(modalities, [_fresh(head) for _ in modalities], strict=True))
        self.criterion = criterion
        self.metric = metric
        params = [param for model in self.models.values() for param in model.parameters()]
        # fused, as only that one leaves its step to the device
        self.optimizer = _Adam(params, lr, fused=True)

    def judge(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Verdicts:
        """Lets the classifiers judge the modalities' outputs, one after the other: one graph at a time is in memory."""
        verdicts = Verdicts({}, {})
        for m, output in outputs.items():
            params = list(self.models[m].parameters())
            # outputs that autocast made are of another type, and a head outside it takes its own only
            prediction = self.models[m](output.detach().to(params[0].dtype))
            loss = checked_loss(self.criterion(prediction, targets[m]), "criterion")
            verdicts.gradients[m] = torch.autograd.grad(loss, params)
            metric = self.metric(prediction.detach(), targets[m])
            verdicts.metrics[m] = checked_metric(metric, "metric", output.device)
        return verdicts

    def learn(self, gradients: Mapping[str, Sequence[Tensor]], finite: Tensor) -> None:
        """Takes a step of the classifiers that have judged, with the gradients of their verdicts.

        Nothing is learnt if `finite`, a bool scalar, is False or a gradient is not finite. This waits for no device.
        """
        norms = torch.stack(torch._foreach_norm([g for each in gradients.values() for g in each]))
        self.optimizer.found_inf = 1 - (finite & norms.isfinite().all()).float()
        for m, model in self.models.items():
            for p, param in enumerate(model.parameters()):
                param.grad = gradients[m][p] if m in gradients else None
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights of the classifiers, in the order of the modalities, and their optimizer's state."""
        return {
            "models": [model.state_dict() for model in self.models.values()],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        for model, weights in zip(self.models.values(), state["models"], strict=True):
            model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])


def _fresh(head: nn.Module) -> nn.Module:
    """Returns a copy of the head with weights drawn anew. Raises a ValueError if a part of it cannot do that."""
    copy = deepcopy(head).requires_grad_(True).train()
    if not any(True for _ in copy.parameters()):
        raise ValueError(f"head: expected a module with parameters, got {type(head).__name__} without any")
    for part in copy.modules():
        if next(part.parameters(recurse=False), None) is None:
            continue
        reset = getattr(part, "reset_parameters", None)
        if not callable(reset):
            raise ValueError(
                f"head: expected layers with reset_parameters(), got {type(part).__name__}, which has none"
            )
        reset()
    return copy
