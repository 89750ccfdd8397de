"""Compresses many cotangents of one tensor to a few directions that they are combinations of.

The objectives' gradients at a modality's output are nearly collinear, as they come from the same targets. What a
backward pass makes of them is linear in them, so that passes for the leading directions give all of their gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NOISE = 1e-14  # of the largest eigenvalue: what rounding leaves of a zero


class Directions(NamedTuple):
    """The leading directions of the T objectives' cotangents at M outputs.

    Direction j of output m is sum_k vectors[m, k, j] * cotangent k; and cotangent k is sum_j vectors[m, k, j] *
    direction j, but for what is discarded.

    Attributes:
        counts: [M], how many directions there are, at least 1; columns from there on are to be left alone.
        vectors: [M, T, T] float64 on the CPU.
        discarded: [M] float64 on the CPU, share of the energy (squared norms, summed over the objectives) that is left
            out.
    """

    counts: tuple[int, ...]
    vectors: Tensor
    discarded: Tensor


def leading_directions(grams: Tensor, tol: float) -> Directions:
    """Returns the eigenvectors of the Gramians of the cotangents, as many as leave out at most tol^2 of the energy.

    Args:
        grams: [M, T, T] float64, finite, on the CPU: of each output's cotangents, zeros where there is none.
        tol: relative error in norm, root mean square over the objectives.
    """
    values, vectors = torch.linalg.eigh(grams)
    values, vectors = values.flip(-1).clamp(min=0), vectors.flip(-1)  # largest first
    values = torch.where(values > NOISE * values[:, :1], values, 0.0)
    total = values.sum(dim=-1, keepdim=True)
    left = torch.cat([total, (total - values.cumsum(dim=-1)).clamp(min=0)], dim=-1)  # [M, T + 1], without the first j
    left = left / torch.where(total > 0, total, 1.0)
    counts = (left > max(tol**2, NOISE)).sum(dim=-1).clamp(min=1)
    # exactly none of what is not there
    vectors = torch.where((grams.diagonal(dim1=-2, dim2=-1) > 0).unsqueeze(-1), vectors, 0.0)
    return Directions(tuple(counts.tolist()), vectors, left.gather(-1, counts.unsqueeze(-1)).squeeze(-1))
