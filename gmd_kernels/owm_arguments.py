"""Checks of owm_update_'s arguments, with errors that say what came; nothing is written before they pass."""

import math

import torch
from torch import Tensor

from gmd_kernels.gradients import tell_of
from gmd_kernels.results import overlaps_itself, span

# by the projector's type, that of the weight's gradient and that of the input
OF_GRAD = {torch.float32: (torch.float32, torch.bfloat16, torch.float16), torch.float64: (torch.float64,)}
OF_INPUT = {dtype: tuple(dict.fromkeys((dtype, *OF_GRAD[torch.float32]))) for dtype in OF_GRAD}


def check(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    """Raises an error if anything is wrong but the values in the tensors, and where they lie."""
    _check_projector(projector)
    _check_type("weight_grad", weight_grad, OF_GRAD[projector.dtype], projector)
    _check_type("mean_input", mean_input, OF_INPUT[projector.dtype], projector)
    d, device = len(projector), projector.device
    if weight_grad.ndim != 2 or weight_grad.shape[1] != d or len(weight_grad) == 0 or weight_grad.device != device:
        raise ValueError(f"weight_grad: expected [C, {d}], C >= 1, on projector's {device}, got {tell_of(weight_grad)}")
    if mean_input.shape != (d,) or mean_input.device != device:
        raise ValueError(f"mean_input: expected [{d}] on projector's {device}, got {tell_of(mean_input)}")
    for name, tensor in (("projector", projector), ("weight_grad", weight_grad)):
        if tensor.requires_grad:
            raise ValueError(f"{name}: expected a tensor that requires no grad, as it is written in place")
    if isinstance(alpha, bool) or not isinstance(alpha, float | int) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha: expected a finite number above 0, got {alpha!r}")


def _check_projector(projector: Tensor) -> None:
    if not isinstance(projector, Tensor) or projector.dtype not in OF_GRAD or projector.layout is not torch.strided:
        raise TypeError(f"projector: expected float32 or float64 [d, d], got {tell_of(projector)}")
    if projector.ndim != 2 or projector.shape[0] != projector.shape[1] or projector.numel() == 0:
        raise ValueError(f"projector: expected [d, d] with d of at least 1, got {tell_of(projector)}")
    if not projector.is_contiguous() or (not torch.compiler.is_compiling() and projector.is_neg()):
        raise ValueError(f"projector: expected contiguous memory, got strides {projector.stride()} or lazily negated")


def _check_type(name: str, tensor: object, dtypes: tuple[torch.dtype, ...], projector: Tensor) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype not in dtypes or tensor.layout is not torch.strided:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(
            f"{name}: expected dense {expected} beside a {projector.dtype} projector, got {tell_of(tensor)}"
        )


def check_memory(projector: Tensor, weight_grad: Tensor, mean_input: Tensor) -> None:
    """Raises a ValueError if a tensor that is written shares memory with another, or with itself."""
    if not weight_grad.is_contiguous() and overlaps_itself(weight_grad):
        raise ValueError(f"weight_grad: overlaps itself, {list(weight_grad.shape)} with strides {weight_grad.stride()}")
    of_projector, of_grad, of_input = _bounds(projector), _bounds(weight_grad), _bounds(mean_input)
    if of_grad[0] < of_projector[1] and of_projector[0] < of_grad[1]:
        raise ValueError("weight_grad shares its memory with projector, which is written in place")
    for name, written in (("projector", of_projector), ("weight_grad", of_grad)):
        if of_input[0] < written[1] and written[0] < of_input[1]:
            raise ValueError(f"mean_input shares its memory with {name}, which is written in place")


def _bounds(tensor: Tensor) -> tuple[int, int]:
    """Returns a tensor's first address, and the one behind its last element."""
    if tensor.is_contiguous():
        begin = tensor.data_ptr()
        return begin, begin + tensor.nbytes
    return span(tensor, 0)[:2]
