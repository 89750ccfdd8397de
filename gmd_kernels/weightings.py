"""Weightings: functions from a Gramian [T, T] to weights [T], all float64 on the Gramian's device.

Any callable of that kind is a weighting for `surgery`.

Those here also take [..., T, T], many Gramians at once, for [..., T]. Nothing in them waits for the device. The
weights of a Gramian that is not finite are NaN, but for those of `mean`, `sum` and `pcgrad`.
"""

import math
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

from gmd_kernels.checks import check_gram
from gmd_kernels.gradients import is_traced
from gmd_kernels.ops import project
from gmd_kernels.order import projection_order
from gmd_kernels.quadratic import NOISE, complementarity, eigh, maximin_in_ball

_P = ParamSpec("_P")


def batched(weighting: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Marks a weighting that takes [..., T, T], many Gramians at once; `surgery` calls any other group by group."""
    weighting.__dict__["batched"] = True
    return weighting


@batched
def mean(gram: Tensor) -> Tensor:
    """Weighs every objective by 1/T, for the gradient of the mean loss.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    check_gram(gram)
    return torch.full_like(gram[..., 0], 1 / gram.shape[-1])


@batched
def sum(gram: Tensor) -> Tensor:
    """Weighs every objective by 1, for the gradient of the sum of the losses.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    check_gram(gram)
    return torch.ones_like(gram[..., 0])


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
def mgda(gram: Tensor) -> Tensor:
    """Weighs the gradients for their shortest convex combination (MGDA, Désidéri, C. R. Math., 2012).

    w minimises w' G w over the simplex, then (G w)_i >= w' G w for every i: no objective gets worse, and where the
    common gradient is zero none can get better without another getting worse. A gradient of zero takes no part, or
    it would have all the weight.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    cosines, lengths, undefined = _cosines(gram)
    shortest = torch.where(lengths > 0, lengths, torch.inf).amin(dim=-1, keepdim=True)
    relative = torch.where(lengths > 0, shortest / lengths, 0.0)  # w = relative * z keeps z of order one
    relative = torch.where(shortest.isinf(), 1.0, relative)
    weights = relative * complementarity(cosines, torch.zeros_like(lengths), normal=relative)
    return weights / weights.sum(dim=-1, keepdim=True) + undefined


@batched
def cagrad(gram: Tensor, c: float = 0.4) -> Tensor:
    """Seeks the direction near the mean gradient that is best for the worst-off (CAGrad, Liu et al., NeurIPS 2021).

    d = J' weights maximises min_i <g_i, d> under |d - g_0| <= c |g_0|, g_0 being the mean of the gradients. The paper's
    formula, weights = 1/T + c |g_0| w / |J' w| for a w in the simplex, is undefined where J' w = 0 (a Pareto-stationary
    point); the problem has a solution there too, and that is what comes. A gradient of zero counts
    in the mean but is none of the worst off, or nothing could be done for the others.

    Args:
        gram: [..., T, T] float64.
        c: >= 0; 0 gives the mean gradient, the larger the nearer to the direction of MGDA.

    Raises ValueError: a Gramian of another type or shape, a `c` that is negative or not finite.
    """
    if not 0 <= c < math.inf:
        raise ValueError(f"c: expected a finite number of at least 0, got {c}")
    gram, undefined = _finite(gram)
    scale = gram.diagonal(dim1=-2, dim2=-1).amax(dim=-1)[..., None, None]
    gram = gram / torch.where(scale > 0, scale, 1.0)
    to_mean = gram.mean(dim=-1)
    length = to_mean.mean(dim=-1, keepdim=True).clamp(min=0).sqrt()
    if c == 0:
        return torch.full_like(to_mean, 1 / gram.shape[-1]) + undefined
    toward = maximin_in_ball(gram, (to_mean / torch.where(length > 0, length, 1.0)).clamp(-1, 1), c)
    return 1 / gram.shape[-1] + length * toward + undefined


@batched
def nash_mtl(gram: Tensor) -> Tensor:
    """Finds the Nash bargaining solution, to which all objectives contribute alike (Nash-MTL, Navon et al., ICML 2022).

    The weights solve weights_i (G weights)_i = 1: weights > 0, every objective gets better, and |J' weights|^2 = T
    whatever the lengths of the gradients, the learning rate has to be chosen for that. There is no solution at a
    Pareto-stationary point: the weights then are large, and their combination is about zero. A gradient of zero takes
    no part and has the weight zero.

    Args:
        gram: [..., T, T] float64.

    Raises ValueError: a Gramian of another type or shape.
    """
    cosines, lengths, undefined = _cosines(gram)
    shares = complementarity(cosines, torch.zeros_like(lengths), product=1.0, steps=32)
    return _per_length(shares, lengths) + undefined


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
    cosines, lengths, undefined = _cosines(gram)
    values, vectors = eigh(cosines)
    inverses = torch.where(_is_not_noise(values), 1 / values, 0.0)
    shares = (vectors * (inverses * vectors.sum(dim=-2)).unsqueeze(-2)).sum(dim=-1)  # pseudoinverse times ones
    shortest = torch.where(lengths > 0, lengths, torch.inf).amin(dim=-1, keepdim=True)
    weights = _per_length(shares * shortest, lengths)
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
    preference = _preference(preference, gram)
    gram, undefined = _finite(gram)
    values, vectors = eigh(gram)
    kept = _is_not_noise(values)
    least = torch.where(kept, values, torch.inf).amin(dim=-1, keepdim=True)
    factors = torch.where(kept, (least / values).sqrt(), 0.0)
    within = (vectors * preference.unsqueeze(-1)).sum(dim=-2)
    weights = (vectors * (factors * within).unsqueeze(-2)).sum(dim=-1)
    return torch.where(kept.any(dim=-1, keepdim=True), weights, preference) + undefined


@batched
def upgrad(gram: Tensor, preference: Tensor | None = None) -> Tensor:
    """Averages the gradients, each projected to where no objective gets worse (UPGrad, Quinton and Rey, 2024).

    weights = sum_i preference_i v_i, v_i minimising v' G v under v >= e_i: J' v_i is the vector nearest to g_i with
    <g_j, .> >= 0 for every j. Thus G weights >= 0, and weights = preference where no two gradients conflict.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.

    Raises ValueError: a Gramian of another type or shape, or such a preference; on the CPU also a negative one.
    """
    preference = _preference(preference, gram)
    cosines, lengths, undefined = _cosines(gram)
    shares = complementarity(cosines.unsqueeze(-3), cosines)  # row i is added to gradient i, in units of its length
    added = ((preference * lengths).unsqueeze(-1) * shares).sum(dim=-2)
    return preference + _per_length(added, lengths) + undefined


@batched
def dualproj(gram: Tensor, preference: Tensor | None = None) -> Tensor:
    """Projects the mean gradient to where no objective gets worse (Lopez-Paz and Ranzato, NeurIPS 2017).

    weights minimise v' G v under v >= preference: J' weights is the vector nearest to J' preference with
    <g_j, .> >= 0 for every j. Thus G weights >= 0. The problem is that of gradient episodic memory.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.

    Raises ValueError: a Gramian of another type or shape, or such a preference; on the CPU also a negative one.
    """
    preference = _preference(preference, gram)
    cosines, lengths, undefined = _cosines(gram)
    parts = preference * lengths
    longest = parts.amax(dim=-1, keepdim=True)
    offset = (cosines * (parts / torch.where(longest > 0, longest, 1.0)).unsqueeze(-2)).sum(dim=-1)
    return preference + _per_length(longest * complementarity(cosines, offset), lengths) + undefined


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
    units, lengths, undefined = _cosines(gram)
    _check_averages(cosines, gram)
    size = gram.shape[-1]
    order = projection_order(size, generator, gram.device, gram.shape[:-2].numel()).reshape(*gram.shape[:-1], size - 1)
    there, met = (lengths > 0) & (undefined == 0), cosines.clone()
    # row i: what gradient i has become, in units of |g_i|, as a combination of unit gradients; products with those
    turned = torch.eye(size, dtype=gram.dtype, device=gram.device).expand_as(gram).clone()
    products = units
    for j in order.unbind(dim=-1):
        j = j.unsqueeze(-1)
        target = cosines.gather(-1, j)
        square = (turned * products).sum(dim=-1, keepdim=True)
        # a gradient of which only rounding is left has no direction
        both = (square > NOISE) & there.unsqueeze(-1) & there.gather(-1, j.squeeze(-1)).unsqueeze(-1)
        length = square.clamp(min=NOISE).sqrt()
        cosine = (products.gather(-1, j) / length).clamp(-1, 1)
        added = torch.where(both & (cosine < target), _amount(length, cosine, target), 0.0)
        turned = turned.scatter_add(-1, j, added)
        products = products + added * units.take_along_dim(j, dim=-2)
        met = met.scatter(-1, j, torch.where(both, cosine, target))
    cosines.lerp_(met, beta)
    return torch.where(lengths > 0, (turned * lengths.unsqueeze(-1)).sum(dim=-2) / lengths, 1.0) + undefined


def _check_averages(cosines: Tensor, gram: Tensor) -> None:
    if cosines.shape != gram.shape or cosines.dtype != torch.float64 or cosines.device != gram.device:
        expected = f"float64 {list(gram.shape)} on {gram.device}"
        raise ValueError(f"cosines: expected {expected}, got {cosines.dtype} {list(cosines.shape)} on {cosines.device}")


def _amount(length: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
    """Returns how much of a unit vector to add to a vector of this length so that their cosine becomes the target."""
    sine, target_sine = (1 - cosine * cosine).sqrt(), (1 - target * target).clamp(min=0).sqrt()
    return length * (target * sine - cosine * target_sine) / target_sine.clamp(min=1e-8)


def check_reduction(reduction: str) -> None:
    """Raises a ValueError for a way of merging shared parameters' gradients that GMD does not have."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")


def _preference(preference: Tensor | None, gram: Tensor) -> Tensor:
    """Returns the preference as [T] float64 on the Gramian's device; 1/T each by default."""
    check_gram(gram)
    size = gram.shape[-1]
    if preference is None:
        return torch.full((size,), 1 / size, dtype=gram.dtype, device=gram.device)
    if preference.shape != (size,) or not preference.is_floating_point() or preference.device != gram.device:
        came = f"{preference.dtype} {list(preference.shape)} on {preference.device}"
        raise ValueError(f"preference: expected floating [T] = [{size}] on {gram.device}, got {came}")
    readable = preference.device.type == "cpu" and not is_traced(preference)  # elsewhere this would wait
    if readable and not (preference >= 0).all():
        raise ValueError(f"preference: expected at least 0, got {preference.tolist()}")
    return preference.detach().double()


def _finite(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the Gramians, zeros for one with a NaN or Inf, and what to add to weights, [..., 1]: 0, or NaN there."""
    check_gram(gram)
    undefined = (gram.detach() * 0).sum(dim=(-2, -1))[..., None]
    return torch.where(undefined[..., None] == 0, gram.detach(), 0.0), undefined


def _cosines(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns [..., T, T] Gramians of the unit gradients, [..., T] lengths, and what `_finite` adds to the weights.

    A gradient of zero counts as orthogonal to all others.
    """
    gram, undefined = _finite(gram)
    lengths = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    divisors = torch.where(lengths > 0, lengths, 1.0)
    cosines = gram / divisors.unsqueeze(-1) / divisors.unsqueeze(-2)
    return cosines + torch.diag_embed((lengths == 0).to(gram.dtype)), lengths, undefined


def _is_not_noise(values: Tensor) -> Tensor:
    """Returns which eigenvalues of a Gramian, [..., N], are more than rounding, whose size a negative one tells."""
    least = torch.maximum(NOISE * values.amax(dim=-1, keepdim=True), -10 * values.amin(dim=-1, keepdim=True))
    return (values > least) & (values > 0)


def _per_length(shares: Tensor, lengths: Tensor) -> Tensor:
    """Returns weights of the gradients from those of the unit gradients; zero for a gradient of zero."""
    return torch.where(lengths > 0, shares / lengths, 0.0)
