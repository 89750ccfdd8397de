"""Gramian [T, T] -> weights [T], all float64 on the Gramian's device. Any callable of that kind is a weighting."""

import torch
from torch import Tensor

from gmd_kernels.ops import pcgrad_weights, projection_order


def mean(gram: Tensor) -> Tensor:
    """Every objective alike: the gradient of the mean loss."""
    return torch.full_like(gram[0], 1 / len(gram))


def pcgrad(gram: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sum of the projected gradients, in a random order (PCGrad, Yu et al., NeurIPS 2020).

    Args:
        gram: [T, T] float64.
        generator: source of the order; torch's default generator otherwise.
    """
    order = projection_order(len(gram), generator, gram.device)
    return pcgrad_weights(gram, order).sum(dim=0)


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
