"""What every method demands of the losses it is given."""

from collections.abc import Sequence

from torch import Tensor


def check_losses(losses: Sequence[Tensor]) -> list[Tensor]:
    """The losses as a list, or a ValueError that says which one is not a scalar that requires grad."""
    losses = list(losses)
    if not losses:
        raise ValueError("losses: expected at least one objective, got none")
    for k, loss in enumerate(losses):
        if not isinstance(loss, Tensor):
            raise TypeError(f"losses[{k}]: expected a scalar tensor, got {type(loss).__name__}")
        if loss.numel() != 1:
            raise ValueError(f"losses[{k}]: expected a scalar tensor, got shape {list(loss.shape)}; reduce it first")
        if not loss.requires_grad:
            raise ValueError(
                f"losses[{k}] does not require grad: it was computed from detached tensors, under torch.no_grad(), "
                "or from none of the parameters"
            )
    return [loss.reshape(()) for loss in losses]
