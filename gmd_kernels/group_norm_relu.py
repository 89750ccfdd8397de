"""GroupNorm + ReLU with an affine row for each sample, as users call it, and its autograd."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gmd_kernels import dispatch, library_norm
from gmd_kernels.contract import NormKernels
from gmd_kernels.gradients import _C, is_traced
from gmd_kernels.norm_arguments import check, check_values, lying_plainly, statistics_type


def group_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, rows: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Computes relu(group_norm(x) * weight[row] + bias[row]), each sample with its own row of an affine table.

    Args:
        x: [n, C, *spatial] float32, bfloat16, float16 or float64; contiguous or channels-last, otherwise it is copied.
        weight: [R, C] float32 (float64 with float64 x), or of x's type.
        bias: [R, C], as weight.
        num_groups: into which the C channels are divided.
        rows: [n] int64 on x's device, the row of each sample; that there is such a row is checked on the CPU only:
            elsewhere the check would wait for the device. `None`: sample i takes row i if R == n, every sample the only
            row if R == 1.
        eps: is added to the variance.

    Returns:
        A tensor of x's shape, type and memory format. Statistics and arithmetic are float32 (float64 for float64 x),
        rounded to x's type once. Differentiable in x, weight and bias, once and in backward passes of torch.autograd:
        not in forward mode, not by torch.func. A row that no sample takes gets zeros. A NaN comes out as NaN.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
        NotImplementedError: forward mode or torch.func asks for derivatives.
    """
    if (done := _by_cpp(x, weight, bias, num_groups, rows, eps)) is not None:
        return done
    check(x, weight, bias, num_groups, rows, eps)
    dtype = statistics_type(x)
    row_of_each = _default_rows(x, weight) if rows is None else rows
    x, weight, bias = lying_plainly(x), weight.to(dtype), bias.to(dtype)
    library_norm.refuse_derivatives(x, weight, bias)
    if is_traced(x, weight, bias, row_of_each):
        y: Tensor = torch.ops.gmd.group_norm_relu(x, weight, bias, row_of_each, num_groups, eps)[0]
        return y
    if rows is not None:
        check_values(rows, len(weight))
    kernels = dispatch.choose_for_norm(x)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        return _differentiable(kernels, x, weight, bias, row_of_each, num_groups, eps)
    return kernels.group_norm_relu(x, weight, bias, row_of_each, num_groups, eps)[0]


def _by_cpp(*arguments: object) -> Tensor | None:
    """Returns y if C++ finds nothing unusual about the arguments: in Python a call takes ten times as long."""
    return None if _C is None or torch.compiler.is_compiling() else _C.group_norm_relu(*arguments)


def _default_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Returns [n] int64: the only row of the table for every sample, or row i for sample i."""
    make = torch.zeros if len(weight) == 1 else torch.arange
    return make(len(x), dtype=torch.int64, device=x.device)


class _Context(library_norm.Context, Protocol):
    kernels: NormKernels  # of the forward pass, for the backward pass


class _GroupNormReLU(torch.autograd.Function):
    """The way of eager calls that C++ leaves to Python: through torch.library each would take longer still."""

    @staticmethod
    def forward(
        ctx: _Context,
        kernels: NormKernels,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        rows: Tensor,
        num_groups: int,
        eps: float,
    ) -> Tensor:
        ctx.kernels = kernels
        y, mean, rstd = kernels.group_norm_relu(x, weight, bias, rows, num_groups, eps)
        ctx.save_for_backward(x, weight, bias, rows, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: _Context, grad: Tensor) -> tuple[None, Tensor | None, Tensor, Tensor, None, None, None]:
        library_norm.refuse_twice()
        saved, needs_x = ctx.saved_tensors, ctx.needs_input_grad[1]
        if is_traced(grad, *saved) or torch._C._functorch.is_legacy_batchedtensor(grad):
            # is_grads_batched=True: many gradients at a time, which have no memory of their own
            dx, dweight, dbias = torch.ops.gmd.group_norm_relu_backward(grad, *saved, needs_x)
            dx = dx if needs_x else None
        else:
            dx, dweight, dbias = ctx.kernels.group_norm_relu_backward(grad, *saved, needs_x)
        return None, dx, dweight, dbias, None, None, None


# torch says nothing of the types of `apply`
_differentiable: Callable[[NormKernels, Tensor, Tensor, Tensor, Tensor, int, float], Tensor] = _GroupNormReLU.apply
