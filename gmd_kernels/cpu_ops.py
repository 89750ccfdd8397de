"""The ops in C++, csrc/cpu: gradients on the CPU."""

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

DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})


def gram(gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.gram_cpu(gradients.native, groups, num_groups)


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    return _C.pcgrad_weights_cpu(gram, order)


def combine(gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.combine_cpu(gradients.native, weights, out)


def sketch_(gradients: Gradients, sketch: Tensor, seed: int) -> None:
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    _C.sketch_cpu(gradients.native, sketch, seed)


def surgery(
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    reduction: str,
    generator: torch.Generator | None,
    out: list[Tensor | None],
) -> tuple[list[Tensor | None], Tensor, Tensor]:
    """Computes all of GMD in one call, see `contract.WholeSurgery`."""
    order = projection_order(len(gradients.rows), generator, "cpu", num_groups)
    assert gradients.native is not None, "dispatch sends what C++ has not read elsewhere"
    return _C.surgery_cpu(gradients.native, groups, num_groups, order, reduction == "mean", out)


group_norm_relu = _C.group_norm_relu_cpu
group_norm_relu_backward = _C.group_norm_relu_backward_cpu


def owm_update_(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    _C.owm_update_cpu(projector, weight_grad, mean_input.to(projector.dtype), alpha)
