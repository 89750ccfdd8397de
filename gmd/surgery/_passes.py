"""One backward pass for each objective through the graph that they share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gmd.surgery._kept import KeptRows

DONATED = (
    "losses: the compiled model's backward pass can be run once only, as it overwrites what the forward pass saved "
    "('donated buffers'). It was compiled so for an ordinary backward pass, in this process or, cached, in an earlier "
    "one; or, as soon as its shapes are dynamic, before any backward pass. Before the model is compiled (or with "
    "`torch.compiler.reset()` afterwards), `import torch._functorch.config`, and set "
    "`torch._functorch.config.donated_buffer = False` and "
    "`torch.compiler.config.cache_key_tag = 'several losses'`; both, as Inductor's cache does not tell the two kinds "
    "of backward pass apart"
)

Row = Sequence[Tensor | None]


def gradients_of(
    losses: Sequence[Tensor], inputs: Sequence[Tensor], scale: Tensor | None = None, retain_graph: bool = False
) -> list[Row]:
    """Returns [T][P] gradients of the losses, times `scale`; `None` where a loss reaches no input.

    Frees the graph, unless it is to be retained.

    Those of all passes but the last are kept as `KeptRows` keeps them.

    Raises:
        RuntimeError: a compiled model allows one backward pass only; the message says which options to set.
    """
    *before, last = losses
    kept = KeptRows(len(before), inputs)
    with several_passes(len(losses) + retain_graph):
        rows: list[Row] = [kept.keep(gradient_of(loss, inputs, scale, retain_graph=True)) for loss in before]
        return [*rows, gradient_of(last, inputs, scale, retain_graph)]


def gradient_of(loss: Tensor, inputs: Sequence[Tensor], scale: Tensor | None, retain_graph: bool) -> Row:
    """Returns [P], the gradients of one loss, times `scale`; see `gradients_of`."""
    scale = None if scale is None else scale.to(loss.dtype)
    return torch.autograd.grad(loss, inputs, scale, retain_graph=retain_graph, allow_unused=True)


@contextmanager
def several_passes(count: int) -> Iterator[None]:
    """Opens a context for `count` backward passes through one graph, of which all but the last retain it.

    A backward pass that torch.compile has left for now is compiled under a cache key of its own. With retain_graph=True
    it is compiled without donated buffers. Inductor would take one with them from its cache, if an ordinary backward
    pass has left it there, and all gradients but the first would be wrong (torch 2.8 to 2.13).
    """
    tag = torch.compiler.config.cache_key_tag
    tag = tag if count == 1 else f"{tag} several losses"
    try:
        with torch.compiler.config.patch(cache_key_tag=tag):  # type: ignore[attr-defined]  # because torch adds it
            yield
    except RuntimeError as error:
        if "donated buffers" in str(error):
            raise RuntimeError(DONATED) from error
        raise
