"""Weightings from the eigenvectors of the Gramian: equal projections, aligned gradients."""

import torch
from torch import Tensor

from gmd_kernels.quadratic import LARGEST, eigh
from gmd_kernels.weightings._gramians import (
    batched,
    cosines_of,
    finite,
    is_not_noise,
    kernels_for,
    per_length,
    preference_of,
)

ROUNDED = 1e-7  # float32 products leave 1e-8 in a cosine (docs/numerics.md), and eigenvalues a few times as much
LARGEST_SUM = 10.0
SCALE_MODES = ("min", "median", "rmse")


@batched
def imtl_g(gram: Tensor) -> Tensor:
    """Finds the combination with the same projection on every gradient's direction (IMTL-G, Liu et al., ICLR 2021).

    (G weights)_i / |g_i| is the same for every i, and the weights sum to one; some may be negative. Where the
    gradients are linearly dependent it is the same in the sense of least squares over the unit gradients (TorchJD: over
    the gradients). A gradient of zero has the weight zero.

    Three things the paper leaves open. Weights that nearly cancel would be without bounds: where their absolute values
    would sum to more than 10, they sum to 10, and the result is at most 10 times as long as the longest gradient. Where
    the projection would be negative, and every objective get worse, the weights have the other sign, and sum to minus
    one. Directions in which the unit gradients differ by rounding alone (eigenvalues of their Gramian below 1e-7), or
    which do not tell them apart from their opposites (eigenvectors whose entries sum to less than 1e-7), do not count;
    if none is left, as for as many gradients one way as the other along a line, all weights are zero.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    if (kernels := kernels_for(gram)) is not None:
        return kernels.imtl_g(gram)
    cosines, lengths, undefined = cosines_of(gram)
    values, vectors = eigh(cosines)
    sums = vectors.sum(dim=-2)
    counts = is_not_noise(values) & (values > ROUNDED) & (sums.abs() > ROUNDED)
    parts = torch.where(counts, sums / values, 0.0)
    shares = (vectors * parts.unsqueeze(-2)).sum(dim=-1)  # pseudoinverse times ones
    shortest = torch.where(lengths > 0, lengths, torch.inf).amin(dim=-1, keepdim=True)
    weights = per_length(shares * shortest, lengths)
    divisor = torch.maximum(weights.sum(dim=-1).abs(), weights.abs().sum(dim=-1) / LARGEST_SUM).unsqueeze(-1)
    return torch.where(divisor > 0, weights / divisor, 0.0) + undefined


@batched
def aligned_mtl(gram: Tensor, preference: Tensor | None = None, scale_mode: str = "min") -> Tensor:
    """Makes the gradients orthogonal and of one length (Aligned-MTL, Senushkin et al., CVPR 2023).

    weights = s V diag(values)^-1/2 V' preference for G = V diag(values) V'; values that are zero but for rounding are
    left out. The length s is a root of a value: of the least, as in the paper, of the (lower) median, or of the mean
    ("rmse", as in the published code and in LibMTL). With the latter two, directions of singular values below 1e-4 of s
    are lengthened 1e4 times only, or rounding in float32 would be what comes out.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.
        scale_mode: "min", "median" or "rmse".

    Raises ValueError: a Gramian of another type or shape, such a preference (on the CPU also a negative one), another
    `scale_mode`.
    """
    if scale_mode not in SCALE_MODES:
        raise ValueError(f"scale_mode: expected 'min', 'median' or 'rmse', got {scale_mode!r}")
    preference = preference_of(preference, gram)
    if (kernels := kernels_for(gram)) is not None:
        return kernels.aligned_mtl(gram, preference, scale_mode)
    gram, undefined = finite(gram)
    values, vectors = eigh(gram)
    kept = is_not_noise(values)
    squares = torch.where(kept, values, torch.nan)
    if scale_mode == "min":
        square = torch.where(kept, values, torch.inf).amin(dim=-1, keepdim=True)
    elif scale_mode == "median":
        square = squares.nanmedian(dim=-1, keepdim=True).values
    else:
        square = squares.nanmean(dim=-1, keepdim=True)
    factors = torch.where(kept, (square / values).sqrt().clamp(max=LARGEST), 0.0)
    within = (vectors * preference.unsqueeze(-1)).sum(dim=-2)
    weights = (vectors * (factors * within).unsqueeze(-2)).sum(dim=-1)
    return torch.where(kept.any(dim=-1, keepdim=True), weights, preference) + undefined
