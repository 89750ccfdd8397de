"""The host's side of sketch_: one launch for each type of gradients, and their sums."""

import torch
import triton
from torch import Tensor

from gmd_kernels.gradients import Gradients
from gmd_kernels.triton_ops import tables
from gmd_kernels.triton_ops.devices import on
from gmd_kernels.triton_ops.sketch_kernel import _sketch_kernel
from gmd_kernels.triton_ops.tiles import ELEMENTS

OPTIONS = {"BLOCK": 1024, "num_warps": 4}
MOST_PROGRAMS, BLOCKS_EACH = 1024, 8  # sizes alone decide into how many slices the sums are cut, and so the bits


@torch.no_grad()
def sketch_(gradients: Gradients, sketch: Tensor, seed: int) -> None:
    """Adds the sketch of the one objective's gradient, see `contract.GradientKernels`; copies what is strided."""
    # row-major, and without a lazy sign; kept until the launches are under way
    lying = [None if g is None or not g.numel() else g.detach().resolve_neg().contiguous() for g in gradients.rows[0]]
    for dtype in dict.fromkeys(g.dtype for g in lying if g is not None):
        _add(sketch, [None if g is None or g.dtype != dtype else g for g in lying], dtype, seed)
    # autograd has to know of what is written over
    torch.autograd.graph.increment_version([] if sketch.is_inference() else [sketch])


def _add(sketch: Tensor, row: list[Tensor | None], dtype: torch.dtype, seed: int) -> None:
    """Adds the gradients of one type."""
    device, d = sketch.device, len(sketch)
    sizes = tuple(0 if g is None else g.numel() for g in row)
    ranges = triton.cdiv(d, OPTIONS["BLOCK"])
    with on(device):
        blocks = tables.cached(device, ("sketch", sizes, d), lambda: tables.send(device, _blocks(sizes, d)))
        slices = max(1, min(len(blocks) // BLOCKS_EACH, MOST_PROGRAMS // ranges))
        partials = sketch.new_empty(slices, d)
        pointers = tables.pointer_table(device, "sketch", [0 if g is None else g.data_ptr() for g in row])
        arguments = pointers, blocks, partials, d, len(blocks), seed
        _sketch_kernel[(ranges, slices)](*arguments, ELEMENT=ELEMENTS[dtype], **OPTIONS)
    sketch += partials.sum(dim=0)


def _blocks(sizes: tuple[int, ...], d: int) -> list[tuple[int, int, int]]:
    """Returns parameter, number and size of the parameter for every block of d elements."""
    return [(p, block, size) for p, size in enumerate(sizes) for block in range(-(-size // d))]
