"""Many cotangents of one tensor as combinations of a few directions.

The objectives' gradients at a modality's output are nearly collinear, as they come from the same targets. What a
backward pass makes of them is linear in them, so that passes for the leading directions give all of their gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NOISE = 1e-14  # of the largest eigenvalue: what rounding leaves of a zero


class Directions(NamedTuple):
    """Of M outputs and T objectives; for each output, direction j = sum_k collect[m, k, j] * cotangent k, and
    cotangent k = sum_j spread[m, k, j] * direction j, but for what is discarded.

    Attributes:
        counts: [M], how many directions there are, at least 1; columns from there on are to be left alone.
        collect: [M, T, T] float64 on the CPU.
        spread: [M, T, T] float64 on the CPU.
        discarded: [M] float64 on the CPU, share of the energy (mean over the objectives of the squared relative error)
            that is not kept.
    """

    counts: tuple[int, ...]
    collect: Tensor
    spread: Tensor
    discarded: Tensor


def leading_directions(grams: Tensor, tol: float) -> Directions:
    """The eigenvectors of the Gramians of the cotangents of unit length, as many as leave at most tol^2 of the energy.

    Of unit length, so that an objective counts for as much where its gradient is small: surgery on it depends on its
    direction, not on its length.

    Args:
        grams: [M, T, T] float64, finite, on the CPU: of each output's cotangents, zeros where there is none.
        tol: relative error in norm, root mean square over the objectives.
    """
    lengths = grams.diagonal(dim1=-2, dim2=-1).sqrt()  # [M, T]
    there = lengths > 0
    inverses = torch.where(there, 1 / lengths, 0.0)
    values, vectors = torch.linalg.eigh(grams * inverses.unsqueeze(-1) * inverses.unsqueeze(-2))
    values, vectors = values.flip(-1).clamp(min=0), vectors.flip(-1)  # largest first
    values = torch.where(values > NOISE * values[:, :1], values, 0.0)

    total = values.sum(dim=-1, keepdim=True)
    left = torch.cat([total, (total - values.cumsum(dim=-1)).clamp(min=0)], dim=-1)  # [M, T + 1], without the first j
    left = left / torch.where(total > 0, total, 1.0)
    counts = (left > max(tol**2, NOISE)).sum(dim=-1).clamp(min=1)
    # directions about as long as the cotangents: in 16 bits neither may leave the range of numbers
    typical = (lengths.square().sum(dim=-1) / there.sum(dim=-1).clamp(min=1)).sqrt()[:, None, None]
    typical = torch.where(typical > 0, typical, 1.0)
    collect = vectors * inverses.unsqueeze(-1) * typical
    spread = vectors * lengths.unsqueeze(-1) / typical
    discarded = left.gather(-1, counts.unsqueeze(-1)).squeeze(-1)
    return Directions(tuple(counts.tolist()), collect, spread, discarded)
