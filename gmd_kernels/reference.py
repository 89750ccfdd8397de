"""Each op in a few lines of plain PyTorch, on any device and for any floating type: the oracle and the fallback."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients
from gmd_kernels.reference_norm import group_norm_relu, group_norm_relu_backward
from gmd_kernels.reference_owm import owm_update_
from gmd_kernels.reference_sketch import sketch_

__all__ = [
    "combine",
    "gram",
    "group_norm_relu",
    "group_norm_relu_backward",
    "owm_update_",
    "pcgrad_weights",
    "sketch_",
]

CHUNK = 2**20  # elements of each gradient that are held in float64 at a time


@torch.no_grad()
def gram(gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
    """Returns [K, T, T] float64, symmetric to the bit; products and sums in float64.

    The order of the sums is that of torch's matrix product, which differs from one processor to another.
    """
    t, device = len(gradients.rows), gradients.device
    grams = torch.zeros(num_groups, t, t, dtype=torch.float64, device=device)
    for p, column in enumerate(zip(*gradients.rows, strict=True)):
        reached = [k for k, g in enumerate(column) if g is not None]
        if not reached:
            continue
        products = torch.zeros(len(reached), len(reached), dtype=torch.float64, device=device)
        for pieces in zip(*(column[k].reshape(-1).split(CHUNK) for k in reached), strict=True):
            rows = torch.stack([piece.double() for piece in pieces])
            products += rows @ rows.T
        # a library may add up <g_i, g_j> in another order than <g_j, g_i>: one half serves both
        products = products.triu() + products.triu(1).T
        index = torch.tensor(reached, device=device)
        grams[groups[p] if groups else 0].index_put_((index[:, None], index[None, :]), products, accumulate=True)
    return grams


@torch.no_grad()
def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    """Returns [..., T, T] float64. The rows are independent of each other: one step of all of them at a time."""
    weights = torch.eye(gram.shape[-1], dtype=torch.float64, device=gram.device).expand_as(gram).clone()
    for step in range(order.shape[-1]):
        j = order[..., step, None]  # [..., T, 1], whom each row meets
        met = gram.gather(-2, j.expand_as(gram))  # row i: the Gramian's row j[i]
        products = (weights * met).sum(dim=-1, keepdim=True)  # <projected gradient i, original gradient j[i]>
        squares = met.gather(-1, j)
        conflict = (products < 0) & (squares > 0)
        weights.scatter_add_(-1, j, torch.where(conflict, -products / squares.where(conflict, 1.0), 0.0))
    return weights


@torch.no_grad()
def combine(gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
    """Returns [P]; products and sums in float64."""
    weights = weights.clone()  # a result may lie where they do
    merged = []
    for column, row, target in zip(zip(*gradients.rows, strict=True), weights, out, strict=True):
        terms = [w * g.double() for w, g in zip(row, column, strict=True) if g is not None]
        if not terms:
            merged.append(None if target is None else target.zero_())
            continue
        total = sum(terms[1:], start=terms[0])
        like = next(g for g in column if g is not None)
        merged.append((torch.empty_like(like) if target is None else target).copy_(total))
    return merged
