"""Gradients to be sketched, and how far a sketch may be from the oracle's."""

from collections.abc import Sequence

import torch
from torch import Tensor

import gmd_kernels as gk
from helpers.sketch_oracle import sketch_of

# a bias, none, several blocks of most sizes below, one element, no dimension, no elements, a word of signs and one more
SHAPES = [(5, 7), None, (1000,), (3, 130), (1,), (), (0,), (65,), (64,)]
FEW = [(5, 7), None, (40,), ()]  # for so few buckets that there is a block for each element
# one bucket, fewer than a word of 64 signs has elements, around a word, more buckets than elements
BUCKETS = [1, 2, 7, 63, 64, 65, 100, 1000, 5000]


def make_row(dtype: torch.dtype = torch.float32, shapes: Sequence = SHAPES, seed: int = 0) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return [None if shape is None else torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def sketched(grads: Sequence[Tensor | None], d: int, seed: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    sketch = torch.zeros(d, dtype=dtype)
    gk.sketch_(sketch, grads, seed)
    return sketch


def error(grads: Sequence[Tensor | None], sketch: Tensor, seed: int = 3) -> float:
    """The largest of a bucket's errors, in units of what a sum of its elements may err: n units of |element|s' sum."""
    exact, size = sketch_of(grads, len(sketch), seed)
    elements = sum(g.numel() for g in grads if g is not None) / len(sketch)
    bound = (2 + elements) * torch.finfo(sketch.dtype).eps * size
    return ((sketch.double() - exact).abs() / bound.clamp(min=torch.finfo(torch.float64).tiny)).max().item()
