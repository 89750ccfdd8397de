"""relu(group_norm(x) * weight + bias) and its derivatives in float64, and how far a kernel may be from them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

EPS = 1e-5


@dataclass
class Case:
    """Arguments on the CPU; the gradient is zero where rounding decides whether the result is."""

    x: Tensor  # [n, C, *spatial]
    weight: Tensor  # [R, C]
    bias: Tensor  # [R, C]
    rows: Tensor  # [n] int64
    groups: int
    grad: Tensor  # as x


def make_case(
    shape: tuple[int, ...],
    groups: int,
    rows: list[int],
    num_rows: int,
    dtype: torch.dtype = torch.float32,
    last: bool = False,  # whether channels lie together
    middle: float = 0.5,  # of the values, whose spread is 1
) -> Case:
    generator = torch.Generator().manual_seed(sum(shape))
    number = torch.float64 if dtype == torch.float64 else torch.float32
    x, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    x, grad = (x + middle).to(dtype), grad.to(dtype)
    weight, bias = (torch.randn(num_rows, shape[1], generator=generator, dtype=number) for _ in range(2))
    case = Case(x, weight, bias, torch.tensor(rows, dtype=torch.int64), groups, grad)
    z, bound = affine(case)
    grad[z.abs() <= bound] = 0
    if last:
        case.x, case.grad = (t.movedim(1, -1).contiguous().movedim(-1, 1) for t in (x, grad))
    return case


def with_nan(case: Case, which: str) -> Case:
    """In x, weight or bias, where the last sample's last channel meets it; and a gradient whose sums are exact."""
    tensor = getattr(case, which).clone()
    tensor[(-1 if which == "x" else case.rows[-1]), -1] = torch.nan
    grad = torch.arange(case.x.numel()).reshape(case.x.shape).remainder(5).to(case.x.dtype)
    return replace(case, **{which: tensor}, grad=torch.empty_like(case.x).copy_(grad))


def passes_the_nan(case: Case, dx: Tensor, dweight: Tensor, dbias: Tensor) -> bool:
    """Whether gradients are those of torch's ReLU: exact sums of the gradient, and NaN where they meet one."""
    expected = derivatives(case)
    alike = (
        torch.allclose(found.double(), right, rtol=1e-2, atol=1e-2, equal_nan=True)
        for found, right in zip((dx, dweight), expected[:2], strict=True)
    )
    own = case.grad[-1, -1].double().sum()
    return torch.equal(dbias.double(), expected[2]) and bool(dbias[case.rows[-1], -1] >= own) and all(alike)


def statistics(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """-> mean, rstd [n, G] float64"""
    values = x.double().reshape(len(x), groups, -1)
    return values.mean(dim=-1), (values.var(dim=-1, unbiased=False) + EPS).rsqrt()


def affine(case: Case) -> tuple[Tensor, Tensor]:
    """-> z, and the bound of its error by arithmetic in the type of the table; float64, as x"""
    w, b = (spread(t.double()[case.rows], case.x) for t in (case.weight, case.bias))
    mean, rstd = (per_channel(t, case.x) for t in statistics(case.x, case.groups))
    normal = (case.x.double() - mean) * rstd
    return normal * w + b, unit(case) * ((normal.abs() + mean.abs() * rstd + 1) * w.abs() + b.abs())


def unit(case: Case) -> float:
    """Of rounding errors; in float64 those of long sums count too, the oracle's among them."""
    return 40 * 2.0**-52 if case.weight.dtype == torch.float64 else 4 * 2.0**-23


def derivatives(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """By autograd -> with respect to x, weight, bias; float64"""
    x, weight, bias = (t.detach().double().contiguous().requires_grad_() for t in (case.x, case.weight, case.bias))
    values = x.reshape(len(x), case.groups, -1)
    centred = values - values.mean(dim=-1, keepdim=True)
    normal = centred * (centred.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()
    z = normal.reshape(x.shape) * spread(weight[case.rows], x) + spread(bias[case.rows], x)
    return torch.autograd.grad((z.relu() * case.grad.double()).sum(), (x, weight, bias))


def forward_error(case: Case, y: Tensor) -> float:
    """In units of what it may be: half of the last place of y's type, beside the arithmetic before that rounding."""
    z, bound = affine(case)
    return worst(y, z.relu(), bound)


def backward_errors(case: Case, dx: Tensor | None, dweight: Tensor, dbias: Tensor) -> tuple[float, float, float]:
    """The same; sums are as exact as the largest number of what is added up."""
    z, _ = affine(case)
    mean, rstd = (per_channel(t, case.x) for t in statistics(case.x, case.groups))
    normal, w = (case.x.double() - mean) * rstd, spread(case.weight.double()[case.rows], case.x)
    dz = case.grad.double().abs() * (z > 0)
    sharpness = 1 + mean.abs() * rstd  # by as much a rounded mean moves what is around it
    largest = (dz * w.abs()).reshape(len(dz), case.groups, -1).amax(dim=-1)
    of_x = 2 * unit(case) * rstd * per_channel(largest, case.x) * (2 + normal.abs() * (1 + normal.abs())) * sharpness
    of_weight, of_bias = (2 * unit(case) * add_up(t, case) for t in (dz * (normal.abs() + 1) * sharpness, dz))
    expected = derivatives(case)
    x_error = 0.0 if dx is None else worst(dx, expected[0], of_x)
    return x_error, worst(dweight, expected[1], of_weight), worst(dbias, expected[2], of_bias)


def worst(result: Tensor, expected: Tensor, bound: Tensor) -> float:
    """NaN where it should be none counts as infinite."""
    info = torch.finfo(result.dtype)
    bound = bound + expected.abs() * info.eps / 2 + info.tiny * info.eps
    error = (result.double().cpu() - expected).abs() / bound
    return float(error.nan_to_num(nan=torch.inf).max()) if error.numel() else 0.0


def add_up(values: Tensor, case: Case) -> Tensor:
    """[n, C, *spatial] -> [R, C], the sums over the samples of each row"""
    sums = values.reshape(*values.shape[:2], -1).sum(dim=-1)
    return torch.zeros_like(case.weight, dtype=torch.float64).index_add_(0, case.rows, sums)


def spread(numbers: Tensor, like: Tensor) -> Tensor:
    """[n, C] beside the dimensions of `like`."""
    return numbers.reshape(*numbers.shape, *[1] * (like.ndim - 2))


def per_channel(numbers: Tensor, like: Tensor) -> Tensor:
    """[n, G] -> the same for every channel of the group, beside the dimensions of `like`."""
    return spread(numbers.repeat_interleave(like.shape[1] // numbers.shape[1], dim=1), like)
