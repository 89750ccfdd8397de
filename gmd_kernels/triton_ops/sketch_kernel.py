"""The kernel of the count sketch: a program adds up some blocks of a gradient in one range of buckets."""

import triton
import triton.language as tl

from gmd_kernels.triton_ops.tiles import widened


@triton.jit
def _draw(state, n):
    """Returns number n of SplitMix64 from a state on; both uint64."""
    x = state + (n + 1) * 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit(do_not_specialize=["seed"])
def _sketch_kernel(
    pointers,  # [P] int64
    blocks,  # [B, 3] int64: parameter, which of its blocks, elements of the parameter
    partials,  # [slices, d] of the sketch's type
    d,
    num_blocks,
    seed,
    ELEMENT: tl.constexpr,
    BLOCK: tl.constexpr,  # buckets
):
    bucket = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    slices = tl.num_programs(1)
    at = tl.program_id(1).to(tl.int64) * num_blocks // slices
    last = (tl.program_id(1).to(tl.int64) + 1) * num_blocks // slices
    total = tl.full([BLOCK], 0, partials.dtype.element_ty)
    while at < last:
        p = tl.load(blocks + 3 * at)
        block = tl.load(blocks + 3 * at + 1)
        numel = tl.load(blocks + 3 * at + 2)
        row = tl.load(pointers + p).to(tl.pointer_type(ELEMENT))
        key = _draw(tl.full([1], seed, tl.uint64), p.to(tl.uint64))
        rotation = (_draw(key, (2 * block + 1).to(tl.uint64)) >> 1).to(tl.int64) % d
        turned = bucket - rotation
        element = block * d + tl.where(turned < 0, turned + d, turned)
        x = widened(tl.load(row + element, mask=(bucket < d) & (element < numel), other=0.0)).to(total.dtype)
        word = _draw(key, (element // 64 * 2).to(tl.uint64))
        subtracted = (word >> (element % 64).to(tl.uint64)) & 1
        total += tl.where(subtracted == 1, -x, x)
        at += 1
    tl.store(partials + tl.program_id(1).to(tl.int64) * d + bucket, total, mask=bucket < d)
