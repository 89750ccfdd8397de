"""torch.ops.gmd.group_norm_relu and its backward, for while torch traces; eager calls go to the backend directly."""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gmd_kernels import dispatch
from gmd_kernels.norm_arguments import check, check_backward, check_tables, check_values, lying_plainly

_library = torch.library.Library("gmd", "FRAGMENT")
# y lies in memory as x does, which Inductor therefore leaves as it is in eager mode
_tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
_library.define(
    "group_norm_relu(Tensor x, Tensor weight, Tensor bias, Tensor rows, int num_groups, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd)",
    tags=_tags,
)
_library.define(
    "group_norm_relu_backward(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor rows, Tensor mean, Tensor rstd,"
    " bool needs_x) -> (Tensor dx, Tensor dweight, Tensor dbias)",
    tags=_tags,
)


def refuse_twice() -> None:
    """Raises an error when a gradient is differentiated again: ours have no graph, which would pass for zeros."""
    if torch.is_grad_enabled():
        raise RuntimeError("group_norm_relu: differentiable once, expected a backward pass without create_graph=True")


def refuse_derivatives(*tensors: Tensor) -> None:
    """Raises an error in forward mode and torch.func, where a lost tangent would pass for a derivative of zero."""
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError(
            "group_norm_relu: differentiable in backward passes alone, expected no tangents"
            " (torch.func.jvp, jacfwd, torch.autograd.forward_ad)"
        )
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    for tensor in tensors:  # torch.func takes gradients as if with create_graph=True
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            if tensor.requires_grad and torch._C._functorch.is_gradtrackingtensor(tensor):
                raise NotImplementedError(
                    "group_norm_relu: no gradients by torch.func (grad, vjp, jacrev), expected torch.autograd's"
                )
            tensor = torch._C._functorch.get_unwrapped(tensor)


@torch.library.impl(_library, "group_norm_relu", "CompositeExplicitAutograd")
def _group_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, num_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    check(x, weight, bias, num_groups, rows, eps)
    check_tables(x, weight=weight, bias=bias)
    check_values(rows, len(weight))
    x = lying_plainly(x)
    return dispatch.choose_for_norm(x).group_norm_relu(x, weight, bias, rows, num_groups, eps)


@torch.library.impl(_library, "group_norm_relu_backward", "CompositeExplicitAutograd")
def _group_norm_relu_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    check_backward(grad, x, weight, bias, rows, mean, rstd)
    check_values(rows, len(weight))
    x = lying_plainly(x)
    backward = dispatch.choose_for_norm(x).group_norm_relu_backward
    dx, dweight, dbias = backward(grad, x, weight, bias, rows, mean, rstd, needs_x)
    return x.new_empty(0) if dx is None else dx, dweight, dbias


def _fake_group_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, num_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    check(x, weight, bias, num_groups, rows, eps)
    check_tables(x, weight=weight, bias=bias)
    mean = weight.new_empty(len(x), num_groups)
    return torch.empty_like(lying_plainly(x)), mean, torch.empty_like(mean)


def _fake_group_norm_relu_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    check_backward(grad, x, weight, bias, rows, mean, rstd)
    dx = torch.empty_like(lying_plainly(x)) if needs_x else x.new_empty(0)
    return dx, weight.new_empty(weight.shape), bias.new_empty(bias.shape)


class Context(Protocol):
    """What torch hands from the forward pass to the backward pass."""

    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...


def _setup_context(
    ctx: Context,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, int, float],
    output: tuple[Tensor, Tensor, Tensor],
) -> None:
    x, weight, bias, rows, _, _ = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, weight, bias, rows, mean, rstd)
    ctx.mark_non_differentiable(mean, rstd)


def _backward(
    ctx: Context, grad: Tensor, *_of_statistics: Tensor | None
) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
    refuse_twice()
    needs_x = ctx.needs_input_grad[0]
    dx, dweight, dbias = torch.ops.gmd.group_norm_relu_backward(grad, *ctx.saved_tensors, needs_x)
    return dx if needs_x else None, dweight, dbias, None, None, None


torch.library.register_fake("gmd::group_norm_relu", _fake_group_norm_relu, lib=_library)
torch.library.register_fake("gmd::group_norm_relu_backward", _fake_group_norm_relu_backward, lib=_library)
torch.library.register_autograd("gmd::group_norm_relu", _backward, setup_context=_setup_context, lib=_library)
_library.impl("group_norm_relu_backward", torch.library.fallthrough_kernel, "Autograd")
