"""One ordinary backward pass of a weighted sum of the losses, through whatever engine the network is in.

For given weights sum_k w_k g_k is the gradient of sum_k w_k L_k: exact, with the memory of one gradient, and at the
price of one loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from gmd.surgery._inside_forward import expect_gradients
from gmd.surgery._passes import several_passes


def one_pass(
    losses: Sequence[Tensor],
    weights: Tensor,
    params: Sequence[nn.Parameter],
    outputs: Sequence[Tensor] = (),
    factors: Tensor | None = None,
    of_params: Mapping[nn.Parameter, float] | None = None,
    scale: Tensor | None = None,
    retain_graph: bool = False,
    alone: bool = False,
    again: bool = False,
) -> Tensor | None:
    """Adds the gradient of sum_k weights[k] * losses[k] to `.grad`, as `Tensor.backward` does.

    Args:
        losses: T scalars.
        weights: [T], of any float type, on the losses' device.
        params: all that the gradients of are divided by `scale`.
        outputs, factors: [M], as in `GMD.backward`; nothing but norms and factors is made of them.
        of_params: what the gradients of single parameters are multiplied with besides, by hooks on these.
        scale: the losses are multiplied with it, and all gradients that reach `.grad` divided by it.
        retain_graph: whether the graph is kept.
        alone: whether other leaves of the graph than `params` get nothing.
        again: whether torch.compile made parts of the graph, which are to allow several passes in a later step.

    Returns:
        [M] float64 norms of the gradients at the outputs, before their factors; None without outputs.
    """
    total = (torch.stack(list(losses)).to(weights.dtype) * weights).sum()
    if scale is not None:
        total = total * scale.to(total.dtype)
    with ExitStack() as stack:
        norms = stack.enter_context(watched(outputs, factors))
        stack.enter_context(_multiplied(params, of_params or {}, scale))
        stack.enter_context(several_passes(2 if again or retain_graph else 1))
        expect_gradients([total])
        total.backward(retain_graph=retain_graph or again, inputs=params if alone else None)
    if not outputs:
        return None
    return torch.stack(norms) if scale is None else torch.stack(norms) / scale


@contextmanager
def watched(outputs: Sequence[Tensor], factors: Tensor | None) -> Iterator[list[Tensor]]:
    """Yields M float64 norms that a backward pass fills in, of the gradients at the outputs before their factors."""
    norms = list(torch.zeros(len(outputs), dtype=torch.float64, device=outputs[0].device)) if outputs else []

    def watch(gradient: Tensor | None, m: int) -> Tensor | None:
        if gradient is None:  # a DistributedDataParallel passes it on so where no loss uses the output
            return None
        norms[m] = torch.linalg.vector_norm(gradient, dtype=torch.float64)
        return None if factors is None else gradient * factors[m]

    handles = [output.register_hook(partial(watch, m=m)) for m, output in enumerate(outputs)]
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _multiplied(
    params: Sequence[nn.Parameter], factors: Mapping[nn.Parameter, float], scale: Tensor | None
) -> Iterator[None]:
    """Opens a context in which gradients that arrive at parameters are multiplied with their factors, once each.

    Hooks on a leaf see the sum of all that arrives, before it is added to `.grad`: what has been accumulated there in
    earlier passes, and is averaged over processes later, stays what it is.
    """
    handles = []
    try:
        for param in params if scale is not None else factors:
            factor = factors.get(param, 1.0)
            handles.append(param.register_hook(partial(_times, factor=factor, scale=scale)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _times(gradient: Tensor, factor: float, scale: Tensor | None) -> Tensor:
    return gradient * factor if scale is None else gradient * (factor / scale).to(gradient.dtype)
