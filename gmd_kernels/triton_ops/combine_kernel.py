"""The kernel of the weighted sum, in float64 whatever the weights, with one rounding more for 16-bit types."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gmd_kernels.triton_ops.plan import Kind
from gmd_kernels.triton_ops.tiles import ELEMENTS, load_tile, store_tile

THREADS = 128  # of a program
WARP = 32 if torch.version.hip is None else 64  # threads
UNALIGNED = 1  # element of a row for each thread, where it cannot be 16 bytes of them
ROWS = 8  # at most, that are loaded at a time; more would not fit in the registers


@triton.jit
def _sum_tile(
    addresses,  # [T] int64, of the parameter
    weights,  # [T] float64, of the parameter
    weight_stride,
    tile,
    end,
    T: tl.constexpr,
    ELEMENT: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Returns [BLOCK] float64."""
    total = tl.full([BLOCK], 0, tl.float64)
    for first in range(0, T, ROWS):
        k = first + tl.arange(0, ROWS)
        address = tl.load(addresses + k, mask=k < T, other=0)
        weight = tl.load(weights + k * weight_stride, mask=address != 0, other=0.0)  # that of an absent one may be NaN
        x = load_tile(address, tile, end, ELEMENT, ALIGNED, BLOCK)
        total += tl.sum(weight[:, None] * x, axis=0)
    return total


@triton.jit(do_not_specialize=["weight_row", "weight_stride"])
def _combine_kernel(
    pointers,  # [P, T] int64, 0: absent
    targets,  # [P] int64
    weights,  # [P, T] float64, of the two strides below
    weight_row,
    weight_stride,
    segments,  # [S, 3] int64: parameter, begin, end
    pieces,  # [programs, 3] int64: first segment, behind the last
    T: tl.constexpr,
    ELEMENT: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,  # that are loaded at a time
    BLOCK: tl.constexpr,
):
    piece = pieces + 3 * tl.program_id(0)
    s = tl.load(piece)
    while s < tl.load(piece + 1):
        p = tl.load(segments + 3 * s)
        tile = tl.load(segments + 3 * s + 1) // BLOCK
        end = tl.load(segments + 3 * s + 2)
        addresses = pointers + p * T
        row = weights + p * weight_row
        target = tl.load(targets + p)
        while tile * BLOCK < end:
            # every gradient of the tile is read before the result is written, which may lie where one of them does
            total = _sum_tile(addresses, row, weight_stride, tile, end, T, ELEMENT, ALIGNED, ROWS, BLOCK)
            store_tile(target, total, tile, end, ELEMENT, ALIGNED, BLOCK)
            tile += 1
        s += 1


def combine_options(num_objectives: int, kind: Kind) -> dict[str, int]:
    """Returns what the kernel is compiled for: rows at a time, elements of a tile, and warps."""
    dtype, aligned = kind
    rows = min(ROWS, triton.next_power_of_2(num_objectives))
    elements = 16 // dtype.itemsize if aligned else UNALIGNED
    return {"ROWS": rows, "BLOCK": elements * THREADS, "num_warps": THREADS // WARP}


def launch_combine_kernel(
    kind: Kind,
    pointers: Tensor,  # [P·T] int64
    targets: Tensor,  # [P] int64
    weights: Tensor,  # [P, T] float64, any strides
    segments: Tensor,  # [S, 3] int64
    pieces: Tensor,  # [programs, 3] int64
) -> None:
    """Writes the weighted sums of all parameters of one kind to their targets."""
    dtype, aligned = kind
    num_objectives = weights.shape[1]
    _combine_kernel[(len(pieces),)](
        pointers,
        targets,
        weights,
        *weights.stride(),
        segments,
        pieces,
        T=num_objectives,
        ELEMENT=ELEMENTS[dtype],
        ALIGNED=aligned,
        **combine_options(num_objectives, kind),
    )
