"""Gradients small enough that every contestant of the benchmark can be checked on them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.measure.cases import Case

SHAPES = ((8, 4, 3), (5,), (6, 7), (11,), *[(3,)] * 8)
OBJECTIVES = (3, 4, 7, 15)


def small_case(t: int, dtype: torch.dtype = torch.float32) -> Case:
    """T = `t` objectives of about a thousand elements."""
    return Case("tiny-1K", SHAPES, t, dtype)


def same(row: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> bool:
    """Whether both are equal bit for bit, `None` in the same places."""
    return all(g is o or torch.equal(g, o) for g, o in zip(row, other, strict=True))
