"""The host's side of owm_update_: scratch memory and two launches."""

import torch
import triton
from torch import Tensor

from gmd_kernels.triton_ops.devices import on
from gmd_kernels.triton_ops.owm_update_kernel import _input_kernel, _update_kernel

OPTIONS = {"ROWS": 64, "COLUMNS": 16, "CLASSES": 16, "num_warps": 4}
INPUT_OPTIONS = {"ROWS": 16, "COLUMNS": 128, "CLASSES": 16, "num_warps": 4}
BLOCK = 512  # of a vector


@torch.no_grad()
def owm_update_(
    projector: Tensor,  # [d, d] float32 or float64, contiguous
    weight_grad: Tensor,  # [C, d]
    mean_input: Tensor,  # [d]
    alpha: float,
) -> None:
    """Updates the projector and projects weight_grad, both in place, see `contract.ProjectorKernels`."""
    d, classes, grad = len(projector), len(weight_grad), weight_grad.resolve_neg()
    h = mean_input.to(projector.dtype).resolve_neg().contiguous()
    programs = triton.cdiv(d, INPUT_OPTIONS["ROWS"])
    k, flaws = (torch.empty(n, dtype=torch.float64, device=projector.device) for n in (d, programs))
    left = projector.new_empty(classes, d)
    alphas = torch.full((1,), alpha, dtype=torch.float64, device=projector.device)  # Triton narrows a float to 32 bits
    shape = d, classes, *grad.stride()
    with on(projector.device):
        _input_kernel[(programs,)](projector, grad, h, k, left, flaws, *shape, **INPUT_OPTIONS)
        grid = (triton.cdiv(d, OPTIONS["COLUMNS"]),)
        _update_kernel[grid](projector, grad, h, k, left, flaws, alphas, *shape, programs, BLOCK=BLOCK, **OPTIONS)
    if grad is not weight_grad:
        weight_grad.copy_(grad)
    # autograd has to know of what is written over
    torch.autograd.graph.increment_version([t for t in (projector, weight_grad) if not t.is_inference()])
