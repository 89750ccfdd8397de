"""Finds out where the gradients lie, for kernels that read them there by pointers."""

from typing import NamedTuple

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients, first_tensor


class Lines(NamedTuple):
    """Each parameter's gradients as lines of elements in memory, all in the same order.

    Attributes:
        pointers: [P·T], zero where an objective does not reach the parameter; a parameter without elements has zeros.
        sizes: [P], elements to read of each gradient.
        likes: [P], a gradient of the parameter, None where there is none.
        strides: [P], of the order in which elements lie, None without elements.
        copies: gradients brought into that order; who uses the pointers keeps these.
    """

    pointers: list[int]
    sizes: list[int]
    likes: list[Tensor | None]
    strides: list[tuple[int, ...] | None]
    copies: list[Tensor]


@torch.no_grad()
def lay_out(gradients: Gradients) -> Lines:
    """Finds the gradients' lines; copies those with other strides than the first one's, with gaps or a lazy sign."""
    lines = Lines([], [], [], [], [])
    for column in zip(*gradients.rows, strict=True):
        like = first_tensor(column)
        size = 0 if like is None else like.numel()
        strides = None if like is None or size == 0 else _dense_strides(like)
        lines.likes.append(like)
        lines.sizes.append(size)
        lines.strides.append(strides)
        for g in column:
            if g is None or strides is None:
                lines.pointers.append(0)
                continue
            if g.stride() != strides or g.is_neg():  # one order for all, and the values that the sign bit tells of
                g = torch.empty_strided(g.shape, strides, dtype=g.dtype, device=g.device).copy_(g)
                lines.copies.append(g)
            lines.pointers.append(g.data_ptr())
    return lines


def _dense_strides(like: Tensor) -> tuple[int, ...]:
    """Returns the strides of a result made like the gradient: its own unless these leave gaps or overlap."""
    return (like if like.is_contiguous() else torch.empty_like(like, device="meta")).stride()
