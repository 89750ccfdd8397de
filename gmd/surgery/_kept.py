"""Keeps the gradients of one backward pass out of the way of the next ones.

malloc puts a gradient wherever there is room when its pass makes it, in the midst of that pass's temporaries, and there
it stays until all passes are done. The gaps between such gradients are then too small for the temporaries of the next
pass. So the process grows from pass to pass, to several times of what all its tensors together need.
"""

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes, as torch allocates
LARGE = 2**21  # bytes; what is larger leaves few gaps, and is most of a network's bytes, whose copies would take time
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
OWN_PAGES = 2**25  # bytes of a block that lies outside the heap; glibc itself goes so far, in steps
KEPT_FREE = 2**30  # bytes at the end of the heap
OF_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # variables of the environment


class KeptRows:
    """Room for several gradients of each parameter, in one block of memory that is allocated before the first pass.

    The system puts memory behind a page of it when that is filled. All of it is freed with the last gradient in it.

    Args:
        count: how many gradients of each parameter there are at most.
        params: what the gradients are of. On a GPU nothing needs room, as torch itself allocates there.
    """

    def __init__(self, count: int, params: Iterable[Tensor]):
        sizes = [_padded(param.nbytes) for param in params if param.device.type == "cpu" and param.nbytes < LARGE]
        if count and sizes:  # a single pass is in nobody's way
            _let_malloc_keep_memory()
        self._room = torch.empty(count * sum(sizes), dtype=torch.uint8, device="cpu")
        self._filled = 0  # bytes
        self._typed: dict[torch.dtype, Tensor] = {}

    def keep(self, row: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Returns a pass's gradients with the same values and strides, as copies in the room.

        Some are returned as they came: large ones, whose copies would take time and memory; those on a GPU; and those
        with anything unusual about them (sparse, expanded, a subclass of Tensor).
        """
        if torch.compiler.is_compiling():  # which does not know writing through views like these
            return list(row)
        moved = [(p, gradient) for p, gradient in enumerate(row) if gradient is not None and _is_movable(gradient)]
        copies = [self._place_like(gradient) for _, gradient in moved]
        if copies:
            torch._foreach_copy_(copies, [gradient for _, gradient in moved])
        kept = list(row)
        for (p, _), copy in zip(moved, copies, strict=True):
            kept[p] = copy
        return kept

    def _place_like(self, gradient: Tensor) -> Tensor:
        """Returns the next free part of the room, as a tensor of this one's type, shape and strides."""
        dtype = gradient.dtype
        if dtype not in self._typed:
            self._typed[dtype] = self._room.view(dtype)
        place = self._typed[dtype].as_strided(
            gradient.shape, gradient.stride(), self._filled // gradient.element_size()
        )
        self._filled += _padded(gradient.nbytes)
        return place


@cache
def _let_malloc_keep_memory() -> None:
    """Lets glibc's malloc keep free memory at the end of its heap; with another malloc, nothing happens.

    With no gradients in its way, malloc would otherwise give the temporaries' memory back to the system during each
    pass, and take it again in the next, page by page, which costs a tenth of the time. What the user has told malloc by
    its environment stays.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in OF_MALLOC):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none
            mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
            mallopt(M_TRIM_THRESHOLD, KEPT_FREE)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _is_movable(gradient: Tensor) -> bool:
    return (
        type(gradient) is Tensor
        and gradient.device.type == "cpu"
        and gradient.layout is torch.strided
        and gradient.nbytes < LARGE
        and (gradient.is_contiguous() or is_dense(gradient))
    )


def is_dense(gradient: Tensor) -> bool:
    """Returns whether the elements fill their span of memory, each a place of its own, in whatever order."""
    filled = 1
    for stride, size in sorted(zip(gradient.stride(), gradient.shape, strict=True)):
        if size > 1 and stride != filled:
            return False
        filled *= size
    return True
