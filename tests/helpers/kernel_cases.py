"""Gradients of every type, size and memory layout for the tests of the kernels."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import gmd_kernels as gk

# that serve gradients on the CPU: Triton in its interpreter alone
BACKENDS = ["cpu", "reference"]
if os.environ.get("TRITON_INTERPRET") == "1" and gk.backends()["triton"].available:
    BACKENDS.append("triton")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OBJECTIVES = [1, 2, 3, 5, 7, 8, 11, 15, 16, 17, 31, 33, 64]  # around the sides of the tiles: 3 and 5
SHAPES = [(3, 5), (17,), (), (0,), (64, 33, 3), (1, 1, 1, 1, 7), (515,)]
# around the vectors (2 to 32 elements), the windows of rows that are copied (512), and the chunks (128 to 1024)
EDGES = [n + d for n in (8, 16, 32, 64, 128, 256, 512, 1024) for d in (-1, 0, 1)]
SIZES = [1, 2, 3, 5, *EDGES, 2047, 4097]

FEWER_SIZES = [1, 3, 63, 64, 257, 1023, 1024, 1025, 2047, 4097]  # for Triton's interpreter


def make_grads(num_objectives, shapes=SHAPES, seed=0, absent=0.2, scales=1.0, dtype=torch.float32):
    """Correlated gradients, some of them None; conflicts are certain from T = 3 on."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for k in range(num_objectives):
        sign = -1 if k % 3 == 2 else 1
        row = []
        for shape in shapes:
            common = torch.randn(shape, generator=torch.Generator().manual_seed(99))
            g = scales * (sign * common + torch.randn(shape, generator=generator))
            row.append(None if torch.rand((), generator=generator) < absent else g.to(dtype))
        rows.append(row)
    return rows


def make_weights(*shape, seed=0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _padded(value: Tensor) -> Tensor:
    """The middle of a larger tensor, along every dimension."""
    larger = value.new_full([size + 2 for size in value.shape], torch.nan)
    middle = larger[(slice(1, -1),) * value.ndim]
    return middle.copy_(value)


def _permuted(value: Tensor) -> Tensor:
    backwards = tuple(reversed(range(value.ndim)))
    return value.permute(backwards).contiguous().permute(backwards)


def _channels_last(value: Tensor) -> Tensor:
    return value.movedim(1, -1).contiguous().movedim(-1, 1) if value.ndim > 2 else _permuted(value)


def _odd_strides(value: Tensor) -> Tensor:
    """Strides that nobody needs where there is one element, as some of torch's ops leave them."""
    value = value.contiguous()
    strides = [77 if size == 1 else stride for size, stride in zip(value.shape, value.stride(), strict=True)]
    return value.as_strided(value.shape, strides)


def _every_second(value: Tensor) -> Tensor:
    if value.ndim == 0:
        return value
    larger = value.new_full([*value.shape[:-1], 2 * value.shape[-1]], torch.nan)
    return larger[..., ::2].copy_(value)


def _offset(value: Tensor) -> Tensor:
    larger = value.new_full([value.numel() + 1], torch.nan)
    return larger[1:].view(value.shape).copy_(value)


# The same values in other places.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda value: value.contiguous(),
    "permuted": _permuted,
    "channels_last": _channels_last,
    "every_second": _every_second,
    "offset": _offset,
    "padded": _padded,
    "odd_strides": _odd_strides,
    "negated": lambda value: torch._neg_view(-value),  # lazily, as autograd does behind complex numbers
}


def lay_out(grads: Sequence[Sequence[Tensor | None]], layouts: Sequence[str]) -> list[list[Tensor | None]]:
    """Copies; objective k's in the layout k of as many as there are, then again from the first."""
    places = [LAYOUTS[layouts[k % len(layouts)]] for k in range(len(grads))]
    return [[None if g is None else place(g.clone()) for g in row] for place, row in zip(places, grads, strict=True)]
