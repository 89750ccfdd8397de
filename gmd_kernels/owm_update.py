"""The recursive update of orthogonal weight modification, as users call it."""

import torch
from torch import Tensor

from gmd_kernels import dispatch, library_owm  # noqa: F401  (the op that traced calls take)
from gmd_kernels.gradients import _C, is_traced
from gmd_kernels.owm_arguments import check, check_memory


def owm_update_(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    """Updates a projector P with the mean input h of a layer, and projects the gradient of its weight, both in place.

        P <- P - k k^T / (alpha + h . k) with k = P h,        weight_grad <- weight_grad P

    The projector P keeps a layer's weight from changing along inputs that it was given: begun as the identity, it is
    P = (I + sum of h h^T / alpha)^-1 over the mean inputs h so far (Zeng et al., Nature Machine Intelligence 2019;
    as MLA uses it, Zhang et al., CVPR 2024). Of a direction h that was met n times, a weight gradient times P has the
    fraction 1 / (1 + n |h|^2 / alpha) left. P is read twice and written once.

    Args:
        projector: P, [d, d] float32 or float64, contiguous, symmetric and positive semi-definite with no eigenvalue
            above 1, as `torch.eye(d)` is and this keeps it: symmetric to the bit.
        weight_grad: [C, d], C >= 1, of P's type, or bfloat16 or float16 beside float32; any strides that do not
            overlap. `head.weight.grad` of an nn.Linear.
        mean_input: h, [d] of P's type or a narrower one; taken as detached. The mean of the layer's inputs.
        alpha: above 0, in units of |h|^2: how long a direction has to be met before it is closed.

    Where h, weight_grad or P holds a NaN or Inf, and where h . k overflows, P stays as it is and all of weight_grad
    becomes NaN: the bad step shows, and leaves nothing behind. Nothing waits for the device. A direction along which
    nothing is left of P but rounding errors (h . k <= 0) takes nothing from it.

    Arithmetic is in P's type, with sums of at most 128 products by themselves on the CPU; h . k and beta are float64.
    On one processor the C++ kernels give the same bits for any number of threads.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
    """
    # what the C++ part finds nothing unusual about needs no look in Python, which takes a third as long as the update
    if is_traced() or _C is None or not _C.usual_owm(projector, weight_grad, mean_input, alpha):
        check(projector, weight_grad, mean_input, alpha)
        if is_traced(projector, weight_grad, mean_input):
            torch.ops.gmd.owm_update_(projector, weight_grad, mean_input, alpha)
            return
        check_memory(projector, weight_grad, mean_input)
    dispatch.choose_for_owm(projector).owm_update_(projector, weight_grad, mean_input, alpha)
