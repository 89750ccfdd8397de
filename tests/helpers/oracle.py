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


def gramian(jacobian: Tensor) -> Tensor:
    """[T, N] -> [T, T]. Piece by piece: a float64 sum of 10^5 terms in a row is off by more than 1e-14."""
    pieces = [piece @ piece.T for piece in jacobian.split(1000, dim=1)]
    return torch.stack(pieces).sum(dim=0)


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


# How far the kernels may be off. The C++ ones round more than the reference, so the bounds are theirs.

UNIT = 2.0**-24  # the relative rounding of a float32 result
EXACT_OBJECTIVES = 4  # so many gradients of a float32 parameter are multiplied exactly, in float64 (gram_kernel.inl)


def gram_bound(num_objectives: int, dtype: torch.dtype, worst: bool = False) -> float:
    """The largest error of <g_i, g_j> over parameters of one type, relative to |g_i| |g_j|.

    Where products are not exact in float64 they are rounded to float32 (those of 16-bit types are exact there), 32 of
    them (64 of 16-bit types) are added up in float32, and everything beyond in float64.

    Args:
        num_objectives: that reach the parameter.
        dtype: of the parameter.
        worst: all those roundings in one direction, whatever the gradients. Else what random gradients stay below by
            far; gradients of one number throughout do not, every lane of every block errs alike there: up to 1e-6.
    """
    if dtype is torch.float64 or (dtype is torch.float32 and num_objectives <= EXACT_OBJECTIVES):
        return 1e-12 if worst else 1e-14
    roundings = 33 if dtype is torch.float32 else 64
    return roundings * UNIT if worst else 4e-7


def gram_error(grads, gram: Tensor, groups=None, worst: bool = False) -> float:
    """The largest error among the entries of a Gramian, or of K of them with groups, in units of its bound."""
    t = len(grads)
    expected = torch.zeros(gram.shape[:-2].numel(), t, t, dtype=torch.float64)
    bound = torch.zeros_like(expected)
    for p, column in enumerate(zip(*grads, strict=True)):
        present = [g for g in column if g is not None]
        if present:
            jacobian, group = flat([[g] for g in column]), 0 if groups is None else groups[p]
            expected[group] += gramian(jacobian)
            bound[group] += gram_bound(len(present), present[0].dtype, worst) * scale(jacobian)
    return _largest((gram.reshape(expected.shape) - expected).abs(), bound)


def combined(grads, weights: Tensor) -> list[tuple[Tensor, Tensor] | None]:
    """sum_k w_k g_k and sum_k |w_k g_k| of each parameter, float64; weights [T] or [P, T]."""
    results = []
    columns = list(zip(*grads, strict=True))
    for column, row in zip(columns, weights.detach().double().expand(len(columns), -1), strict=True):
        terms = [w * g.double() for w, g in zip(row, column, strict=True) if g is not None]
        results.append((sum(terms), sum(term.abs() for term in terms)) if terms else None)
    return results


def combine_error(grads, weights: Tensor, merged) -> float:
    """The largest error among the elements of `combine`, in units of its bound: T + 1 roundings in float32 (float64 for
    that type) relative to sum_k |w_k g_k|, and the one to the type of the result."""
    largest = 0.0
    for result, expected in zip(merged, combined(grads, weights), strict=True):
        assert (result is None) == (expected is None)
        if result is None:
            continue
        value, magnitude = expected
        assert result.shape == value.shape
        double = result.dtype is torch.float64
        info, unit, least = torch.finfo(result.dtype), 2.0**-52 if double else UNIT, 0.0 if double else 2.0**-150
        bound = len(grads) * least + (len(grads) + 1) * unit * magnitude
        bound += info.eps / 2 * (value.abs() + bound) + info.smallest_normal * info.eps / 2
        error = (result.double() - value).abs()
        overflow = (result == value.sign() * torch.inf) & (value.abs() + bound > info.max)
        largest = max(largest, _largest(torch.where(overflow, 0.0, error), bound))
    return largest


def _largest(error: Tensor, bound: Tensor) -> float:
    """NaN if there is one."""
    ratio = torch.where(error == 0, 0.0, error / bound)
    return float(ratio.amax()) if ratio.numel() else 0.0
