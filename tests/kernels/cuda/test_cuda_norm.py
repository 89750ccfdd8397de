"""The CUDA kernels of group_norm_relu in the emulator, against float64 on the same rounded inputs."""

from dataclasses import replace

import pytest
import torch

from helpers import cuda_emulator as emulator
from helpers.assertions import assert_same_bits, assert_within
from helpers.emulated_norm import Norm, Results
from helpers.norm_oracle import (
    Case,
    backward_errors,
    forward_error,
    make_case,
    passes_the_nan,
    statistics,
    with_nan,
)

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))
FLOAT, BF16, HALF, DOUBLE = torch.float32, torch.bfloat16, torch.float16, torch.float64


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)


def check(case: Case, multiprocessors: int = 2, rows: bool = True) -> Results:
    found = Norm(case, multiprocessors, rows).run()
    assert_within(forward_error(case, found.y))
    assert_within(*backward_errors(case, *found[3:]))
    return found


# shape, groups, rows, number of rows, type, whether the channels lie together
CASES = {
    "together, bf16": ((3, 16, 3, 3, 5), 2, [2, 0, 2], 4, BF16, True),
    "together, float32": ((2, 12, 9, 4, 5), 4, [1, 0], 2, FLOAT, True),
    "together, float16": ((2, 8, 9, 70), 1, [0, 0], 1, HALF, True),
    "together, float64": ((2, 20, 31), 4, [0, 1], 2, DOUBLE, True),
    "apart, float32": ((2, 4, 4, 3, 50), 2, [1, 1], 2, FLOAT, False),
    "apart, bf16": ((2, 4, 8, 32), 2, [1, 0], 3, BF16, False),
    "apart, float16": ((1, 6, 8, 31), 6, [0], 1, HALF, False),
    "apart, float64": ((2, 3, 42), 1, [0, 1], 2, DOUBLE, False),
    "odd channels, bf16": ((2, 5, 9, 70), 5, [0, 1], 2, BF16, True),
    "odd channels, float16": ((1, 33, 7, 7), 3, [0], 1, HALF, True),
    "odd voxels, bf16": ((2, 3, 7, 5), 1, [0, 0], 1, BF16, False),
    "odd voxels, float32": ((2, 3, 23, 23), 3, [1, 0], 2, FLOAT, False),
    "odd voxels, float64": ((1, 2, 23, 23), 1, [0], 1, DOUBLE, False),
    "one voxel": ((3, 8), 2, [0, 1, 2], 3, FLOAT, False),
    "one voxel, odd": ((3, 9), 3, [0, 1, 2], 3, BF16, False),
    "one channel": ((2, 1, 3, 33), 1, [0, 0], 1, FLOAT, False),
    "one channel, together": ((2, 1, 1, 2000), 1, [0, 0], 1, FLOAT, True),
    "a group for each channel": ((2, 8, 50), 8, [0, 1], 2, FLOAT, True),
    "several blocks beside each other": ((2, 320, 9), 8, [1, 0], 2, BF16, True),
    "groups across blocks": ((1, 288, 9), 2, [0], 1, FLOAT, True),
    "groups of several blocks": ((1, 512, 5), 1, [0], 1, FLOAT, True),
    "groups that end in no block": ((1, 420, 4), 3, [0], 1, FLOAT, True),
    "several samples": ((5, 4, 5), 2, [2, 0, 2, 1, 0], 4, FLOAT, True),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    check(make_case(*CASES[name]))


def test_every_way_to_share_the_channels():
    """That the cases above have blocks and domains of every kind."""
    cuts = {name: Norm(make_case(*CASES[name])).cut() for name in CASES}
    assert {cut.elements for cut in cuts.values()} == {1, 2, 4, 8}
    assert cuts["several blocks beside each other"].chunks == 2
    assert cuts["several blocks beside each other"].domain == cuts["several blocks beside each other"].width == 160
    assert (cuts["groups of several blocks"].domain, cuts["groups of several blocks"].width) == (512, 128)
    assert cuts["groups that end in no block"].domains == 1
    assert cuts["groups that end in no block"].chunks == 4
    assert cuts["apart, bf16"].domains == 2
    assert any(cut.slots > 1 for cut in cuts.values())


@pytest.mark.parametrize("multiprocessors", [1, 3, 40])
@pytest.mark.parametrize("together", [False, True])
def test_slots(together, multiprocessors):
    """However the voxels are cut: few slots of many steps, or many of one; the last shorter than the others."""
    case = make_case((1, 4, 20_003 if together else 20_004), 2, [0], 1, FLOAT, together)
    cut = Norm(case, multiprocessors).cut()
    assert (cut.slots - 1) * cut.span < cut.length <= cut.slots * cut.span
    assert cut.slots > multiprocessors or cut.span == cut.rows
    check(case, multiprocessors)


def test_the_device_is_kept_busy_by_one_large_sample():
    """And many small ones are not cut."""
    volume = Case(torch.empty(1, 16, 128, 128, 128, device="meta"), *([torch.empty(1, 16)] * 2), torch.zeros(1), 8, 0)
    for shape, groups, blocks in (((1, 2_097_152, 16), 8, 12 * 132), ((15, 512, 256), 8, 4 * 132)):
        samples, voxels, channels = shape
        norm = Norm(replace(volume, x=torch.empty(1, 8, 1), grad=torch.empty(1), weight=torch.empty(1, 8)), 132)
        norm.shape.samples, norm.shape.voxels, norm.shape.channels, norm.shape.groups = (
            samples,
            voxels,
            channels,
            groups,
        )
        norm.shape.type, norm.shape.together, norm.shape.aligned = 2, 1, 1
        assert blocks / 2 <= norm.cut().blocks <= 12 * 132 + samples
    norm.shape.samples, norm.shape.voxels = 4096, 64
    assert norm.cut().slots == 1


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
def test_values_far_from_zero(together, dtype):
    """Sums of squares would lose all of the spread, and one voxel at zero must not become the origin of the others."""
    case = make_case((1, 4, 11, 300), 1, [0], 1, dtype, together, middle=1000.0)
    check(case)
    case.x[:, :, 0, 0] = 0
    found = Norm(case).run()
    for result, expected in zip((found.mean, found.rstd), statistics(case.x, case.groups), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=16 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("together", [False, True])
def test_a_constant_has_no_variance(together):
    case = make_case((1, 4, 8, 8), 2, [0], 1, FLOAT, together)
    case.x.fill_(0.1)
    found = Norm(case).run()
    torch.testing.assert_close(found.rstd, torch.full((1, 2), 1e-5**-0.5))
    torch.testing.assert_close(found.mean, torch.full((1, 2), 0.1), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["together, bf16", "apart, float32", "several blocks beside each other"])
def test_the_same_bits_in_any_order_of_threads(name):
    case, found = make_case(*CASES[name]), []
    for seed in range(6):
        emulator.seed(seed)
        found.append(Norm(case, 8).run())
        assert_same_bits(found[-1], found[0])


def test_unaligned_tensors_with_nothing_read_or_written_beside():
    case = make_case((2, 8, 30), 2, [1, 0], 2, BF16, True)
    around = torch.full((2, case.x.numel() + 2), torch.nan, dtype=BF16)
    x, grad = (line[1:-1].view(2, 30, 8).movedim(-1, 1) for line in around)
    x, grad = x.copy_(case.x), grad.copy_(case.grad)
    assert Norm(replace(case, x=x, grad=grad)).cut().elements == 1
    check(replace(case, x=x, grad=grad))
    assert around[:, [0, -1]].isnan().all()


def test_rows_that_are_not_given():
    for num_rows in (1, 3):
        case = make_case((3, 4, 20), 2, [min(k, num_rows - 1) for k in range(3)], num_rows)
        assert_same_bits(check(case, rows=False), check(case))


def test_a_row_that_nobody_takes_gets_zeros_and_is_not_read():
    case = make_case((2, 4, 9), 2, [2, 0], 3)
    case.weight[1], case.bias[1] = torch.nan, torch.nan
    found = Norm(case).run()
    assert not found.dweight[1].any()
    assert not found.dbias[1].any()
    assert all(t.isfinite().all() for t in found)


def test_without_the_gradient_of_x():
    case = make_case((2, 4, 9), 2, [0, 0], 1)
    found, whole = Norm(case).run(needs_x=False), Norm(case).run()
    assert found.dx is None
    assert_same_bits(found[4:], whole[4:])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("together", [False, True])
def test_what_is_not_finite_comes_out_as_nan(bad, together):
    """In its own group of its own sample, and nowhere else."""
    case = make_case((2, 4, 9), 2, [0, 0], 1, last=together)
    case.x[1, 3, 4] = bad
    found = Norm(case).run()
    for result in (found.y, found.dx):
        assert result[1, 2:].isnan().all()
        assert result[0].isfinite().all()
        assert result[1, :2].isfinite().all()
    assert found.rstd.isnan().tolist() == [[False, False], [False, True]]
    assert found.dweight.isnan().tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("which", ["x", "weight", "bias"])
def test_the_gradient_passes_a_nan(which, together):
    """As through torch's ReLU, so that a loss of NaN leaves no finite gradients."""
    case = with_nan(make_case((2, 4, 9), 2, [1, 0], 2, last=together), which)
    found = Norm(case).run()
    assert passes_the_nan(case, *found[3:])


def test_places_beyond_two_to_the_31():
    """64-bit indices: the largest volume's cut holds all of its rows, and its launch is of a size that there is."""
    norm = Norm(make_case((1, 16, 8), 8, [0], 1, BF16, True), 132)
    norm.shape.samples, norm.shape.voxels = 65, 2**31
    cut = norm.cut()
    assert cut.slots * cut.span >= cut.length == 2**31
    assert cut.blocks < 2**31
