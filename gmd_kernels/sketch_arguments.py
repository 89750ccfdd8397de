"""Checks of sketch_'s arguments, with errors that say what came; nothing is written before they pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients, is_wrapped, read, tell_of
from gmd_kernels.pieces import is_dtensor
from gmd_kernels.results import span, spans_of

MOST_BUCKETS = 2**31 - 1
MOST_SEED = 2**63 - 1  # as torch's ops take integers


def read_one(grads: Sequence[Tensor | None]) -> Gradients:
    """Reads the gradients as those of one objective; errors speak of grads[p]."""
    try:
        gradients = read([grads])
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("grads[0]", "grads")) from None
    for p, g in enumerate(grads if gradients.native is None else ()):  # C++ has read ordinary tensors alone
        if is_dtensor(g):
            raise TypeError(f"grads[{p}]: expected plain tensors, got a DTensor; sketch what is here of it, to_local()")
    return gradients


def check(sketch: Tensor, gradients: Gradients, seed: int) -> None:
    """Raises an error if anything is wrong but where the tensors lie."""
    _check_sketch(sketch)
    if any(gradients.reached) and sketch.device != gradients.device:
        raise ValueError(f"sketch: expected on {gradients.device}, as the gradients, got {tell_of(sketch)}")
    if isinstance(seed, bool) or not isinstance(seed, int | torch.SymInt):
        raise TypeError(f"seed: expected an int, got {type(seed).__name__}")
    if not torch.compiler.is_compiling() and not 0 <= seed <= MOST_SEED:
        raise ValueError(f"seed: expected 0 to 2^63 - 1, got {seed}")


def _check_sketch(sketch: object) -> None:
    if not isinstance(sketch, Tensor) or sketch.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"sketch: expected float32 or float64 [d], got {tell_of(sketch)}")
    if sketch.layout is not torch.strided or sketch.ndim != 1 or not 1 <= len(sketch) <= MOST_BUCKETS:
        raise ValueError(f"sketch: expected [d] with d from 1 to {MOST_BUCKETS}, got {tell_of(sketch)}")
    if not sketch.is_contiguous() or (not torch.compiler.is_compiling() and sketch.is_neg()):
        raise ValueError(f"sketch: expected contiguous memory, got strides {sketch.stride()} or lazily negated")
    if sketch.requires_grad:
        raise ValueError("sketch: expected a tensor that requires no grad, as it is written in place")


def check_memory(sketch: Tensor, gradients: Gradients) -> None:
    """Raises a ValueError if the sketch has no memory of its own."""
    if sketch._is_zerotensor() or is_wrapped(sketch):
        raise ValueError("sketch: expected an ordinary tensor, got one without memory of its own")
    begin, end, _ = span(sketch, 0)
    spans = spans_of(gradients)
    for p in spans[(spans[:, 0] < end) & (begin < spans[:, 1])][:, 2].tolist():
        raise ValueError(f"sketch shares its memory with grads[{p}], which is still to be read")
