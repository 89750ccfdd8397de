"""Puts gradients that autograd has not brought into `.grad`, also where several processes train together."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def several_processes() -> bool:
    """Returns whether torch.distributed is initialized with more processes than this one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def check_one_process(method: str, why: str) -> None:
    """Raises a RuntimeError where several processes train together, as a method's state would differ between them."""
    if several_processes():
        raise RuntimeError(f"{method}: works in one process only, as {why}; GMD works in several")


def add_to_grad(params: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Adds each gradient to its parameter's `.grad`, and takes it over; None leaves a parameter as it is.

    Among several processes by way of autograd, which copies them, so that DistributedDataParallel takes notice and
    averages over the processes: its hooks sit where a backward pass ends, and torch.autograd.grad never gets there.
    """
    given = [(param, gradient) for param, gradient in zip(params, gradients, strict=True) if gradient is not None]
    if several_processes():
        torch.autograd.backward([param for param, _ in given], [gradient for _, gradient in given])
        return
    for param, gradient in given:
        param.grad = gradient if param.grad is None else param.grad.add_(gradient)


def check_no_param_hooks(params: Sequence[nn.Parameter]) -> None:
    """Raises a ValueError if a parameter has a hook, which several processes would run once too often."""
    if not several_processes():
        return
    for index, param in enumerate(params):
        if param._backward_hooks:
            raise ValueError(
                f"optimizer: parameter {index}, {list(param.shape)}, has a hook, which would run twice where several "
                "processes train together; change its .grad after backward instead"
            )
