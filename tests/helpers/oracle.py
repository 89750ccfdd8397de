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
    """[T, N] -> [T, T] float64, symmetric, from sums whose order no library chooses: see `add_up`."""
    gram = torch.zeros(len(jacobian), len(jacobian), dtype=torch.float64)
    for i, row in enumerate(jacobian):
        gram[i, i:] = gram[i:, i] = add_up(row * jacobian[i:])
    return gram


def add_up(terms: Tensor) -> Tensor:
    """[..., n] -> [...], the sums. Overwrites the terms.

    One half is added to the other, element by element, until one element is left. Each term passes through
    `halvings(n)` additions, on every machine; a matrix product passes it through up to n - 1, as its library likes.
    """
    n = terms.shape[-1]
    if n == 0:
        return terms.sum(dim=-1)
    while n > 1:
        half = (n + 1) // 2
        terms[..., : n - half] += terms[..., half:n]
        n = half
    return terms[..., 0]


def halvings(n: int) -> int:
    """How often n has to be halved, rounding up, until one is left."""
    return max(0, n - 1).bit_length()


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
UNIT64 = 2.0**-53  # that of a float64 result
EXACT_OBJECTIVES = 4  # so many gradients of a float32 parameter are multiplied exactly, in float64 (gram_kernel.inl)
LIKELY = 8  # standard deviations: one sum in 10^13 is off by more


def sum_bound(roundings: int, worst: bool = True) -> float:
    """The largest error of a float64 sum each of whose terms passes through so many roundings, relative to sum |x_k|.

    Every rounding multiplies what it rounds by some 1 + d, |d| <= u = 2^-53. A sum, in whichever order and however
    parenthesised, is therefore sum_k x_k (1 + d_1) ... (1 + d_r) with d's of each term's own way up the tree of
    additions. The product of r of them lies within gamma_r = r u / (1 - r u) of 1 (Higham, Accuracy and Stability of
    Numerical Algorithms, lemma 3.1): the error is at most gamma_r sum_k |x_k|.

    A sum of n products has 1 rounding of each product (none, if it is exact or fused with its addition) and at most
    n - 1 additions on the way: r = n is right for every library, number of threads and instruction set.

    Args:
        roundings: r.
        worst: all of them in one direction, whatever the terms. Else the d's of random terms have a mean of zero and
            follow no pattern, so that the error is above lambda sqrt(r) u sum_k |x_k| with a probability of at most
            2 exp(-lambda^2 / 2) (Higham and Mary, SIAM J. Sci. Comput. 41, 2019); lambda = LIKELY.
    """
    likely = roundings if worst else min(roundings, LIKELY * roundings**0.5)
    return likely * UNIT64 / (1 - roundings * UNIT64)


def narrow_bound(num_objectives: int, dtype: torch.dtype, worst: bool = False) -> float:
    """The largest error of <g_i, g_j> that sums in float32 cause, over parameters of one type; relative to |g_i| |g_j|.

    Where products are not exact in float64 they are rounded to float32 (those of 16-bit types are exact there), 32 of
    them (64 of 16-bit types) are added up in float32, and everything beyond in float64.

    Args:
        num_objectives: that reach the parameter.
        dtype: of the parameter.
        worst: all those roundings in one direction, whatever the gradients. Else what random gradients stay below by
            far; gradients of one number throughout do not, every lane of every block errs alike there: up to 1e-6.
    """
    if dtype is torch.float64 or (dtype is torch.float32 and num_objectives <= EXACT_OBJECTIVES):
        return 0.0
    roundings = 33 if dtype is torch.float32 else 64
    return roundings * UNIT if worst else 4e-7


def gram_error(grads, gram: Tensor, groups=None, worst: bool = False, exact: bool = False) -> float:
    """The largest error among the entries of a Gramian, or of K of them with groups, in units of its bound.

    An entry is a float64 sum over all N elements of a group, of products or of short float32 sums of products:
    `sum_bound(N)`, and `narrow_bound` of each parameter beside it. By Cauchy and Schwarz sum_k |x_k y_k| is at most
    |g_i| |g_j| of each parameter. What it is compared with has an error too: the product, `halvings(n)` additions
    within a parameter, and one for each parameter.

    Args:
        grads: T rows of P tensors or None, on the CPU.
        gram: [T, T] or [K, T, T] float64.
        groups: of the P parameters.
        worst: see `sum_bound`.
        exact: sums are float64 whatever the type, as in the reference and in Triton: no `narrow_bound`.
    """
    t = len(grads)
    expected = torch.zeros(gram.shape[:-2].numel(), t, t, dtype=torch.float64)
    narrow, lengths = torch.zeros_like(expected), torch.zeros_like(expected)
    elements, own = [0] * len(expected), [0] * len(expected)
    for p, column in enumerate(zip(*grads, strict=True)):
        present = [g for g in column if g is not None]
        if present:
            jacobian, group = flat([[g] for g in column]), 0 if groups is None else groups[p]
            of_parameter = scale(jacobian)
            expected[group] += gramian(jacobian)
            if not exact:
                narrow[group] += narrow_bound(len(present), present[0].dtype, worst) * of_parameter
            lengths[group] += of_parameter
            elements[group] += present[0].numel()
            own[group] += 2 + halvings(present[0].numel())
    wide = torch.tensor([sum_bound(n, worst) + sum_bound(m) for n, m in zip(elements, own, strict=True)]).double()
    return _largest((gram.reshape(expected.shape) - expected).abs(), narrow + wide[:, None, None] * lengths)


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
