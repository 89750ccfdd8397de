"""The weighting of equal lengths for losses of any scale: DB-MTL."""

import torch
from torch import Tensor

from gmd_kernels.weightings._gramians import batched, cosines_of, per_length
from gmd_kernels.weightings._options import check_values


@batched
def db_mtl(gram: Tensor, losses: Tensor) -> Tensor:
    """Brings the gradients of the logarithms of the losses to one length, that of the longest (DB-MTL, 2023).

    weights_i |g_i| = max_k |g_k| / loss_k for every i: all gradients come to that length and are added up (Lin et al.,
    "Dual-balancing for multi-task learning", https://arxiv.org/abs/2308.12029). Angles are not looked at. The published
    method also averages each gradient over the steps, which takes the memory of T gradients: that is left out here.

    A gradient of zero has the weight zero.

    Args:
        gram: [..., T, T] float64.
        losses: [T] or [..., T], floating, above zero. One that is not finite makes all weights NaN, and so does one
            that is not above zero where values cannot be looked at without waiting, on a GPU.

    Raises ValueError: a Gramian of another type or shape, losses that do not go with it; on the CPU also such as are
        not above zero.
    """
    _, lengths, undefined = cosines_of(gram)
    expected = f"floating [T] = [{gram.shape[-1]}] on {gram.device}"
    if not isinstance(losses, Tensor):
        raise ValueError(f"losses: expected {expected}, got {type(losses).__name__}")
    alike = losses.shape in (lengths.shape, lengths.shape[-1:])
    if not alike or not losses.is_floating_point() or losses.device != gram.device:
        raise ValueError(f"losses: expected {expected}, got {losses.dtype} {list(losses.shape)} on {losses.device}")
    losses = losses.detach().double()
    check_values("losses", "above zero, as their logarithm is taken", losses, ~(losses <= 0))
    length = (lengths / torch.where((losses > 0) & losses.isfinite(), losses, torch.nan)).amax(dim=-1, keepdim=True)
    return per_length(length, lengths) + length * 0 + undefined
