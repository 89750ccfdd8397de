"""The ops in C++/CUDA, csrc/cuda: gradients and the norm on a GPU of NVIDIA's. Nothing here waits for the device.

The projector's update has kernels in Triton alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gmd_kernels import native
from gmd_kernels.gradients import Gradients
from gmd_kernels.order import projection_order

if TYPE_CHECKING:
    from gmd_kernels import _C
else:
    _C = native.module()

if not hasattr(_C, "gram_cuda"):
    raise ImportError(native.why_no_cuda())

DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})


def why_not(device: torch.device) -> str | None:
    """Returns what keeps the kernels from running on this GPU, one that they were not built for, for instance."""
    if device.type != "cuda":
        return f"the CUDA kernels are for gradients on a GPU, not on {device}"
    return _C.why_not_cuda(torch.cuda.current_device() if device.index is None else device.index)


def gram(gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.gram_cuda(gradients.native, groups, num_groups)


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    return _C.pcgrad_weights_cuda(gram, order)


def combine(gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.combine_cuda(gradients.native, weights, out)


def imtl_g(gram: Tensor) -> Tensor:
    return _C.imtl_g_cuda(gram)


def aligned_mtl(gram: Tensor, preference: Tensor, scale_mode: str) -> Tensor:
    return _C.aligned_mtl_cuda(gram, preference, scale_mode)


def config(gram: Tensor) -> Tensor:
    return _C.config_cuda(gram)


def mgda(gram: Tensor) -> Tensor:
    return _C.mgda_cuda(gram)


def cagrad(gram: Tensor, c: float) -> Tensor:
    return _C.cagrad_cuda(gram, c)


def nash_mtl(gram: Tensor, max_norm: float | None) -> Tensor:
    return _C.nash_mtl_cuda(gram, max_norm)


def upgrad(gram: Tensor, preference: Tensor) -> Tensor:
    return _C.upgrad_cuda(gram, preference)


def dualproj(gram: Tensor, preference: Tensor) -> Tensor:
    return _C.dualproj_cuda(gram, preference)


def fairgrad(gram: Tensor, alpha: float) -> Tensor:
    return _C.fairgrad_cuda(gram, alpha)


def pcd(gram: Tensor, primary: int, tau: float | Tensor, state: Tensor | None) -> Tensor:
    number, numbers = (0.0, tau) if isinstance(tau, Tensor) else (tau, None)
    return _C.pcd_cuda(gram, primary, number, numbers, state)


def gradvac(gram: Tensor, cosines: Tensor, order: Tensor, beta: float) -> Tensor:
    return _C.gradvac_cuda(gram, cosines, order, beta)


def sketch_(gradients: Gradients, sketch: Tensor, seed: int) -> None:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    _C.sketch_cuda(gradients.native, sketch, seed)


def surgery(
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    reduction: str,
    generator: torch.Generator | None,
    out: list[Tensor | None],
) -> tuple[list[Tensor | None], Tensor, Tensor]:
    """Computes GMD, one launch for up to 16 objectives without groups, else three, see `contract.WholeSurgery`.

    The kernels draw the order from the GPU's generator, anew at every replay of a captured graph. A generator on the
    CPU gives the order that it gives on the CPU; a graph keeps the one of its capture.
    """
    order = None
    if generator is not None and generator.device.type == "cpu":
        order, generator = projection_order(len(gradients.rows), generator, "cpu", num_groups), None
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.surgery_cuda(gradients.native, groups, num_groups, order, generator, reduction == "mean", out)


group_norm_relu = _C.group_norm_relu_cuda
group_norm_relu_backward = _C.group_norm_relu_backward_cuda
