"""`python -m helpers.tiny_convolutions`: bf16 gradients of convolutions of tiny volumes, which oneDNN may get wrong."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.models.conv import Conv3d

SHAPES = [(1, 1, 1), (1, 3, 2), (2, 1, 1), (2, 2, 2), (3, 2, 3), (4, 4, 4), (5, 2, 2), (6, 3, 3)]
KERNELS = [(3, 1), (5, 2), (2, 0), ((3, 1, 1), (1, 0, 0)), ((1, 3, 3), (0, 1, 1)), ((3, 3, 1), (1, 1, 0)), (1, 0)]


def assert_bf16_gradients(conv: Conv3d, x: Tensor, way: str = "bf16 weights") -> None:
    """Compares with float64 while the memory that the allocator hands out next holds NaN."""
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, conv.weight, conv.bias)]
    expected = F.conv3d(*exact, conv.stride, conv.padding, conv.dilation)
    expected_grads = torch.autograd.grad(expected.square().mean(), exact)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        y = conv(x) if way == "autocast" else conv.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    size = conv.weight.numel()
    poison = [torch.full((count,), torch.nan) for count in (1000, size // 2, size, 2 * size)]
    del poison
    grads = torch.autograd.grad(y.float().square().mean(), (x, conv.weight, conv.bias))
    for a, b in zip(grads, expected_grads, strict=True):
        error = ((a - b).norm() / b.norm()).item()
        assert error <= 0.02, f"{conv} of {list(x.shape)}: a gradient is off by {error:.1e}"


def main() -> None:
    """Checks every kernel and stride that fits into small volumes."""
    for shape in SHAPES:
        for kernel_size, padding in KERNELS:
            for stride in (1, 2):
                for channels in (1, 32):
                    torch.manual_seed(0)
                    conv = Conv3d(channels, 32, kernel_size, stride=stride, padding=padding)
                    if all(n + 2 * p >= k for n, p, k in zip(shape, conv.padding, conv.kernel_size, strict=True)):
                        assert_bf16_gradients(conv, torch.randn(2, channels, *shape, requires_grad=True))


if __name__ == "__main__":
    main()
