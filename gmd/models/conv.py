"""3-D convolutions that stay fast on the CPU when they are given a single sample, for any network."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad


class Conv3d(nn.Conv3d):
    """torch.nn.Conv3d, whose lone float32 samples on the CPU go to oneDNN.

    For one sample torch takes oneDNN only if channels * X * Y, without Z, is above 20480 (ConvParams::use_mkldnn in
    ATen/native/Convolution.cpp); below it takes a path that is up to 10 times slower. A 1x1x1 convolution is a product
    of matrices there, which is quick for contiguous volumes; in channels-last it is computed as such a product here.

    Values and gradients are those of torch up to the rounding of another summation order, of any order: a gradient
    which is itself to be differentiated is torch's. Whatever torch does well is left to it, and so is every
    convolution that a compiler, a tracer, a transform of torch.func or a dispatch mode is watching. torch.jit.script
    cannot read this class.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _onednn_would_be_wrong(x, self):
            return self._convolved(x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            y = self._convolved(x.float(), weight.float(), None if bias is None else bias.float())
            return y.to(torch.bfloat16)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = _padding(self)
        if padding is None or not _may_be_ours(x, weight):
            return super()._conv_forward(x, weight, bias)
        geometry = Geometry(self.stride, padding, self.dilation)
        if not _torch_would_be_slow(x, weight, bias, geometry, self.groups):
            return super()._conv_forward(x, weight, bias)
        if any(size > 1 for size in self.kernel_size):
            return _OneDnnConvolution.apply(x, weight, bias, geometry)
        if _is_channels_last(x) and geometry == POINTWISE:
            return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        return super()._conv_forward(x, weight, bias)


def quick_lone_samples(network: nn.Module) -> int:
    """Makes every 3-D convolution of a network fast for a lone float32 sample on the CPU, in place.

    Args:
        network: any module. Those in it that are exactly torch.nn.Conv3d become `gmd.models.conv.Conv3d`, with the same
            parameters, buffers and hooks; all others, subclasses among them, stay as they are.

    Returns how many convolutions became so.
    """
    found = [module for module in network.modules() if type(module) is nn.Conv3d]
    for module in found:
        module.__class__ = Conv3d
    return len(found)


class Geometry(NamedTuple):
    """How a kernel moves over a volume, for each axis, in the order in which torch's functions take it."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


POINTWISE = Geometry(stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1))


class _OneDnnConvolution(torch.autograd.Function):
    """A convolution without groups by oneDNN, forward and backward, whatever torch would have chosen."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.has_bias = geometry, bias is not None
        stride, padding, dilation = geometry
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        # Torch's own can be differentiated, and run by torch.vmap.
        torchs_own = torch.is_grad_enabled() or _is_transformed()
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward.default(
            grad,
            # an input in oneDNN's own layout is what makes torch choose oneDNN here
            x if torchs_own else x.to_mkldnn(),
            weight,
            [len(weight)] if ctx.has_bias else None,
            *ctx.geometry,
            False,
            (0, 0, 0),
            1,
            ctx.needs_input_grad[:3],
        )
        return _in_format_of(x, grad_x), _in_format_of(weight, grad_weight), grad_bias, None


def _in_format_of(tensor: Tensor, grad: Tensor | None) -> Tensor | None:
    """Returns the gradient in the tensor's memory format: oneDNN hands out plain contiguous ones for its own layout."""
    if grad is None or not _is_channels_last(tensor):
        return grad
    return grad.contiguous(memory_format=torch.channels_last_3d)


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last_3d)


def _padding(conv: nn.Conv3d) -> tuple[int, ...] | None:
    """Returns the zeros at both ends of each axis; None if the ends differ, or if what is there are not zeros."""
    starts, ends = (tuple(conv._reversed_padding_repeated_twice[first::-2]) for first in (-2, -1))
    return starts if conv.padding_mode == "zeros" and starts == ends else None


def _onednn_would_be_wrong(x: Tensor, conv: nn.Conv3d) -> bool:
    """Returns whether oneDNN's gradient of the weight may be uninitialised memory: in bf16 on the CPU, on tiny volumes.

    oneDNN 3.12 has this fault on processors with AVX-512 that lack bf16 instructions, where no whole kernel fits into
    the volume along X, and for strided convolutions of volumes of one voxel along Y and Z.
    """
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if x.device.type != "cpu" or x.ndim != 5 or not (x.dtype == torch.bfloat16 or autocast):
        return False
    size, padding, stride = x.shape[2], conv._reversed_padding_repeated_twice[-1], conv.stride[0]
    first_inside = -padding % stride
    return first_inside + conv.kernel_size[0] > size or (x.shape[3:].numel() == 1 and max(conv.stride) > 1)


def _may_be_ours(x: Tensor, weight: Tensor) -> bool:
    """Returns whether this is a convolution of float32 volumes on the CPU that only computes values and gradients."""
    # autocast casts what torch's own is given
    if _is_watched() or _is_transformed() or torch.is_autocast_enabled("cpu"):
        return False
    floats = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    has_onednn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return floats and x.ndim == 5 and has_onednn


def _is_watched() -> bool:
    """Returns whether a compiler, a tracer, fake tensors or a counter of operations look on: they know torch's own."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0


def _is_transformed() -> bool:
    """Returns whether a transform of torch.func, or forward-mode differentiation, is going on."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _torch_would_be_slow(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int) -> bool:
    """Returns whether torch would keep these volumes from oneDNN."""
    backend = torch._C._select_conv_backend(x, weight, bias, *geometry, False, (0, 0, 0), groups)
    return backend.name in ("Slow3d", "SlowDilated3d")
