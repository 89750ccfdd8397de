"""The fused norm's Triton kernels in the interpreter: values, slots and tiles, places, what is never read."""

import sys
from dataclasses import replace

import pytest
import torch

from helpers.assertions import assert_same_bits, assert_within
from helpers.kernel_cases import BACKENDS, LAYOUTS
from helpers.norm_oracle import (
    EPS,
    Case,
    backward_errors,
    forward_error,
    make_case,
    passes_the_nan,
    statistics,
    with_nan,
)

if "triton" not in BACKENDS:
    pytest.skip("Triton's interpreter is off, as where there is a GPU", allow_module_level=True)

import triton
import triton.language as tl

from gmd_kernels.triton_ops import group_norm_relu, group_norm_relu_backward
from gmd_kernels.triton_ops import group_norm_relu_kernel as kernels

norm = sys.modules[group_norm_relu.__module__]  # the package's function hides the module of its name
FLOAT, BF16, HALF, DOUBLE = torch.float32, torch.bfloat16, torch.float16, torch.float64


@pytest.fixture(autouse=True)
def poisoned():
    """What nobody writes is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that small volumes too are cut into several slots of several tiles."""
    monkeypatch.setattr(norm, "TILE", 32)
    monkeypatch.setattr(norm, "ADDED", 8)
    monkeypatch.setattr(norm, "PROGRAMS", 9)


def run(case, needs_x=True):
    """-> y, mean, rstd and dx, dweight, dbias"""
    arguments = case.x, case.weight, case.bias, case.rows
    y, mean, rstd = group_norm_relu(*arguments, case.groups, EPS)
    return (y, mean, rstd), group_norm_relu_backward(case.grad, *arguments, mean, rstd, needs_x)


def check(case):
    (y, mean, rstd), (dx, dweight, dbias) = run(case)
    assert y.dtype == dx.dtype == case.x.dtype
    assert mean.dtype == rstd.dtype == dweight.dtype == dbias.dtype == case.weight.dtype
    assert_within(forward_error(case, y))
    assert_within(*backward_errors(case, dx, dweight, dbias))
    return y, dx


LATER = pytest.mark.interpreted
CASES = {
    "last, bf16": ((3, 6, 3, 3, 5), 2, [2, 0, 2], 4, BF16, True),
    "first, float32": ((2, 4, 3, 3, 5), 2, [1, 1], 2, FLOAT, False),
    "last, float32": ((2, 12, 4, 4, 5), 4, [1, 0], 2, FLOAT, True),
    "last, float16": ((2, 5, 9, 7), 1, [0, 0], 1, HALF, True),
    "last, float64": ((2, 20, 31), 4, [0, 1], 2, DOUBLE, True),
    "first, bf16": ((2, 4, 8, 8), 2, [1, 0], 3, BF16, False),
    "first, float16": ((1, 6, 5, 5), 6, [0], 1, HALF, False),
    "first, float64": ((2, 3, 41), 1, [0, 1], 2, DOUBLE, False),
    "one voxel": ((3, 8), 2, [0, 1, 2], 3, FLOAT, False),
    "one channel": ((2, 1, 3, 33), 1, [0, 0], 1, FLOAT, False),
    "a group for each channel": ((2, 7, 50), 7, [0, 1], 2, FLOAT, True),
    "more channels than a tile has": ((2, 150, 9), 2, [1, 0], 2, BF16, True),
    "several samples": ((5, 4, 5), 2, [2, 0, 2, 1, 0], 4, FLOAT, True),
}
FIRST = ("last, bf16", "first, float32", "several samples")  # the others with -m interpreted


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FIRST else LATER) for name in CASES])
def test_values(name):
    case = make_case(*CASES[name])
    y, dx = check(case)
    assert y.stride() == dx.stride() == case.x.stride()


