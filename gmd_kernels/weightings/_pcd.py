"""The weighting of one objective that comes first, where the others keep a share of progress: PCD."""

import torch
from torch import Tensor

from gmd_kernels.quadratic import LARGEST, complementarity, ridge
from gmd_kernels.weightings._gramians import batched, cosines_of, kernels_for, per_length
from gmd_kernels.weightings._options import check_count, check_number, check_state, check_values, per_objective

_DECAY, _EPSILON = 0.999, 1e-8  # of the moving averages, as published


@batched
def pcd(gram: Tensor, primary: int = 0, tau: float | Tensor = 0.02, state: Tensor | None = None) -> Tensor:
    """Follows the primary objective, the others keep a share of progress (priority-constrained descent, TMLR 2026).

    Let h_i = s_i g_i, s_i = 1 / sqrt(v_i + 1e-8), v_i the moving average of |g_i|^2 (decay 0.999, its bias corrected).
    J' weights is the d nearest to h_primary with <h_j, d> >= tau |h_j|^2 for every other j, scaled to |g_primary|
    afterwards. So each of the others gets better, by at least the share tau of what a step along its own h_j would
    bring; the primary one gets worse where that leaves no other way. From "Not all objectives are born equal",
    https://arxiv.org/abs/2606.29521.

    Where no d meets every condition, the primary gradient is taken as it is: weights of 1 and 0. All weights are 0
    where the primary gradient is zero, or d is. Another gradient of zero has the weight 0 and sets no condition.

    Args:
        gram: [..., T, T] float64.
        primary: the position of the primary objective, 0 to T - 1.
        tau: from 0 to 1, or [T] of such; the primary objective's own does not matter.
        state: [..., 2, T] float64, zeros at first: the averages before the correction, and how many steps each has
            seen. The caller keeps it; each call updates it in place, but for a Gramian that is not finite. Without
            it v_i is |g_i|^2.

    Raises ValueError: a Gramian of another type or shape, such a position, `tau` out of its range (in a tensor only on
        the CPU), a state that does not go with the Gramian.
    """
    kernels, share = kernels_for(gram), _share_of(tau, gram)
    check_count("primary", primary, 0, gram.shape[-1] - 1)
    if state is not None:
        check_state("state", state, (*gram.shape[:-2], 2, gram.shape[-1]), gram)
    if kernels is not None:
        return kernels.pcd(gram, primary, share, state)
    cosines, lengths, undefined = cosines_of(gram)
    squares = lengths.square()
    averages = squares if state is None else _averaged(state, squares, undefined)
    first = torch.arange(gram.shape[-1], device=gram.device) == primary
    parts = _nearest(cosines, lengths / (averages + _EPSILON).sqrt(), share, first)
    weights = per_length(parts * lengths[..., primary, None], lengths)
    return torch.where(lengths[..., primary, None] > 0, weights, 0.0) + undefined


def _share_of(tau: float | Tensor, gram: Tensor) -> float | Tensor:
    """Returns tau, a tensor as [T] float64, after a look at its values where that costs no waiting."""
    if not isinstance(tau, Tensor):
        check_number("tau", tau, "a number from 0 to 1, or a tensor [T] of such", 0, 1)
        return tau
    share = per_objective("tau", tau, gram)
    check_values("tau", "numbers from 0 to 1", share, (share >= 0) & (share <= 1))
    return share


def _averaged(state: Tensor, squares: Tensor, undefined: Tensor) -> Tensor:
    """Updates the averages of the squared lengths and the counts, [..., 2, T]; returns the averages without bias."""
    average, count = state.unbind(dim=-2)
    there = undefined == 0
    average.copy_(torch.where(there, average.lerp(squares, 1 - _DECAY), average))
    count.add_(there)
    return average / (1 - _DECAY ** count.clamp(min=1))


def _nearest(cosines: Tensor, normed: Tensor, share: float | Tensor, first: Tensor) -> Tensor:
    """Returns PCD's direction, of length one, as weights of the unit gradients [..., T]; zeros where it is zero.

    Args:
        cosines: [..., T, T], products of unit gradients.
        normed: [..., T], the lengths |h_i|.
        share: tau.
        first: [T] bool, which objective is the primary one.
    """
    ours = torch.where(first, normed, 0.0)
    lacking = torch.where(first, 0.0, share * normed - (cosines @ ours.unsqueeze(-1)).squeeze(-1))
    unit = lacking.abs().amax(dim=-1, keepdim=True)
    unit = torch.where(unit > 0, unit, 1.0)
    identity = torch.eye(len(first), dtype=cosines.dtype, device=cosines.device)
    among = torch.where(first | first.unsqueeze(-1), identity, cosines)
    added = torch.where(first, 0.0, complementarity(among, -lacking / unit))
    slack = (among @ added.unsqueeze(-1)).squeeze(-1) - lacking / unit
    parts = ours / unit + added
    square = (parts * (cosines @ parts.unsqueeze(-1)).squeeze(-1)).sum(dim=-1, keepdim=True)
    noise = ridge(among).squeeze(-1)
    longest = square.clamp(min=1).sqrt() * LARGEST
    feasible = (slack.amin(dim=-1, keepdim=True) >= -(100 * noise).clamp(min=1e-5)) & (added.sum(-1, True) <= longest)
    told = square > (10 * noise).clamp(min=LARGEST**-2) * parts.sum(dim=-1, keepdim=True).square()
    return torch.where(feasible, parts * torch.where(told, square, torch.inf).rsqrt(), first.to(parts.dtype))
