"""What one call of `backward` was given, and checks of what functions of the user's return."""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmd.surgery._losses import Losses, Outputs, named_losses
from gmd.surgery.processes.agreement import Agreed

Part = Callable[[], tuple[Losses, Outputs | None]]


class Step(NamedTuple):
    """What one call of `backward` was given.

    Attributes:
        own_names: of the losses.
        names: of the T objectives, which are the losses' own but for what other processes have.
        by_name: whether the losses came by name, or else by position.
        losses: [T] scalars; those of this process.
        outputs, factors, retain_graph, part: as given.
        everyone: all parameters of the optimizers.
        params: [P], those of them that require grad.
        scale: the scaler's, or None.
        counts: [T], of the samples behind each loss; None if none were given.
        agreed: what all processes bring to the step, which `names` are those of; None where this one is by itself.
        whole: [T] float64, the losses' values if parts of the batch came before this one; `names` are of all parts.
    """

    own_names: tuple[Hashable, ...]
    names: tuple[Hashable, ...]
    by_name: bool
    losses: list[Tensor]
    outputs: Outputs | None
    factors: Tensor | None
    retain_graph: bool
    part: Part | None
    everyone: list[nn.Parameter]
    params: list[nn.Parameter]
    scale: Tensor | None
    counts: list[float] | None = None
    agreed: Agreed | None = None
    whole: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """Returns the losses' values, [T], detached; over all processes if these have agreed on them."""
        if self.whole is not None:
            return self.whole
        if self.agreed is not None:
            return self.agreed.values
        return torch.stack([loss.detach() for loss in self.losses])


def checked_weights(weights: object, gram: Tensor) -> Tensor:
    """Returns a copy of what a weighting has returned, [T] float64; raises a ValueError unless it is weights."""
    is_vector = isinstance(weights, Tensor) and weights.is_floating_point() and weights.shape == gram.shape[:1]
    if not isinstance(weights, Tensor) or not is_vector or weights.device != gram.device:
        got = f"{weights.dtype} {list(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(f"weighting: expected weights, float64 [{len(gram)}] on {gram.device}, got {got}")
    return weights.detach().to(torch.float64, copy=True)


def check_factors_of_part(step: Step, outputs: Outputs | None) -> None:
    """Raises a ValueError unless factors of the batch's outputs are those of a part's outputs too."""
    if step.factors is None:
        return
    expected = list(step.outputs) if isinstance(step.outputs, Mapping) else len(step.outputs or ())
    got = list(outputs) if isinstance(outputs, Mapping) else len(outputs or ())
    if got != expected:
        raise ValueError(
            f"part: expected the outputs of the batch, as there are factors for them, {expected}, got {got}"
        )


def losses_of_part(step: Step) -> tuple[list[Tensor], Outputs | None]:
    """Returns the losses, in the batch's order, and the outputs of a part of the batch."""
    assert step.part is not None, "whoever asks has looked"
    found = step.part()
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"part: expected it to return (losses, outputs or None), got {type(found).__name__}")
    losses, outputs = found
    named = named_losses(losses)
    check_factors_of_part(step, outputs)
    names = step.own_names
    if isinstance(losses, Mapping) is not step.by_name or set(named) != set(names):
        lacking = [name for name in names if name not in named]
        told = f"lacks {lacking[0]!r}" if lacking else f"got {', '.join(map(repr, named))}"
        raise ValueError(f"part: expected the {len(names)} objectives of the batch, {told}; take a larger part")
    return [named[name] for name in names], outputs
