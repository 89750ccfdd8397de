"""How torch.amp.GradScaler and the surgery work together.

The surgery's weights take the scale out of the gradients, and an overflow shows on the diagonal of the Gramian.
"""

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState


def scale_of(scaler: GradScaler | None, losses: list[Tensor]) -> Tensor | None:
    """Returns the scaler's present scale, a scalar on the losses' device; None without an enabled scaler."""
    if scaler is None or not scaler.is_enabled():
        return None
    return scaler.scale(torch.ones((), device=losses[0].device))


def note_unscaled(scaler: GradScaler, optimizer: torch.optim.Optimizer, gram: Tensor) -> None:
    """Tells the scaler what `scaler.unscale_(optimizer)` would, which must not be called any more.

    `scaler.step(optimizer)` skips the step if a gradient of any objective was not finite, in this backward pass or in
    one before it since `scaler.update()`. (The state of the two is GradScaler's own, the same in torch 2.8 to 2.13;
    its public way to it is a pass over all gradients.)
    """
    state = scaler._per_optimizer_states[id(optimizer)]
    found = (~gram.diagonal(dim1=-2, dim2=-1).isfinite().all()).float()
    before = state["found_inf_per_device"].get(gram.device)
    state["found_inf_per_device"][gram.device] = found if before is None else torch.maximum(before, found)
    state["stage"] = OptState.UNSCALED
