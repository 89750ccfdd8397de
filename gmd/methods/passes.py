"""One backward pass for each objective through the graph that they share."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

DONATED = (
    "losses: the compiled model's backward pass can be run once only, as it overwrites what the forward pass saved "
    "('donated buffers'). It was compiled so for an ordinary backward pass, in this process or, cached, in an earlier "
    "one. Before the model is compiled (or with `torch.compiler.reset()` afterwards), set "
    "`torch._functorch.config.donated_buffer = False` and `torch.compiler.config.cache_key_tag = 'several losses'`; "
    "both, as Inductor's cache does not tell the two kinds of backward pass apart"
)


def gradients_of(losses: Sequence[Tensor], params: Sequence[nn.Parameter]) -> list[tuple[Tensor | None, ...]]:
    """[T][P] gradients, `None` where a loss does not reach a parameter; frees the graph.

    Raises:
        RuntimeError: of a compiled model that allows one backward pass only; the message says which options to set.
    """
    last = len(losses) - 1
    try:
        with _compiled_apart() if last > 0 else nullcontext():
            return [
                torch.autograd.grad(loss, params, retain_graph=k < last, allow_unused=True)
                for k, loss in enumerate(losses)
            ]
    except RuntimeError as error:
        if "donated buffers" in str(error):
            raise RuntimeError(DONATED) from error
        raise


def _compiled_apart() -> AbstractContextManager[None]:
    """A backward pass that torch.compile has left for now is compiled under a cache key of its own.

    With retain_graph=True it is compiled without donated buffers. Inductor would take one with them from its cache, if
    an ordinary backward pass has left it there, and all gradients but the first would be wrong (torch 2.8 to 2.13).
    """
    tag = torch.compiler.config.cache_key_tag
    return torch.compiler.config.patch(cache_key_tag=f"{tag} several losses")
