"""The mathematics of METHODS in float64 and plain loops, for tests: nothing here shares code with the package."""

import torch
from torch import Tensor


def flat(grads) -> Tensor:
    """[T, N] float64; None counts as zero; a parameter that nobody reaches has no columns."""
    rows = [[] for _ in grads]
    for column in zip(*grads, strict=True):
        like = next((g for g in column if g is not None), None)
        if like is None:
            continue
        for row, g in zip(rows, column, strict=True):
            row.append((torch.zeros_like(like) if g is None else g).double().reshape(-1))
    return torch.stack([torch.cat(row) if row else torch.zeros(0, dtype=torch.float64) for row in rows])


def project(jacobian: Tensor, order: Tensor) -> Tensor:
    """PCGrad as the paper writes it, vector by vector: [T, N] -> the projected gradients [T, N]."""
    rows = jacobian.numpy()
    projected = rows.copy()
    for i in range(len(rows)):
        for j in order[i].tolist():
            product = (projected[i] * rows[j]).sum()
            square = (rows[j] * rows[j]).sum()
            if product < 0 and square > 0:
                projected[i] -= product / square * rows[j]
    return torch.from_numpy(projected)


def merge(grads, projected: Tensor, reduction: str) -> list[Tensor | None]:
    """The merged gradient of each parameter, float64: mean (or sum) where shared, sum where private."""
    merged, begin = [], 0
    for column in zip(*grads, strict=True):
        like = next((g for g in column if g is not None), None)
        if like is None:
            merged.append(None)
            continue
        total = projected[:, begin : begin + like.numel()].sum(dim=0).reshape(like.shape)
        shared = all(g is not None for g in column)
        merged.append(total / len(column) if shared and reduction == "mean" else total)
        begin += like.numel()
    return merged


def scale(jacobian: Tensor) -> Tensor:
    """[T, T]: |g_i| |g_j|, what the rounding errors of the Gramian's entries are measured against."""
    norms = jacobian.norm(dim=1)
    return norms[:, None] * norms[None, :]
