"""Gradients that autograd did not bring: how they get into `.grad`, also where several processes train together."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def several_processes() -> bool:
    """Whether torch.distributed is up, with more than this process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def check_one_process(method: str, why: str) -> None:
    """Raises RuntimeError where several processes would each take a way of their own."""
    if several_processes():
        raise RuntimeError(f"{method}: works in one process only, as {why}; GMD works in several")


def add_to_grad(params: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """param.grad += gradient, None for a parameter that is to be left as it is. The gradients are not ours any more.

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
    """Raises ValueError of a parameter whose hook would run for each objective, and again for what they merge into."""
    if not several_processes():
        return
    for index, param in enumerate(params):
        if param._backward_hooks:
            raise ValueError(
                f"optimizer: parameter {index}, {list(param.shape)}, has a hook, which would run twice where several "
                "processes train together; change its .grad after backward instead"
            )
