"""The kernels of MLA's update, one for each reading of the projector; every program of the second finds the step."""

import triton
import triton.language as tl

from gmd_kernels.triton_ops.tiles import rounded, widened


@triton.jit
def _input_kernel(
    projector,  # [d, d] float32 or float64
    grad,  # [C, d], of any type and strides
    mean_input,  # [d], of the projector's type
    k,  # [d] float64, out: the projector times the mean input
    left,  # [C, d], out: the gradient in the projector's type
    flaws,  # [programs], out: NaN if there is a NaN or Inf in this program's columns of the gradient, else 0
    d,
    classes,
    class_stride,
    input_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Multiplies some of the projector's rows with the input, and looks through as many columns of the gradient."""
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.full([ROWS], 0, tl.float64)
    first = 0
    while first < d:
        j = first + tl.arange(0, COLUMNS)
        there = (i < d)[:, None] & (j < d)[None, :]
        p = tl.load(projector + i[:, None] * d + j[None, :], mask=there, other=0.0)
        h = tl.load(mean_input + j, mask=j < d, other=0.0)
        total += tl.sum(p.to(tl.float64) * h.to(tl.float64)[None, :], axis=1)
        first += COLUMNS
    tl.store(k + i, total, mask=i < d)
    flaw = tl.full([ROWS], 0, tl.float64)
    first = 0
    while first < classes:
        c = first + tl.arange(0, CLASSES)
        there = (c < classes)[:, None] & (i < d)[None, :]
        at = grad + c.to(tl.int64)[:, None] * class_stride + i[None, :] * input_stride
        g = widened(tl.load(at, mask=there, other=0.0))
        tl.store(left + c.to(tl.int64)[:, None] * d + i[None, :], g.to(left.dtype.element_ty), mask=there)
        flaw += tl.sum(tl.where(g - g == 0, 0.0, float("nan")).to(tl.float64), axis=0)
        first += CLASSES
    tl.store(flaws + tl.program_id(0), tl.sum(flaw, axis=0))


@triton.jit
def _step_factor(k, mean_input, flaws, d, num_flaws, alpha, BLOCK: tl.constexpr):
    """Returns what k is multiplied with, and 1 if all is finite, else 0."""
    along = tl.full([BLOCK], 0, tl.float64)
    first = 0
    while first < d:
        i = first + tl.arange(0, BLOCK)
        h = tl.load(mean_input + i, mask=i < d, other=0.0).to(tl.float64)
        along += tl.load(k + i, mask=i < d, other=0.0) * h
        first += BLOCK
    total = tl.sum(along, axis=0)
    flaw = tl.full([BLOCK], 0, tl.float64)
    first = 0
    while first < num_flaws:
        i = first + tl.arange(0, BLOCK)
        flaw += tl.load(flaws + i, mask=i < num_flaws, other=0.0)
        first += BLOCK
    finite = (total - total == 0) & (tl.sum(flaw, axis=0) == 0)
    # below 0 there are rounding errors alone: of a positive semi-definite projector k is 0 there
    forward = finite & (total > 0)
    return tl.where(forward, 1 / tl.sqrt(tl.where(forward, alpha + total, 1.0)), 0.0), tl.where(finite, 1, 0)


@triton.jit
def _update_kernel(
    projector,  # [d, d], in and out
    grad,  # [C, d], out
    mean_input,  # [d]
    k,  # [d] float64
    left,  # [C, d]
    flaws,  # [num_flaws]
    alpha,  # [1] float64
    d,
    classes,
    class_stride,
    input_stride,
    num_flaws,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Updates some columns of both: all of the projector's rows pass, and the first classes take the step with them."""
    factor, sound = _step_factor(k, mean_input, flaws, d, num_flaws, tl.load(alpha), BLOCK)
    element = projector.dtype.element_ty
    j = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    step_j = (tl.load(k + j, mask=j < d, other=0.0) * factor).to(element)
    first_class = 0
    while first_class < classes:
        c = first_class + tl.arange(0, CLASSES)
        total = tl.full([CLASSES, COLUMNS], 0, element)
        first = 0
        while first < d:
            i = (first + tl.arange(0, ROWS)).to(tl.int64)
            there = (i < d)[:, None] & (j < d)[None, :]
            at = projector + i[:, None] * d + j[None, :]
            p = tl.load(at, mask=there, other=0.0)
            if first_class == 0:
                step_i = (tl.load(k + i, mask=i < d, other=0.0) * factor).to(element)
                p -= step_i[:, None] * step_j[None, :]  # entry (i, j) as entry (j, i): the same bits
                tl.store(at, p, mask=there & (sound == 1))
            of_left = left + c.to(tl.int64)[:, None] * d + i[None, :]
            w = tl.load(of_left, mask=(c < classes)[:, None] & (i < d)[None, :], other=0.0)
            total = tl.dot(w, p, total, input_precision="ieee", out_dtype=element)
            first += ROWS
        tl.debug_barrier()  # the next classes read what other threads have written
        result = rounded(tl.where(sound == 1, total, float("nan")).to(element), grad.dtype.element_ty)
        at = grad + c.to(tl.int64)[:, None] * class_stride + j[None, :] * input_stride
        tl.store(at, result, mask=(c < classes)[:, None] & (j < d)[None, :])
        first_class += CLASSES
