"""Weightings that do not look at the gradients: the mean and the sum of the losses, given and random weights."""

import torch
from torch import Tensor

from gmd_kernels.checks import check_gram
from gmd_kernels.uploads import upload
from gmd_kernels.weightings._gramians import batched
from gmd_kernels.weightings._options import check_values, per_objective


@batched
def mean(gram: Tensor) -> Tensor:
    """Weighs every objective by 1/T, for the gradient of the mean loss.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    check_gram(gram)
    return torch.full_like(gram[..., 0], 1 / gram.shape[-1])


@batched
def sum(gram: Tensor) -> Tensor:
    """Weighs every objective by 1, for the gradient of the sum of the losses.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    check_gram(gram)
    return torch.ones_like(gram[..., 0])


@batched
def constant(gram: Tensor, weights: Tensor) -> Tensor:
    """Weighs every objective as given, whatever the gradients are.

    Args:
        gram: [..., T, T] float64.
        weights: [T], floating, of either sign.

    Raises ValueError: a Gramian of another type or shape, such weights; on the CPU also weights that are not finite.
    """
    given = per_objective("weights", weights, gram)
    check_values("weights", "finite numbers", given, given.isfinite())
    return given.expand(gram.shape[:-1]).clone()


@batched
def random(gram: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws the weights anew at each call: the softmax of normal numbers (RLW, Lin et al., TMLR 2022).

    They are positive and sum to one; in the mean over many steps each is 1/T.

    Args:
        gram: [..., T, T] float64.
        generator: source of the numbers; torch's default generator of the Gramian's device otherwise.

    Raises ValueError: a Gramian of another type or shape, or a generator inside torch.compile, which cannot trace one.
    """
    check_gram(gram)
    if generator is not None and torch.compiler.is_compiling():
        raise ValueError("generator: torch.compile cannot trace one; leave it out and seed torch's default generator")
    source = gram.device if generator is None else generator.device
    drawn = torch.randn(gram.shape[:-1], generator=generator, dtype=gram.dtype, device=source)
    return (upload(drawn, gram.device) if source.type == "cpu" else drawn.to(gram.device)).softmax(dim=-1)
