"""What the weightings share: finite Gramians, unit gradients, preferences, and what is only rounding."""

from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

from gmd_kernels import dispatch
from gmd_kernels.checks import check_gram
from gmd_kernels.contract import WeightingKernels
from gmd_kernels.gradients import is_traced
from gmd_kernels.quadratic import LARGEST, NOISE
from gmd_kernels.weightings._options import check_values, per_objective

_P = ParamSpec("_P")


def batched(weighting: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Marks a weighting that takes [..., T, T], many Gramians at once; `surgery` calls any other group by group."""
    weighting.__dict__["batched"] = True
    return weighting


def kernels_for(gram: Tensor) -> WeightingKernels | None:
    """Returns the kernels that do a whole weighting of this Gramian; None where torch has to, as while it traces."""
    check_gram(gram)
    return None if is_traced(gram) else dispatch.choose_for_weighting(gram)


def finite(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the Gramians, zeros for one with a NaN or Inf, and what to add to weights, [..., 1]: 0, or NaN there."""
    check_gram(gram)
    undefined = (gram.detach() * 0).sum(dim=(-2, -1))[..., None]
    return torch.where(undefined[..., None] == 0, gram.detach(), 0.0), undefined


def cosines_of(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns [..., T, T] Gramians of the unit gradients, [..., T] lengths, and what `finite` adds to the weights.

    A gradient of zero counts as orthogonal to all others.
    """
    gram, undefined = finite(gram)
    lengths = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    divisors = torch.where(lengths > 0, lengths, 1.0)
    cosines = gram / divisors.unsqueeze(-1) / divisors.unsqueeze(-2)
    return cosines + torch.diag_embed((lengths == 0).to(gram.dtype)), lengths, undefined


def preference_of(preference: Tensor | None, gram: Tensor) -> Tensor:
    """Returns the preference as [T] float64 on the Gramian's device; 1/T each by default."""
    check_gram(gram)
    if preference is None:
        return torch.full(gram.shape[-1:], 1 / gram.shape[-1], dtype=gram.dtype, device=gram.device)
    given = per_objective("preference", preference, gram)
    check_values("preference", "at least 0", given, given >= 0)
    return given


def is_not_noise(values: Tensor) -> Tensor:
    """Returns which eigenvalues of a Gramian, [..., N], are more than rounding, whose size a negative one tells."""
    least = torch.maximum(NOISE * values.amax(dim=-1, keepdim=True), -10 * values.amin(dim=-1, keepdim=True))
    return (values > least) & (values > 0)


def bounded(weights: Tensor, lengths: Tensor | float, limit: Tensor | float) -> Tensor:
    """Returns weights scaled down, where need be, so that none times its length, [..., T], is above LARGEST * limit.

    What is added up in float32 then is wrong by less than about 1e-3 of the limit, [..., 1], however it cancels.
    """
    largest, limit = (weights.abs() * lengths).amax(dim=-1, keepdim=True), LARGEST * limit
    return weights * torch.where(largest > limit, limit / largest, 1.0)


def per_length(shares: Tensor, lengths: Tensor) -> Tensor:
    """Returns weights of the gradients from those of the unit gradients; zero for a gradient of zero."""
    return torch.where(lengths > 0, shares / lengths, 0.0)
