"""The mathematics of METHODS in float64 and plain loops, for tests: nothing here shares code with the package."""

from collections.abc import Sequence

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
LIBRARIES = ("reference", "triton")  # backends whose Gramians are float64 matrix products
BLOCK = 64  # elements, of float64 in the narrowest vectors (gram_kernel.inl) and in a unit of a warp (products.cuh)
IN_BLOCK = 129  # a product, and at most 128 additions in one lane of such a block
OF_SHARES = 72  # 8 lanes or warps, and 64 slots of threads (slots.h); blocks of a GPU have one such block each


def sum_bound(roundings: int, worst: bool = True) -> float:
    """The largest error of a float64 sum each of whose terms passes through so many roundings, relative to sum |x_k|.

    Every rounding multiplies what it rounds by some 1 + d, |d| <= u = 2^-53. A sum, in whichever order and however
    parenthesised, is therefore sum_k x_k (1 + d_1) ... (1 + d_r), the d's those of the additions that x_k passes
    through. The product of r such factors lies within gamma_r = r u / (1 - r u) of 1 (Higham, Accuracy and Stability
    of Numerical Algorithms, lemma 3.1), so that the error is at most gamma_r sum_k |x_k|.

    Args:
        roundings: r.
        worst: all of them in one direction, whatever the terms. Else the d's of random terms have a mean of zero and
            follow no pattern, so that the error is above lambda sqrt(r) u sum_k |x_k| with a probability of at most
            2 exp(-lambda^2 / 2) (Higham and Mary, SIAM J. Sci. Comput. 41, 2019); lambda = LIKELY.
    """
    likely = roundings if worst else min(roundings, LIKELY * roundings**0.5)
    return likely * UNIT64 / (1 - roundings * UNIT64)


def roundings_of(sizes: Sequence[int], backend: str) -> int:
    """The most roundings that a product passes through in a float64 sum over parameters of these sizes.

    A sum of n products has one rounding of each (none, if the product is exact or fused with its addition) and at most
    n - 1 additions on the way: no library, number of threads or instruction set can have more than n. That is all that
    is known of the reference's matrix product and of Triton's. Our own kernels add up blocks of at least BLOCK
    elements by themselves, in a vector's lanes (C++) or a warp's (CUDA), then one block after another, then lanes,
    warps and shares of threads.
    """
    total = sum(sizes)
    if backend in LIBRARIES:
        return total
    return min(total, IN_BLOCK + sum(n // BLOCK + 2 for n in sizes) + OF_SHARES)


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


def gram_error(grads, gram: Tensor, groups=None, backend: str = "cpu", worst: bool = False) -> float:
    """The largest error among the entries of a Gramian, or of K of them with groups, in units of its bound.

    An entry is a float64 sum over all parameters of a group, of products or of short float32 sums of products: its
    bound is `sum_bound`, and `narrow_bound` of each parameter beside it, times |g_i| |g_j| of each parameter, which
    sum_k |x_k y_k| is not above (Cauchy and Schwarz). What it is compared with has an error too: that of the product,
    `halvings(n)` additions within a parameter, and one for each parameter.

    Args:
        grads: T rows of P tensors or None, on the CPU.
        gram: [T, T] or [K, T, T] float64.
        groups: of the P parameters.
        backend: that made it. The reference and Triton have float64 products and sums whatever the type.
        worst: see `sum_bound` and `narrow_bound`.
    """
    t = len(grads)
    expected = torch.zeros(gram.shape[:-2].numel(), t, t, dtype=torch.float64)
    narrow, lengths = torch.zeros_like(expected), torch.zeros_like(expected)
    sizes: list[list[int]] = [[] for _ in expected]
    for p, column in enumerate(zip(*grads, strict=True)):
        present = [g for g in column if g is not None]
        if present:
            jacobian, group = flat([[g] for g in column]), 0 if groups is None else groups[p]
            of_parameter = scale(jacobian)
            expected[group] += gramian(jacobian)
            lengths[group] += of_parameter
            sizes[group].append(present[0].numel())
            if backend not in LIBRARIES:
                narrow[group] += narrow_bound(len(present), present[0].dtype, worst) * of_parameter
    own = [1 + max(map(halvings, of_group), default=0) + len(of_group) for of_group in sizes]
    wide = [sum_bound(roundings_of(of, backend), worst) + sum_bound(r) for of, r in zip(sizes, own, strict=True)]
    bound = narrow + torch.tensor(wide, dtype=torch.float64)[:, None, None] * lengths
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
