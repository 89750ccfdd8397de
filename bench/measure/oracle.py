"""The right answers, in float64 and computed apart: nothing here goes through gmd_kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.measure.cases import Gradients

CHUNK = 2**20  # elements of each gradient that are held in float64 at a time


def exact_gram(grads: Gradients) -> Tensor:
    """Returns the Gramian [T, T], float64 on the CPU; a gradient that is `None` counts as zero."""
    gram = torch.zeros(len(grads), len(grads), dtype=torch.float64)
    for column in zip(*grads, strict=True):
        reached = torch.tensor([k for k, g in enumerate(column) if g is not None])
        for pieces in zip(*(column[k].flatten().split(CHUNK) for k in reached), strict=True):
            rows = torch.stack(pieces).double()
            gram[reached[:, None], reached] += (rows @ rows.T).cpu()
    return gram


def conflict_rate(gram: Tensor) -> float:
    """Returns the fraction of the pairs of objectives in conflict, which have a negative inner product.

    The published procedure projects only these.
    """
    return float((gram < 0).sum()) / (len(gram) * (len(gram) - 1))


def exact_weights(gram: Tensor, order: Tensor) -> Tensor:
    """Returns the weights [T] float64 with which sum_k weights[k] * g_k is the sum of the projected gradients.

    order: [T, any number] int64, row i = the objectives that gradient i meets, one after the other
    source: PCGrad (Yu et al., NeurIPS 2020), algorithm 1
    """
    total = torch.zeros(len(gram), dtype=torch.float64)
    for i, others in enumerate(order.tolist()):
        coefficients = torch.zeros_like(total)
        coefficients[i] = 1.0
        for j in others:
            coefficients[j] -= min(float(coefficients @ gram[j]), 0.0) / float(gram[j, j])
        total += coefficients
    return total


def rows_for(grads: Gradients, weights: Tensor) -> Tensor:
    """Returns each parameter's weights, [P, T] float64: `weights`, over T where every objective has a gradient."""
    shared = [all(g is not None for g in column) for column in zip(*grads, strict=True)]
    return torch.stack([weights / len(grads) if is_shared else weights for is_shared in shared])


def exact_merge(grads: Gradients, rows: Tensor) -> list[Tensor]:
    """Returns the merged gradients, P tensors in float64: sum_k rows[p, k] * grads[k][p]."""
    columns = zip(*grads, strict=True)
    return [
        sum(weight * g.double() for weight, g in zip(row, column, strict=True) if g is not None)
        for row, column in zip(rows, columns, strict=True)
    ]


def merge_error(merged: Sequence[Tensor | None], exact: Sequence[Tensor]) -> float:
    """Returns the largest |merged - exact| / |exact| of a parameter; infinite where a merged gradient is missing."""
    return max(
        float("inf") if m is None else float((m.double() - e).norm() / e.norm())
        for m, e in zip(merged, exact, strict=True)
    )


def gram_error(gram: Tensor, exact: Tensor) -> float:
    """Returns the largest |G_ij - exact_ij| / (|g_i| |g_j|), as a product near zero has no useful relative error."""
    norms = exact.diagonal().sqrt()
    return float(((gram.cpu().double() - exact).abs() / (norms[:, None] * norms)).max())
