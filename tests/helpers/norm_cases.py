"""GroupNorm + ReLU in float64 and a few lines, the cases it is tested on, and how far kernels may be off."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import norm_oracle
from helpers.kernel_cases import LAYOUTS

UNIT = 2.0**-24  # the relative rounding of a float32 number
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# shape [n, C, *spatial], groups: odd channels and sizes, every number of spatial dimensions, one voxel, several slots
SHAPES = {
    "3d": ((2, 16, 5, 4, 3), 8),
    "2d-odd": ((3, 5, 7, 3), 5),
    "1d": ((2, 12, 33), 4),
    "no-space": ((4, 6), 2),
    "one-voxel": ((2, 20, 1, 1, 1), 4),
    "one-channel": ((1, 1, 9, 11), 1),
    "one-group": ((2, 7, 3, 3, 3), 1),
    "deep": ((2, 256, 2, 2, 2), 8),
    "slots": ((1, 16, 20, 17, 13), 8),
    "long-slots": ((1, 5, 211, 97), 5),
    "many-samples": ((70, 12, 5, 7), 3),
    # channels-last, a voxel's channels repeat in the kernels' strips only after more than the whole line
    "short-line": ((4, 154, 2, 2, 2), 2),
    "short-line-77": ((1, 77, 4, 4, 4), 7),
    "short-line-2d": ((6, 129, 2, 2), 3),
    "short-line-no-space": ((9, 1000), 8),
}
NUM_ROWS = 4


class Case(NamedTuple):
    x: Tensor
    weight: Tensor  # [R, C]
    bias: Tensor  # [R, C]
    rows: Tensor  # [n]
    num_groups: int
    eps: float = 1e-5


def make_case(name: str, dtype: torch.dtype, layout: str = "contiguous", mean: float = 0.5) -> Case:
    """Rows are shared by samples, one of them is unused, and they are in no order."""
    shape, num_groups = SHAPES[name]
    generator = torch.Generator().manual_seed(len(name))
    statistics = torch.float64 if dtype is torch.float64 else torch.float32
    x = (mean + torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    weight, bias = (torch.randn(NUM_ROWS, shape[1], generator=generator, dtype=statistics) for _ in range(2))
    rows = torch.tensor([2, 0, 2, 3])[torch.arange(shape[0]) % 4]
    return Case(LAYOUTS[layout](x), weight, bias, rows, num_groups)


def with_nan(case: Case, which: str) -> Case:
    """In x, weight or bias, where the second sample's sixth channel meets it."""
    tensor = getattr(case, which).clone()
    if which == "x":
        tensor[1, 5, -1] = torch.nan
    else:
        tensor[case.rows[1], 5] = torch.nan
    return case._replace(**{which: tensor})


class Exact(NamedTuple):
    """Of float64, differentiable; `size` is what roundings of z are relative to."""

    y: Tensor
    z: Tensor
    size: Tensor


def exact(case: Case) -> Exact:
    x, n = case.x.double(), len(case.x)
    grouped = x.reshape(n, case.num_groups, -1)
    var, mean = torch.var_mean(grouped, dim=-1, keepdim=True, correction=0)
    of_channel = n, -1, *[1] * (x.ndim - 2)
    weight, bias = (table.double()[case.rows].view(of_channel) for table in (case.weight, case.bias))
    rstd = (var + case.eps).rsqrt()
    normed, shifted = (value.view(x.shape) for value in ((grouped - mean) * rstd, (grouped.abs() + mean.abs()) * rstd))
    z = normed * weight + bias
    return Exact(z.relu(), z, (shifted * weight).abs() + bias.abs())


def unit(dtype: torch.dtype) -> float:
    """For float64 that of long sums, here as there: the expected values are no better than the others."""
    return 2.0**-48 if dtype is torch.float64 else UNIT


def value_error(case: Case, y: Tensor) -> float:
    """In units of the bound: a few roundings of z, one to the type of the result."""
    expected = exact(case)
    bound = 8 * unit(case.x.dtype) * expected.size
    info = torch.finfo(case.x.dtype)
    bound += info.eps / 2 * (expected.y + bound) + info.smallest_normal * info.eps
    return float(((y.double() - expected.y).abs() / bound).amax())


def clear_gradient(case: Case, seed: int = 0) -> Tensor:
    """A gradient of y in x's type that is zero where rounding decides what passes the ReLU."""
    expected = exact(case)
    grad = torch.randn(case.x.shape, generator=torch.Generator().manual_seed(seed)).to(case.x.dtype)
    return grad.where(expected.z.abs() > 1e-4 * expected.size, 0.0)


def exact_gradients(case: Case, grad: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().double().requires_grad_() for tensor in case[:3]]
    y = exact(Case(*leaves, *case[3:])).y
    return list(torch.autograd.grad(y, leaves, grad.double()))


def gradients(case: Case, grad: Tensor, run: Callable[..., Tensor]) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in case[:3]]
    y = run(*leaves, case.num_groups, case.rows, case.eps)
    return list(torch.autograd.grad(y, leaves, grad))


def gradient_error(case: Case, found: list[Tensor], grad: Tensor) -> float:
    """The largest of the errors of dx, dweight and dbias, in units of the bound."""
    assert case.eps == norm_oracle.EPS
    *tensors, num_groups, _ = case
    return max(norm_oracle.backward_errors(norm_oracle.Case(*tensors, num_groups, grad), *found))
