"""The update of MLA's projector in plain PyTorch, on any device: the oracle and the fallback."""

import torch
from torch import Tensor


@torch.no_grad()
def owm_update_(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    """Does what gmd_kernels.owm_update_ says, without waiting for a device."""
    # copies that lie together: a library may add up strided or unaligned memory in another order
    left, h = (
        given.to(projector.dtype, copy=True, memory_format=torch.contiguous_format)
        for given in (weight_grad, mean_input)
    )
    k = projector @ h
    along = torch.dot(h.double(), k.double())
    # what is below 0 are rounding errors: of a positive semi-definite projector k is 0 there
    step = torch.where(along > 0, k / (alpha + along.clamp(min=0)).sqrt(), 0.0).to(projector.dtype)
    finite = along.isfinite() & left.isfinite().all()
    step = step.where(finite, 0.0)
    projector.sub_(torch.outer(step, step))  # entry (i, j) as entry (j, i): the same bits
    result = (left @ projector).where(finite, torch.nan)
    weight_grad.copy_(result.to(weight_grad.dtype))  # by itself copy_ flips the sign of a lazily negated float16 tensor
