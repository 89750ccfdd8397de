"""Brings gradients that torch.autograd.grad has made into `.grad`, as the end of an ordinary backward pass would.

What hangs on that end takes notice: DistributedDataParallel, which then averages over the processes, and the user's
hooks that run after accumulation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from gmd.surgery._graph import leaves_of


def several_processes() -> bool:
    """Returns whether torch.distributed is initialized with more processes than this one."""
    return in_a_group() and dist.get_world_size() > 1


def in_a_group() -> bool:
    """Returns whether torch.distributed is initialized, with as many processes as may be."""
    return dist.is_available() and dist.is_initialized()


def check_one_process(method: str, why: str) -> None:
    """Raises a RuntimeError where several processes train together, as a method's state would differ between them."""
    if several_processes():
        raise RuntimeError(f"{method}: works in one process only, as {why}; GMD works in several")


class _Delivery(torch.autograd.Function):
    """A scalar whose backward pass brings gradients to parameters, which autograd takes over without a copy."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor | None], like: Tensor, *leaves: Tensor) -> Tensor:
        ctx.gradients = gradients
        return like.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = tuple(ctx.gradients)
        ctx.gradients.clear()
        return None, None, *gradients


def add_to_grad(params: Sequence[nn.Parameter], gradients: list[Tensor | None], losses: Iterable[Tensor]) -> None:
    """Adds each gradient to its parameter's `.grad`, and takes it over: the list is empty afterwards.

    None leaves a parameter as it is. A hook that a parameter has on its gradient has run in each pass that made it, and
    does not run here; hooks that run after accumulation do, once.

    In a process group, every parameter that the losses' graph reaches gets there, without a gradient if it has none:
    as in an ordinary backward pass, where a DistributedDataParallel with find_unused_parameters=True learns so that an
    output of the forward pass is in no loss of this process.
    """
    given = [(param, gradients[p]) for p, param in enumerate(params) if gradients[p] is not None]
    gradients.clear()
    hooked = [(param, gradient) for param, gradient in given if param._backward_hooks]
    plain = [(param, gradient) for param, gradient in given if not param._backward_hooks]
    plain += [(param, None) for param in _without_gradient(losses, given)]
    given.clear()
    _by_autograd(plain)
    for param, gradient in hooked:
        with torch.no_grad():
            get_gradient_edge(param).node(gradient)  # type: ignore[operator]  # what autograd calls after the hooks


def _without_gradient(
    losses: Iterable[Tensor], given: Iterable[tuple[nn.Parameter, Tensor | None]]
) -> list[nn.Parameter]:
    """Returns the parameters that a process group waits for besides those that are given a gradient."""
    if not in_a_group():
        return []
    known = {id(param) for param, _ in given}
    reached = (leaf for leaf in leaves_of(losses) if isinstance(leaf, nn.Parameter))
    return [param for param in reached if id(param) not in known and not param._backward_hooks]


def _by_autograd(pairs: list[tuple[nn.Parameter, Tensor | None]]) -> None:
    """Ends a backward pass at the parameters. A pass begins on the device of its gradients, whose stream it is in."""
    if not pairs:
        return
    roots = []
    for device in {param.device: None for param, _ in pairs}:
        there = [(param, gradient) for param, gradient in pairs if param.device == device]
        leaves = [param for param, _ in there]
        gradients = [gradient for _, gradient in there]
        roots.append(_Delivery.apply(gradients, leaves[0].detach(), *leaves))  # type: ignore[no-untyped-call]
        del there, gradients
    pairs.clear()
    torch.autograd.backward(roots)


@torch.no_grad()
def put_in_grad(params: Sequence[nn.Parameter], gradients: list[Tensor | None]) -> None:
    """Adds gradients that all processes have alike to `.grad`, past the hooks that would average them.

    The user's hooks that run after accumulation do. None leaves a parameter as it is; the list is empty afterwards.
    """
    given = [(param, gradient) for param, gradient in zip(params, gradients, strict=True) if gradient is not None]
    gradients.clear()
    for param, gradient in given:
        param.grad = gradient if param.grad is None else param.grad.add_(gradient)
        for hook in list((param._post_accumulate_grad_hooks or {}).values()):
            hook(param)


def check_no_late_hooks(params: Sequence[nn.Parameter], why: str) -> None:
    """Raises a ValueError if a parameter has a hook that runs after accumulation: it would run too early, see `why`."""
    for index, param in enumerate(params):
        if param._post_accumulate_grad_hooks:
            raise ValueError(
                f"optimizer: parameter {index}, {list(param.shape)}, has a hook that runs when its gradient is "
                f"accumulated, too early for this method, as {why}; use .grad after backward instead"
            )


def check_no_param_hooks(params: Sequence[nn.Parameter]) -> None:
    """Raises a ValueError if a parameter has a hook, which delivery in a process group would run once too often."""
    if not in_a_group():
        return
    for index, param in enumerate(params):
        if param._backward_hooks:
            raise ValueError(
                f"optimizer: parameter {index}, {list(param.shape)}, has a hook, which would run twice where several "
                "processes train together; change its .grad after backward instead"
            )
