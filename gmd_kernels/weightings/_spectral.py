"""Weightings from the eigenvectors of the Gramian: equal projections, aligned gradients."""

import torch
from torch import Tensor

from gmd_kernels.quadratic import NOISE, eigh
from gmd_kernels.weightings._gramians import batched, cosines_of, finite, is_not_noise, per_length, preference_of


@batched
def imtl_g(gram: Tensor) -> Tensor:
    """Finds the combination with the same projection on every gradient's direction (IMTL-G, Liu et al., ICLR 2021).

    (G weights)_i / |g_i| is the same for every i, and the weights sum to one; some may be negative. Where the
    gradients are linearly dependent it is the same in the sense of least squares over the unit gradients (TorchJD: over
    the gradients). A gradient of zero has the weight zero; all are zero where they would sum to zero.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    cosines, lengths, undefined = cosines_of(gram)
    values, vectors = eigh(cosines)
    inverses = torch.where(is_not_noise(values), 1 / values, 0.0)
    shares = (vectors * (inverses * vectors.sum(dim=-2)).unsqueeze(-2)).sum(dim=-1)  # pseudoinverse times ones
    shortest = torch.where(lengths > 0, lengths, torch.inf).amin(dim=-1, keepdim=True)
    weights = per_length(shares * shortest, lengths)
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(total.abs() > NOISE * weights.abs().sum(dim=-1, keepdim=True), weights / total, 0.0) + undefined


@batched
def aligned_mtl(gram: Tensor, preference: Tensor | None = None) -> Tensor:
    """Makes the gradients orthogonal and of one length, their least singular value (Senushkin et al., CVPR 2023).

    weights = s V diag(values)^-1/2 V' preference for G = V diag(values) V', s the root of the least value; values that
    are zero but for rounding are left out.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.

    Raises ValueError: a Gramian of another type or shape, or such a preference; on the CPU also a negative one.
    """
    preference = preference_of(preference, gram)
    gram, undefined = finite(gram)
    values, vectors = eigh(gram)
    kept = is_not_noise(values)
    least = torch.where(kept, values, torch.inf).amin(dim=-1, keepdim=True)
    factors = torch.where(kept, (least / values).sqrt(), 0.0)
    within = (vectors * preference.unsqueeze(-1)).sum(dim=-2)
    weights = (vectors * (factors * within).unsqueeze(-2)).sum(dim=-1)
    return torch.where(kept.any(dim=-1, keepdim=True), weights, preference) + undefined
