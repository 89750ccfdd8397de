"""Clips the gradient that a method has left in `.grad`, by the norm that it knows already where it does."""

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn

import gmd_kernels as gk
from gmd_kernels.pieces import is_dtensor

EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_, for a gradient of zero


def clip_(params: Iterable[nn.Parameter], max_norm: float, squared_norm: Tensor | None = None) -> Tensor:
    """Shortens `.grad` in place to the norm `max_norm`, if it is longer. Nothing waits for the device.

    It is what `torch.nn.utils.clip_grad_norm_` does, which reads the gradient once more even if its norm is known. Of a
    gradient that is not finite the squared norm is not either, and what becomes of it is not to be used.

    params: each with its `.grad`, or None there
    max_norm: above 0
    squared_norm: [] float64, that of `.grad`, such as `Report.squared_norm`; None: it is read
    returns the squared norm before, [] float64 on the device
    """
    gradients = [param.grad for param in params]
    if any(map(is_dtensor, gradients)):  # of each, this process has a piece
        squared_norm = gk.gram([gradients], reduce=dist.group.WORLD)[0, 0] if squared_norm is None else squared_norm
        gradients = [g.to_local() if is_dtensor(g) else g for g in gradients]
    if squared_norm is None:
        norm = gk.rescale_(gradients, 1.0, max_norm)
        assert norm is not None  # as there is a largest one
        return norm.square()
    gk.rescale_(gradients, (max_norm / (squared_norm.sqrt() + EPSILON)).clamp(max=1))
    return squared_norm
