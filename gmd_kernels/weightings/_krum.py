"""The weighting that trusts the gradients with near neighbours: Krum."""

import torch
from torch import Tensor

from gmd_kernels.weightings._gramians import batched, finite
from gmd_kernels.weightings._options import check_count


@batched
def krum(gram: Tensor, byzantine: int = 1, selected: int = 1) -> Tensor:
    """Averages the gradients that lie nearest to others, and drops outliers (Krum, Blanchard et al., NeurIPS 2017).

    The score of a gradient is the sum of its distances to its T - byzantine - 2 nearest neighbours; the `selected` ones
    of the lowest score have a weight of 1 / selected each, the others 0. Of the same score the first comes first.
    Distances are not squared, as in TorchJD; the paper squares them. Made for workers of one loss, some of which lie;
    of objectives that differ it drops the ones that are unlike the rest.

    A gradient of zero is one like any other.

    Args:
        gram: [..., T, T] float64, T >= byzantine + 3.
        byzantine: how many of the gradients may be anything at all.
        selected: 1 for Krum, more for the paper's Multi-Krum.

    Raises ValueError: a Gramian of another type or shape, numbers that do not go with its size.
    """
    gram, undefined = finite(gram)
    size = gram.shape[-1]
    if size < 3:
        raise ValueError(f"gram: expected 3 objectives or more for a choice by neighbours, got {size}")
    check_count("byzantine", byzantine, 0, size - 3)
    check_count("selected", selected, 1, size)
    squares = gram.diagonal(dim1=-2, dim2=-1)
    distances = (squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2 * gram).clamp(min=0).sqrt()
    others = distances + torch.diag_embed(torch.full_like(squares, torch.inf))
    scores = others.topk(size - byzantine - 2, largest=False).values.sum(dim=-1)
    best = scores.argsort(dim=-1, stable=True)[..., :selected]
    return torch.zeros_like(squares).scatter(-1, best, 1 / selected) + undefined
