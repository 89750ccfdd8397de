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
    """A classifier for each modality, with an optimizer (Adam) for all of them.

    They learn from the modalities' outputs, or from what else is given them of a modality; no gradient of theirs goes
    back into the network.

    Args:
        models: modality -> classifier.
        heads: modality -> what the classifier has in the place of the network's head, a part of it or all.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        heads: Mapping[str, nn.Module],
        criterion: Criterion,
        metric: Metric,
        lr: float,
    ):
        self.models = dict(models)
        self.heads = dict(heads)
        self.criterion = criterion
        self.metric = metric
        params = [param for model in self.models.values() for param in model.parameters()]
        # fused, as only that one leaves its step to the device
        self.optimizer = _Adam(params, lr, fused=True)

    def judge(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], seen: Mapping[str, Any] | None = None
    ) -> Verdicts:
        """Lets the classifiers judge the modalities' outputs, one after the other: one graph at a time is in memory.

        seen: what they are called with in the place of the outputs
        """
        verdicts = Verdicts({}, {})
        for m, output in outputs.items():
            params = list(self.models[m].parameters())
            # outputs that autocast made are of another type, and a head outside it takes its own only
            shown = output.detach().to(params[0].dtype) if seen is None else seen[m]
            prediction = self.models[m](shown)
            loss = checked_loss(self.criterion(prediction, targets[m]), "criterion")
            verdicts.gradients[m] = torch.autograd.grad(loss, params)
            metric = self.metric(prediction.detach(), targets[m])
            verdicts.metrics[m] = checked_metric(metric, "metric", output.device)
        return verdicts

    def of_heads(self, gradients: Mapping[str, Sequence[Tensor]]) -> list[list[Tensor]]:
        """Returns the gradients of the heads' parameters among those of the verdicts, modality by modality."""
        found = []
        for m, of_all in gradients.items():
            in_head = {id(param) for param in self.heads[m].parameters()}
            pairs = zip(self.models[m].parameters(), of_all, strict=True)
            found.append([gradient for param, gradient in pairs if id(param) in in_head])
        return found

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


def models_and_heads(
    given: Mapping[str, nn.Module] | None, head: nn.Module, modalities: Sequence[str]
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Returns each modality's classifier, and what it has in the place of the head.

    given: the classifiers; None makes copies of the head, whose parts all have reset_parameters(), as torch's layers do
    Raises ValueError for classifiers that do not go with the head and the modalities, and for a head without those.
    """
    if given is None:
        copies = {m: _fresh(head) for m in modalities}
        return copies, copies
    heads = _heads_of(given, head, modalities)
    return {m: given[m] for m in modalities}, heads


def _heads_of(classifiers: Mapping[str, nn.Module], head: nn.Module, modalities: Sequence[str]) -> dict[str, nn.Module]:
    """Returns the `head` of each classifier; a ValueError unless there is one of each modality, like the network's."""
    if set(classifiers) != set(modalities):
        got = ", ".join(map(str, classifiers)) or "none"
        raise ValueError(f"classifiers: expected one of each of {', '.join(modalities)}, got {got}")
    shapes = [list(param.shape) for param in head.parameters()]
    heads = {}
    for m in modalities:
        found = getattr(classifiers[m], "head", None)
        if not isinstance(found, nn.Module) or [list(param.shape) for param in found.parameters()] != shapes:
            raise ValueError(f"classifiers[{m!r}]: expected a `head` with parameters of the network's shapes, {shapes}")
        heads[m] = found
    return heads


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
