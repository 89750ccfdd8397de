"""What every method demands of the losses, and the outputs, it is given."""

from collections.abc import Mapping, Sequence

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


def check_outputs(outputs: Mapping[str, Tensor] | Sequence[Tensor]) -> list[Tensor]:
    """The outputs as a list, or an error that says which one is not a tensor of the graph."""
    named = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    found = []
    for name, output in named:
        if not isinstance(output, Tensor):
            raise TypeError(f"outputs[{name!r}]: expected a tensor, got {type(output).__name__}")
        if not output.requires_grad:
            raise ValueError(
                f"outputs[{name!r}] does not require grad: give the tensor that the losses were computed from"
            )
        if output._backward_hooks:
            raise ValueError(f"outputs[{name!r}] has a hook, which would run twice; hook a tensor before or behind it")
        found.append(output)
    if not found:
        raise ValueError("outputs: expected the output of at least one modality, got none")
    return found
