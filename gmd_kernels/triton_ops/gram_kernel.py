"""The Gramian's kernels: in one, every program adds up the inner products of its piece; the other adds up the pieces.

Products are taken in float64, where those of every type but float64 are exact and none is lost at any scale. A100, H100
and MI300 have matrix units for it, as fast as float32 arithmetic without them; on B200 float64 still is half as fast.
On cards made for graphics, whose float64 is a 64th of float32, this and not memory is the limit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gmd_kernels.triton_ops.plan import Kind
from gmd_kernels.triton_ops.tiles import ELEMENTS, load_tile

# by rows of a tile: elements of each (8 to 32 KB in all), and warps, no more than there are products of matrices for
BLOCKS = {16: 64, 32: 32, 64: 64}
WARPS = {16: 1, 32: 4, 64: 8}


@triton.jit
def _gram_kernel(
    pointers,  # [P, T] int64, 0: absent
    segments,  # [S, 3] int64: parameter, begin, end
    pieces,  # [programs, 3] int64: first segment, behind the last, slot
    partials,  # [slots, ROWS, ROWS] float64
    T: tl.constexpr,
    ELEMENT: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,  # a power of two >= T
    BLOCK: tl.constexpr,
):
    piece = pieces + 3 * tl.program_id(0)
    row = tl.arange(0, ROWS)
    total = tl.full([ROWS, ROWS], 0, tl.float64)
    s = tl.load(piece)
    while s < tl.load(piece + 1):
        p = tl.load(segments + 3 * s)
        tile = tl.load(segments + 3 * s + 1) // BLOCK
        end = tl.load(segments + 3 * s + 2)
        addresses = tl.load(pointers + p * T + row, mask=row < T, other=0)
        products = tl.full([ROWS, ROWS], 0, tl.float64)
        while tile * BLOCK < end:
            x = load_tile(addresses, tile, end, ELEMENT, ALIGNED, BLOCK)
            products = tl.dot(x, tl.trans(x), products, input_precision="ieee", out_dtype=tl.float64)
            tile += 1
        reached = addresses != 0  # an absent gradient has no product with a NaN or Inf either
        total += tl.where(reached[:, None] & reached[None, :], products, 0.0)
        s += 1
    slot = tl.load(piece + 2)
    tl.store(partials + (slot * ROWS + row[:, None]) * ROWS + row[None, :], total)


@triton.jit
def _add_kernel(
    partials,  # [slots, ROWS, ROWS] float64
    bounds,  # [K + 1] int64
    grams,  # [K, T, T] float64
    T: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,  # that are added at a time
):
    """Adds up one row of one group's Gramian."""
    group = (tl.program_id(0) // T).to(tl.int64)
    i = tl.program_id(0) % T
    j = tl.arange(0, ROWS)
    entry = tl.minimum(i, j) * ROWS + tl.maximum(i, j)  # one half is read twice: the same bits on both sides
    total = tl.full([ROWS], 0, tl.float64)
    end = tl.load(bounds + group + 1)
    first = tl.load(bounds + group)
    while first < end:
        slot = first + tl.arange(0, SLOTS)
        mask = (slot < end)[:, None] & (j < T)[None, :]
        total += tl.sum(
            tl.load(partials + slot[:, None] * (ROWS * ROWS) + entry[None, :], mask=mask, other=0.0), axis=0
        )
        first += SLOTS
    tl.store(grams + (group * T + i) * T + j, total, mask=j < T)


def padded(num_objectives: int) -> int:
    """Returns the rows of a tile: the power of two that holds all objectives, at least the 16 of matrix units."""
    rows: int = triton.next_power_of_2(num_objectives)
    return max(16, rows)


def gram_options(rows: int) -> dict[str, int]:
    """Returns what the kernel of the inner products is compiled for, for tiles of so many rows."""
    options = {"ROWS": rows, "BLOCK": BLOCKS[rows], "num_warps": WARPS[rows]}
    if torch.version.hip is None:
        options["maxnreg"] = 255  # it takes half of them; without a limit it spills some to leave more for others
    return options


def add_options(rows: int) -> dict[str, int]:
    """Returns what the kernel that adds up the pieces is compiled for, for tiles of so many rows."""
    return {"ROWS": rows, "SLOTS": 2048 // rows, "num_warps": 4}


def launch_gram_kernel(
    kind: Kind,
    pointers: Tensor,  # [P·T] int64
    segments: Tensor,  # [S, 3] int64
    pieces: Tensor,  # [programs, 3] int64
    partials: Tensor,  # [slots, ROWS, ROWS] float64
    num_objectives: int,
) -> None:
    """Writes the inner products of all parameters of one kind, piece by piece, to the slots of `partials`."""
    dtype, aligned = kind
    options = gram_options(partials.shape[-1])
    _gram_kernel[(len(pieces),)](
        pointers, segments, pieces, partials, T=num_objectives, ELEMENT=ELEMENTS[dtype], ALIGNED=aligned, **options
    )


def launch_add_kernel(partials: Tensor, bounds: Tensor, grams: Tensor) -> None:
    """Adds up partials [slots, ROWS, ROWS], whose groups bounds [K + 1] tells, into grams [K, T, T]."""
    num_groups, num_objectives, _ = grams.shape
    options = add_options(partials.shape[-1])
    _add_kernel[(num_groups * num_objectives,)](partials, bounds, grams, T=num_objectives, **options)
