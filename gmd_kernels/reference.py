"""Each op in a few lines of plain PyTorch, on any device and for any floating type: the oracle and the fallback."""

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 2**20  # elements of each gradient that are held in float64 at a time


@torch.no_grad()
def gram(grads: Sequence[Sequence[Tensor | None]], groups: Sequence[int], num_groups: int, device: torch.device):
    """-> [K, T, T] float64; products and sums in float64."""
    grams = torch.zeros(num_groups, len(grads), len(grads), dtype=torch.float64, device=device)
    for group, column in zip(groups, zip(*grads, strict=True), strict=True):
        reached = [k for k, g in enumerate(column) if g is not None]
        if not reached:
            continue
        products = torch.zeros(len(reached), len(reached), dtype=torch.float64, device=device)
        for pieces in zip(*(column[k].reshape(-1).split(CHUNK) for k in reached), strict=True):
            rows = torch.stack([piece.double() for piece in pieces])
            products += rows @ rows.T
        index = torch.tensor(reached, device=device)
        grams[group].index_put_((index[:, None], index[None, :]), products, accumulate=True)
    return grams


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    """-> [T, T] float64. The rows are independent of each other: one step of all of them at a time."""
    rows = torch.arange(len(gram), device=gram.device)
    weights = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    for j in order.unbind(dim=1):
        products = (weights * gram[:, j].T).sum(dim=1)  # <projected gradient i, original gradient j[i]>
        squares = gram[j, j]
        conflict = (products < 0) & (squares > 0)
        weights[rows, j] -= torch.where(conflict, products / squares.where(conflict, 1.0), 0.0)
    return weights


@torch.no_grad()
def combine(grads: Sequence[Sequence[Tensor | None]], weights: Tensor, out: list[Tensor | None]):
    """-> [P]; products and sums in float64."""
    merged = []
    for column, row, target in zip(zip(*grads, strict=True), weights, out, strict=True):
        terms = [w * g.double() for w, g in zip(row, column, strict=True) if g is not None]
        if not terms:
            merged.append(None if target is None else target.zero_())
            continue
        total = sum(terms[1:], start=terms[0])
        like = next(g for g in column if g is not None)
        merged.append((torch.empty_like(like) if target is None else target).copy_(total))
    return merged
