"""Weightings that do not look at the gradients: the mean and the sum of the losses."""

import torch
from torch import Tensor

from gmd_kernels.checks import check_gram
from gmd_kernels.weightings._gramians import batched


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
