"""The weighting whose direction has the same angle to every gradient, and the length that they ask for: ConFIG."""

import torch
from torch import Tensor

from gmd_kernels.quadratic import LARGEST, NOISE, eigh
from gmd_kernels.weightings._gramians import batched, cosines_of, is_not_noise, kernels_for, per_length


@batched
def config(gram: Tensor) -> Tensor:
    """Finds the direction of the same angle to every gradient, as long as they reach along it (ConFIG, ICLR 2025).

    The direction u solves <g_i, u> / |g_i| = const for every i, and is followed for sum_i <g_i, u> (Liu et al.,
    "Conflict-free training of physics informed neural networks", eq. 2). As `imtl_g`'s, with another length. Where
    gradients are linearly dependent it is the same in the sense of least squares over the unit gradients, and an
    objective may get worse; directions in which the unit gradients differ by less than 1e-4 of the most are left out,
    so that no |weights_i g_i| exceeds 1e4 times the sum of the gradients' lengths. Weights may be negative.

    A gradient of zero has the weight zero; all are zero where no direction is better than another.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    if (kernels := kernels_for(gram)) is not None:
        return kernels.config(gram)
    cosines, lengths, undefined = cosines_of(gram)
    wanted = (lengths > 0).to(gram.dtype).unsqueeze(-1)
    values, vectors = eigh(cosines)
    kept = is_not_noise(values) & (values > values.amax(dim=-1, keepdim=True) / LARGEST**2)
    within = torch.where(kept, (vectors.mT @ wanted).squeeze(-1), 0.0)
    shares = (vectors @ (within / torch.where(kept, values, 1.0)).unsqueeze(-1)).squeeze(-1)  # pseudoinverse of cosines
    products = (cosines @ shares.unsqueeze(-1)).squeeze(-1)
    square, reach = (shares * products).sum(dim=-1, keepdim=True), (lengths * products).sum(dim=-1, keepdim=True)
    there = within.square().sum(dim=-1, keepdim=True) > NOISE * wanted.sum(dim=-2)
    return torch.where(there, per_length(shares * (reach / square), lengths), 0.0) + undefined
