"""3-D convolutions that stay fast on the CPU, and channels-last, when they are given a single sample."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# For one float32 sample torch hands a convolution to oneDNN only if channels * X * Y is above this
# (ConvParams::use_mkldnn in ATen/native/Convolution.cpp); below it takes a path that is up to 10 times slower.
TORCH_MINIMUM = 20480


class Conv3d(nn.Conv3d):
    """A 3x3x3 convolution, stride 1, same size, with bias. On the CPU a lone float32 sample of any size goes to oneDNN.

    The result is that of torch.nn.Conv3d up to the rounding of another summation order.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None  # torch leaves it out only where a convolution is asked to have none
        if _onednn_would_be_wrong(x):
            with torch.autocast("cpu", enabled=False):
                return self._convolved(x.float(), self.weight.float(), self.bias.float()).to(torch.bfloat16)
        return self._convolved(x, self.weight, self.bias)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if _torch_would_be_slow(x):
            return _OneDnnConvolution.apply(x, weight, bias)
        return self._conv_forward(x, weight, bias)


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution. In channels-last on the CPU it is one product of matrices, and computed so.

    Torch's own is several times slower on one thread, and hands out another memory format than it was given.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last_3d):
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        return super().forward(x)


class _OneDnnConvolution(torch.autograd.Function):
    """The convolution of Conv3d by oneDNN, forward and backward, whatever torch would have chosen."""

    GEOMETRY = ((1, 1, 1), (1, 1, 1), (1, 1, 1))  # padding, stride and dilation happen to be the same

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.mkldnn_convolution(x, weight, bias, *_OneDnnConvolution.GEOMETRY, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        # an input in oneDNN's own layout is what makes torch choose oneDNN here
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad,
            x.to_mkldnn(),
            weight,
            [len(weight)],
            *_OneDnnConvolution.GEOMETRY,
            False,
            (0, 0, 0),
            1,
            ctx.needs_input_grad,
        )
        return _in_format_of(x, grad_x), _in_format_of(weight, grad_weight), grad_bias


def _in_format_of(tensor: Tensor, grad: Tensor | None) -> Tensor | None:
    """Returns the gradient in the tensor's memory format: oneDNN hands out plain contiguous ones for its own layout."""
    if grad is None or not tensor.is_contiguous(memory_format=torch.channels_last_3d):
        return grad
    return grad.contiguous(memory_format=torch.channels_last_3d)


def _onednn_would_be_wrong(x: Tensor) -> bool:
    """Returns whether oneDNN's gradient of the weight would be uninitialised memory: in bf16 on the CPU, for X = 2.

    oneDNN 3.12 has this fault on processors with AVX-512 that lack bf16 instructions.
    """
    if x.device.type != "cpu" or x.shape[2] != 2:
        return False
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16 or autocast


def _torch_would_be_slow(x: Tensor) -> bool:
    """Returns whether torch would keep this sample from oneDNN, for being small and alone."""
    # a compiler sees, and lowers, torch's own convolution; autocast casts what that is given
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    lone_cpu_sample = x.device.type == "cpu" and x.dtype == torch.float32 and len(x) == 1
    small = x.shape[1] * x.shape[2] * x.shape[3] <= TORCH_MINIMUM
    has_onednn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return lone_cpu_sample and small and has_onednn
