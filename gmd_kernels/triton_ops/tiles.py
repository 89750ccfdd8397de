"""Reading tiles of gradients, and numbers of every type, for the kernels."""

import torch
import triton
import triton.language as tl

ELEMENTS = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float64: tl.float64,
}


@triton.jit
def widened(x):
    """Returns 16-bit types as float32, exactly, and other types as they are."""
    if x.dtype.is_bf16():  # the upper half of float32; Triton's interpreter would lose subnormal numbers
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    elif x.dtype.is_fp16():
        x = x.to(tl.float32)
    return x


@triton.jit
def rounded(x, ELEMENT: tl.constexpr):
    """Rounds float32, or the type itself, to the nearest number of the type."""
    if ELEMENT.is_bf16():  # Triton's interpreter would cut off
        bits = x.to(tl.uint32, bitcast=True)
        bits = tl.where(x != x, 0x7FC00000, bits + 0x7FFF + ((bits >> 16) & 1))  # ties to even
        x = (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        x = x.to(ELEMENT)
    return x


@triton.jit
def load_tile(
    addresses,  # [ROWS] int64; zero for a row of zeros
    tile,  # the elements from tile * BLOCK on
    end,  # behind the last element
    ELEMENT: tl.constexpr,
    ALIGNED: tl.constexpr,  # all addresses are multiples of 16
    BLOCK: tl.constexpr,
):
    """Returns [ROWS, BLOCK] float64; zeros behind the end."""
    rows = addresses.to(tl.pointer_type(ELEMENT))
    if ALIGNED:
        rows = tl.multiple_of(rows, 16)  # bytes: as many are loaded at once
    offsets = tile * BLOCK + tl.arange(0, BLOCK)
    pointers = rows[:, None] + offsets[None, :]
    mask = (addresses != 0)[:, None]
    if (tile + 1) * BLOCK <= end:  # a mask along the row would make the compiler load elements one by one
        x = tl.load(pointers, mask=mask, other=0.0)
    else:
        x = tl.load(pointers, mask=mask & (offsets < end)[None, :], other=0.0)
    return widened(x).to(tl.float64)


@triton.jit
def store_tile(
    address,  # int64
    x,  # [BLOCK] float64
    tile,  # to the elements from tile * BLOCK on
    end,  # behind the last element
    ELEMENT: tl.constexpr,
    ALIGNED: tl.constexpr,  # the address is a multiple of 16
    BLOCK: tl.constexpr,
):
    """Rounds to the nearest; to 16 bits by way of float32, as no processor goes from float64 to bfloat16 at once."""
    if not ELEMENT.is_fp64():
        x = x.to(tl.float32)
    x = rounded(x, ELEMENT)
    target = address.to(tl.pointer_type(ELEMENT))
    if ALIGNED:
        target = tl.multiple_of(target, 16)
    offsets = tile * BLOCK + tl.arange(0, BLOCK)
    if (tile + 1) * BLOCK <= end:
        tl.store(target + offsets, x)
    else:
        tl.store(target + offsets, x, mask=offsets < end)
