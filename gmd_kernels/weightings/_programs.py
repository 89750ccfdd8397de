"""Weightings that solve a quadratic program in the Gramian: no objective gets worse, or the worst-off gets most."""

import math

import torch
from torch import Tensor

from gmd_kernels.quadratic import complementarity, maximin_in_ball
from gmd_kernels.weightings._gramians import batched, bounded, cosines_of, kernels_for, per_length, preference_of


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
    if (kernels := kernels_for(gram)) is not None:
        return kernels.mgda(gram)
    cosines, lengths, undefined = cosines_of(gram)
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
    point), and near it the weights are large and cancel. So |J' w| is sqrt(|J' w|^2 + 1e-8 sum_k w_k^2 |g_k|^2)
    here, which keeps |weights_k - 1/T| |g_k| below 1e4 c |g_0|. What the worst-off gains may be less than the best by
    1e-4 c |g_0| max_k |g_k|, where gradients are linearly dependent, and by the square of the 1e-4 where they are far
    from that; so with c >= 1 no objective gets worse by more. A gradient of zero counts in the mean but is none of the
    worst off, or nothing could be done for the others.

    Args:
        gram: [..., T, T] float64.
        c: >= 0; 0 gives the mean gradient, the larger the nearer to the direction of MGDA.

    Raises ValueError: a Gramian of another type or shape, a `c` that is negative or not finite.
    """
    if not 0 <= c < math.inf:
        raise ValueError(f"c: expected a finite number of at least 0, got {c}")
    if (kernels := kernels_for(gram)) is not None:
        return kernels.cagrad(gram, c)
    cosines, lengths, undefined = cosines_of(gram)
    if c == 0:
        return torch.full_like(lengths, 1 / gram.shape[-1]) + undefined
    longest, there = lengths.amax(dim=-1, keepdim=True), lengths > 0
    to_mean = (cosines * (lengths / torch.where(longest > 0, longest, 1.0)).unsqueeze(-2)).mean(dim=-1)
    square = (lengths / torch.where(longest > 0, longest, 1.0) * to_mean).mean(dim=-1, keepdim=True)
    length = square.clamp(min=0).sqrt()  # of the mean, in units of the longest
    offset = torch.where(there, (to_mean / torch.where(length > 0, length, 1.0)).clamp(-1, 1), 2 + c)
    shortest = torch.where(there, lengths, torch.inf).amin(dim=-1, keepdim=True)
    toward = maximin_in_ball(cosines, offset, per_length(shortest, lengths), c)
    return 1 / gram.shape[-1] + per_length(length * longest * toward, lengths) + undefined


@batched
def nash_mtl(gram: Tensor, max_norm: float | None = None) -> Tensor:
    """Finds the Nash bargaining solution, to which all objectives contribute alike (Nash-MTL, Navon et al., ICML 2022).

    The weights solve weights_i (G weights)_i = 1: weights > 0, every objective gets better, and |J' weights|^2 = T
    whatever the lengths of the gradients, the learning rate has to be chosen for that. There is no solution at a
    Pareto-stationary point, and towards one the weights grow without end while they cancel. Where one would be larger
    than 1e4 / |g_i|, all are scaled down until none is: the result then is the shorter the nearer the point is, and
    about zero there. A gradient of zero takes no part and has the weight zero.

    Args:
        gram: [..., T, T] float64.
        max_norm: > 0: where the result J' weights would be longer, the weights are scaled so that it has this length
            (as in the published code, where it is 1).

    Raises ValueError: a Gramian of another type or shape, a `max_norm` that is not above 0 or not
        finite.
    """
    if max_norm is not None and not 0 < max_norm < math.inf:
        raise ValueError(f"max_norm: expected a finite number above 0, got {max_norm}")
    if (kernels := kernels_for(gram)) is not None:
        return kernels.nash_mtl(gram, max_norm)
    cosines, lengths, undefined = cosines_of(gram)
    shares = complementarity(cosines, torch.zeros_like(lengths), product=1.0)
    shares = torch.where(lengths > 0, shares, 0.0)
    shares = bounded(shares, 1.0, 1.0)
    if max_norm is not None:
        square = (shares.unsqueeze(-2) @ cosines @ shares.unsqueeze(-1)).squeeze(-1)
        shares = shares * (max_norm / square.clamp(min=max_norm**2).sqrt())
    return per_length(shares, lengths) + undefined


@batched
def upgrad(gram: Tensor, preference: Tensor | None = None) -> Tensor:
    """Averages the gradients, each projected to where no objective gets worse (UPGrad, Quinton and Rey, 2024).

    weights = sum_i preference_i v_i, v_i minimising v' G v under v >= e_i: J' v_i is the vector nearest to g_i with
    <g_j, .> >= 0 for every j. Thus G weights >= 0, and weights = preference where no two gradients conflict. Where some
    conflict and are nearly dependent, weights may be large and cancel: where one times its |g_k| would be above 1e4
    sum_i preference_i |g_i|, all are scaled down until none is.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.

    Raises ValueError: a Gramian of another type or shape, or such a preference; on the CPU also a negative one.
    """
    preference = preference_of(preference, gram)
    if (kernels := kernels_for(gram)) is not None:
        return kernels.upgrad(gram, preference)
    cosines, lengths, undefined = cosines_of(gram)
    shares = complementarity(cosines.unsqueeze(-3), cosines)  # row i is added to gradient i, in units of its length
    parts = preference * lengths
    added = (parts.unsqueeze(-1) * shares).sum(dim=-2)
    return bounded(preference + per_length(added, lengths), lengths, parts.sum(dim=-1, keepdim=True)) + undefined


@batched
def dualproj(gram: Tensor, preference: Tensor | None = None) -> Tensor:
    """Projects the mean gradient to where no objective gets worse (Lopez-Paz and Ranzato, NeurIPS 2017).

    weights minimise v' G v under v >= preference: J' weights is the vector nearest to J' preference with
    <g_j, .> >= 0 for every j. Thus G weights >= 0. The problem is that of gradient episodic memory. Large weights are
    bounded as those of `upgrad`.

    Args:
        gram: [..., T, T] float64.
        preference: [T], not negative; 1/T for each objective otherwise.

    Raises ValueError: a Gramian of another type or shape, or such a preference; on the CPU also a negative one.
    """
    preference = preference_of(preference, gram)
    if (kernels := kernels_for(gram)) is not None:
        return kernels.dualproj(gram, preference)
    cosines, lengths, undefined = cosines_of(gram)
    parts = preference * lengths
    longest = parts.amax(dim=-1, keepdim=True)
    offset = (cosines * (parts / torch.where(longest > 0, longest, 1.0)).unsqueeze(-2)).sum(dim=-1)
    weights = preference + per_length(longest * complementarity(cosines, offset), lengths)
    return bounded(weights, lengths, parts.sum(dim=-1, keepdim=True)) + undefined
