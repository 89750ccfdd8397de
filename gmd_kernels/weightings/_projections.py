"""Weightings that meet the gradients pair by pair in a random order: PCGrad and Gradient Vaccine."""

import torch
from torch import Tensor

from gmd_kernels.checks import check_gram
from gmd_kernels.ops import project
from gmd_kernels.order import projection_order
from gmd_kernels.quadratic import NOISE
from gmd_kernels.weightings._gramians import batched, cosines_of, kernels_for


@batched
def pcgrad(gram: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sums the projected gradients, in a random order (PCGrad, Yu et al., NeurIPS 2020).

    Args:
        gram: [T, T] float64, or [K, T, T]: an order of its own for each.
        generator: source of the order; torch's default generator otherwise.

    Raises ValueError: a Gramian of another type or shape.
    """
    check_gram(gram)
    num_groups = None if gram.ndim == 2 else len(gram)
    order = projection_order(gram.shape[-1], generator, gram.device, num_groups)
    return project(gram, order).sum(dim=-2)


@batched
def gradvac(gram: Tensor, cosines: Tensor, beta: float = 0.01, generator: torch.Generator | None = None) -> Tensor:
    """Sums the gradients, each turned to its usual cosines with others (Gradient Vaccine, Wang et al., ICLR 2021).

    Gradient i meets the others in a random order. Where the cosine of what is left of it and g_j is below the moving
    average of that cosine, as much of g_j is added as makes it equal. PCGrad is the case of an average of zero.

    Args:
        gram: [..., T, T] float64.
        cosines: [..., T, T] float64, the moving averages, zeros at first. The caller keeps them; each call updates them
            in place, cosines += beta (cosine met - cosines), but for gradients that are zero or not finite.
            `functools.partial(gradvac, cosines=cosines)` is a weighting.
        beta: 0 < beta <= 1.
        generator: source of the order; torch's default generator otherwise.

    Raises ValueError: a Gramian of another type or shape, averages that are not alike, another `beta`.
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta: expected above 0 and at most 1, got {beta}")
    kernels = kernels_for(gram)
    _check_averages(cosines, gram)
    size = gram.shape[-1]
    order = projection_order(size, generator, gram.device, gram.shape[:-2].numel()).reshape(*gram.shape[:-1], size - 1)
    if kernels is not None:
        return kernels.gradvac(gram, cosines, order, beta)
    units, lengths, undefined = cosines_of(gram)
    there = (lengths > 0) & (undefined == 0)
    both = there.unsqueeze(-1) & there.unsqueeze(-2).expand(gram.shape).gather(-1, order)
    turned, met = _turned(units, order, both, cosines.gather(-1, order))
    cosines.lerp_(cosines.scatter(-1, order, met), beta)
    return torch.where(lengths > 0, (turned * lengths.unsqueeze(-1)).sum(dim=-2) / lengths, 1.0) + undefined


def _turned(units: Tensor, order: Tensor, both: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what the gradients become, as `gradvac` says, and the cosines that they met, those of `targets` else.

    Args:
        units: [..., T, T], the Gramian of the unit gradients.
        order: [..., T, T - 1] int64, whom each gradient meets.
        both: the same shape, bool: whether the two of them have a direction.
        targets: the same shape, the cosine that is usual with each.

    Returns [..., T, T], row i the combination of unit gradients that gradient i has become in units of |g_i|, and
    [..., T, T - 1].
    """
    size = units.shape[-1]
    slopes = targets / (1 - targets * targets).clamp(min=0).sqrt().clamp(min=1e-8)
    rows = units.unsqueeze(-3).expand(*units.shape, size).gather(-2, order.unsqueeze(-1).expand(*order.shape, size))
    turned = torch.eye(size, dtype=units.dtype, device=units.device).expand_as(units).clone()
    products, met, one = units, [targets[..., :0]], torch.ones_like(units[..., :1])
    steps = (part.unsqueeze(-1).unbind(dim=-2) for part in (order, both, targets, slopes))
    for j, pair, target, slope, row in zip(*steps, rows.unbind(dim=-2), strict=True):
        square = torch.linalg.vecdot(turned, products).unsqueeze(-1)
        length = square.clamp(min=NOISE).sqrt()
        # a gradient of which only rounding is left has no direction
        cosine = torch.where((square > NOISE) & pair, (products.gather(-1, j) / length).clamp(-1, 1), target)
        # as much of a unit vector as makes the cosine of the sum with it the target
        sine = torch.addcmul(one, cosine, cosine, value=-1).sqrt()
        added = length * (slope * sine - cosine) * (cosine < target)
        turned = turned.scatter_add(-1, j, added)
        products = torch.addcmul(products, added, row)
        met.append(cosine)
    return turned, torch.cat(met, dim=-1)


def _check_averages(cosines: Tensor, gram: Tensor) -> None:
    if cosines.shape != gram.shape or cosines.dtype != torch.float64 or cosines.device != gram.device:
        expected = f"float64 {list(gram.shape)} on {gram.device}"
        raise ValueError(f"cosines: expected {expected}, got {cosines.dtype} {list(cosines.shape)} on {cosines.device}")


def check_reduction(reduction: str) -> None:
    """Raises a ValueError for a way of merging shared parameters' gradients that GMD does not have."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