@pytest.mark.parametrize("last", [pytest.param(False, marks=LATER), True])
@pytest.mark.parametrize("dtype", [FLOAT, pytest.param(DOUBLE, marks=LATER)])
def test_values_far_from_zero(last, dtype):
    """Sums of squares would lose all of the spread, and one voxel at zero must not become the origin of the others."""
    case = make_case((1, 2, 3, 30), 1, [0], 1, dtype, last, middle=1000.0)
    check(case)
    case.x[:, :, 0, 0] = 0
    (_, *results), _ = run(case)
    for result, expected in zip(results, statistics(case.x, case.groups), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("last", [False, True])
def test_slots_and_tiles(last, monkeypatch):
    """However the voxels are cut: one slot of many tiles, many of one, the last shorter than the others."""
    for programs, tile, slots in ((1, 8, 1), (1000, 16, 6 if last else 3), (4, 16, 3 if last else 2), (1, 4096, 1)):
        monkeypatch.setattr(norm, "PROGRAMS", programs)
        monkeypatch.setattr(norm, "TILE", tile)
        case = make_case((1, 2, 45), 1, [0], 1, FLOAT, last)
        cut = norm._cut(case.x, 1)
        assert cut.slots == slots
        assert (cut.slots - 1) * cut.span < 45 <= cut.slots * cut.span
        check(case)


def test_the_device_is_kept_busy_by_one_large_sample(monkeypatch):
    """And by many small ones, which need not be cut."""
    for name, value in (("TILE", 2048), ("PROGRAMS", 16), ("multiprocessors", lambda device: 132)):
        monkeypatch.setattr(norm, name, value)
    volume = torch.empty(1, 16, 128, 128, 128, device="meta", memory_format=torch.channels_last_3d)
    assert 16 * 132 / 2 <= norm._cut(volume, 8).grid[0] <= 16 * 132
    several = torch.empty(15, 256, 8, 8, 8, device="meta", memory_format=torch.channels_last_3d)
    assert norm._cut(several, 8).grid[0] >= 4 * 132
    assert norm._cut(torch.empty(4096, 2, 8, 8, device="meta"), 1).slots == 1


@pytest.mark.parametrize(
    "layout", ["permuted", pytest.param("every_second", marks=LATER), "odd_strides", "padded", "negated"]
)
def test_other_strides_are_copied(layout):
    """Those of the gradient are its own."""
    case = make_case((1, 4, 3, 5), 2, [0], 1)
    expected = run(case)
    assert_same_bits(run(replace(case, x=LAYOUTS[layout](case.x))), expected)
    assert_same_bits(run(replace(case, grad=LAYOUTS[layout](case.grad))), expected)


def test_a_gradient_of_the_other_layout_and_an_expanded_one():
    case = make_case((2, 4, 3, 5), 2, [0, 0], 1, last=True)
    case.grad = case.grad.contiguous()
    check(case)
    case = make_case((1, 2, 5), 1, [0], 1)
    case.grad = torch.tensor(0.5).expand(case.x.shape)
    assert_same_bits(run(replace(case, grad=case.grad.contiguous())), run(case))


def test_tables_and_rows_of_any_strides():
    case = make_case((3, 4, 5), 2, [2, 0, 2], 3)
    expected = run(case)
    case.weight, case.bias = LAYOUTS["permuted"](case.weight), LAYOUTS["negated"](case.bias)
    case.rows = torch.stack([case.rows, case.rows], dim=1)[:, 0]
    assert_same_bits(run(case), expected)


def test_a_row_that_nobody_takes_gets_zeros_and_is_not_read():
    case = make_case((2, 4, 9), 2, [2, 0], 3)
    case.weight[1], case.bias[1] = torch.nan, torch.nan
    (y, _, _), (dx, dweight, dbias) = run(case)
    assert not dweight[1].any()
    assert not dbias[1].any()
    assert all(t.isfinite().all() for t in (y, dx, dweight, dbias))


def test_without_the_gradient_of_x():
    case = make_case((2, 4, 9), 2, [0, 0], 1)
    _, (dx, dweight, dbias) = run(case, needs_x=False)
    assert dx is None
    assert_within(*backward_errors(case, dx, dweight, dbias))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_comes_out_as_nan(bad):
    """In its own group of its own sample, and nowhere else."""
    case = make_case((2, 4, 9), 2, [0, 0], 1, last=True)
    case.x[1, 3, 4] = bad
    (y, _, rstd), (dx, dweight, _) = run(case)
    for result in (y, dx):
        assert result[1, 2:].isnan().all()
        assert result[0].isfinite().all()
        assert result[1, :2].isfinite().all()
    assert rstd.isnan().tolist() == [[False, False], [False, True]]
    assert dweight.isnan().tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("which", ["x", "weight", "bias"])
def test_the_gradient_passes_a_nan(which, last):
    """As through torch's ReLU, so that a loss of NaN leaves no finite gradients."""
    case = with_nan(make_case((2, 4, 9), 2, [1, 0], 2, last=last), which)
    _, grads = run(case)
    assert passes_the_nan(case, *grads)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0), (0, 4)])
def test_nothing_at_all(shape):
    rows, table = torch.zeros(shape[0], dtype=torch.int64), torch.ones(2, 4)
    case = Case(torch.ones(shape), table, table, rows, 2, torch.ones(shape))
    (y, mean, rstd), (dx, dweight, dbias) = run(case)
    assert y.shape == dx.shape == shape
    assert mean.shape == rstd.shape == (shape[0], 2)
    assert not dweight.any()
    assert not dbias.any()


@triton.jit
def _where(begins, first, sample, voxels, C: tl.constexpr, LAST: tl.constexpr, CHANNELS: tl.constexpr):
    begin, _, inside = kernels._tile(sample.to(tl.int64), first.to(tl.int64), 0, voxels, C, LAST, CHANNELS, 32)
    tl.store(begins, begin)
    tl.store(begins + 1, tl.sum(inside.to(tl.int64)))


@pytest.mark.parametrize("last", [False, True])
def test_places_beyond_two_to_the_32(last):
    """Of a batch that is not there: 64-bit indices find its last tile."""
    begins, voxels, sample = torch.zeros(2, dtype=torch.int64), 2**21 + 5, 1000
    tile = voxels // 32
    _where[(1,)](begins, tile, sample, voxels, C=16, LAST=last, CHANNELS=16 if last else 1)
    channel_stride = 16 if last else 1
    expected = sample * voxels * 16 + tile * 32 * channel_stride
    assert begins.tolist() == [expected, 5 * (16 if last else 1)]
