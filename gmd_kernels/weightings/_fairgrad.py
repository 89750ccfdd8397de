"""The weighting that shares progress fairly: FairGrad, of which Nash-MTL is a case."""

import torch
from torch import Tensor

from gmd_kernels.gradients import is_readable
from gmd_kernels.quadratic import ridge
from gmd_kernels.weightings._gramians import batched, bounded, cosines_of, kernels_for, per_length
from gmd_kernels.weightings._options import check_number

_STEPS = 32  # five to eight are enough where gradients are neither nearly dependent nor of very different lengths


@batched
def fairgrad(gram: Tensor, alpha: float = 1.0) -> Tensor:
    """Shares progress fairly, by how much each objective gets better already (FairGrad, Ban and Ji, ICML 2024).

    The weights solve (G weights)_i = weights_i^(-1 / alpha) (eq. 4): weights > 0, and every objective gets better. They
    maximise the sum of what the objectives gain, each to the power 1 - alpha and divided by it: near alpha = 0 that is
    the sum of the gains, 1 is the bargain of `nash_mtl`, and the larger alpha, the more the worst-off counts. As there,
    the length of the result does not follow that of the gradients: choose the learning rate for it.

    At a Pareto-stationary point there is no solution, and towards one the weights grow without end while they cancel.
    Where one weights_i |g_i| would be above 1e4 times the largest that orthogonal gradients of these lengths would
    have, all are scaled down until none is: the result is about zero there. A gradient of zero has the weight zero.

    Args:
        gram: [..., T, T] float64.
        alpha: > 0. From 1/4 to 8, and for lengths that differ up to 1e12-fold, the solution is exact.

    Raises ValueError: a Gramian of another type or shape, an `alpha` that is not positive or not finite.
    """
    check_number("alpha", alpha, "a finite number above 0", 0)
    if alpha == 0:
        raise ValueError(f"alpha: expected a finite number above 0, got {alpha}")
    if (kernels := kernels_for(gram)) is not None:
        return kernels.fairgrad(gram, alpha)
    cosines, lengths, undefined = cosines_of(gram)
    longest = lengths.amax(dim=-1, keepdim=True)
    longest = torch.where(longest > 0, longest, 1.0)
    relative = torch.where(lengths > 0, lengths / longest, 1.0)
    power = (1 - alpha) / (1 + alpha)
    alone = relative**power  # what the solution is for orthogonal gradients
    shares = _solved(cosines, alone, alpha)
    shares = bounded(torch.where(lengths > 0, shares, 0.0), 1.0, alone.amax(dim=-1, keepdim=True))
    return per_length(shares * longest**power, lengths) + undefined


def _solved(cosines: Tensor, alone: Tensor, alpha: float) -> Tensor:
    """Returns the z > 0, [..., T], with z_i (C z)_i^alpha = alone_i^(1 + alpha), by Newton's method.

    The pair (z, y) stays on that curve, on which y is to become C z. A step is taken along the tangent, in whichever
    of the two grows by it, and the other follows: so both stay positive without shorter steps.
    """
    matrix = cosines + ridge(cosines) * torch.eye(cosines.shape[-1], dtype=cosines.dtype, device=cosines.device)
    sizes = matrix.abs()
    fixed = (1 + alpha) * alone.log()
    log_z = alone.log()
    for _ in range(_STEPS):
        z, y = log_z.exp(), ((fixed - log_z) / alpha).exp()
        factor = torch.linalg.cholesky_ex(matrix + torch.diag_embed(y / (alpha * z)))[0]
        missing = y.unsqueeze(-1) - matrix @ z.unsqueeze(-1)
        growth = torch.cholesky_solve(missing, factor).squeeze(-1) / z
        step = growth.clamp(min=0).log1p() - alpha * (-growth / alpha).clamp(min=0).log1p()
        # where nothing but rounding is missing, further steps would follow that
        rounding = 1e-15 * (sizes @ z.unsqueeze(-1))
        step = torch.where((missing.abs() > rounding).any(dim=-2), step, 0.0)
        log_z = log_z + step
        if is_readable(step) and float(step.abs().amax()) <= 1e-7:
            break  # the next would be of the square of that
    return log_z.exp()
