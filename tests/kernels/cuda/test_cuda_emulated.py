"""gram and combine in the emulator, against float64 on the same rounded inputs."""

import pytest
import torch

from helpers import cuda_emulator as emulator
from helpers.assertions import assert_combined, assert_gram
from helpers.cuda_emulator import UNIT_BYTES, assert_same, combine, device, given, gram, order_of, surgery
from helpers.kernel_cases import DTYPES, OBJECTIVES, SHAPES, make_grads, make_weights

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

every_type = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# around what a lane, a unit, the windows of 4, 6 and 7 units of a warp, and a round of the eight warps take
SIZES = [1, 2, 7, 8, 9, 31, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 896, 1023, 1025, 4097, 8193]
MIXED = [(3, 5), (17,), (), (0,), (515,), (64, 33, 3), (1,), (2048,)]


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)


# gram and combine


@every_type
@pytest.mark.parametrize("num_objectives", OBJECTIVES)
def test_every_number_of_objectives(dtype, num_objectives):
    grads = make_grads(num_objectives, dtype=dtype)
    found = gram(grads, on=device(3))
    assert torch.equal(found, found.T)
    assert_gram(grads, found)
    for w in (make_weights(num_objectives), make_weights(len(SHAPES), num_objectives)):
        merged = combine(grads, w, on=device(3))
        assert_combined(grads, w, merged)


@every_type
@pytest.mark.parametrize("num_objectives", [1, 3, 7, 15, 18])
def test_every_size(dtype, num_objectives):
    """A group for each parameter: an error in the smallest one does not drown in the others."""
    grads = make_grads(num_objectives, shapes=[(n,) for n in SIZES], absent=0.1, dtype=dtype)
    groups = list(range(len(SIZES)))
    assert_gram(grads, gram(grads, groups, on=device(2)), groups)
    w = make_weights(len(SIZES), num_objectives)
    for p, merged in enumerate(combine(grads, w, on=device(2))):
        assert_combined([[row[p]] for row in grads], w[p], [merged], what=SIZES[p])


@pytest.mark.parametrize("num_objectives", [4, 7, 16, 33])
def test_types_may_differ_between_parameters(num_objectives):
    columns = [make_grads(num_objectives, [(3301,), (7, 5)], seed=s, dtype=dtype) for s, dtype in enumerate(DTYPES)]
    grads = [[g for row in rows for g in row] for rows in zip(*columns, strict=True)]
    assert_gram(grads, gram(grads))
    w = make_weights(num_objectives)
    assert_combined(grads, w, combine(grads, w))


@every_type
@pytest.mark.parametrize("num_objectives", [3, 8, 15, 20])
def test_unaligned_gradients_and_results(dtype, num_objectives):
    """Each objective at another distance from a multiple of 16 bytes; the other parameter is aligned."""

    def shifted(g, by):
        return g.new_full([g.numel() + by], torch.nan)[by:].copy_(g)

    grads = make_grads(num_objectives, shapes=[(2000,), (1500,)], absent=0.1, dtype=dtype)
    grads = [[None if row[0] is None else shifted(row[0], k % 3), row[1]] for k, row in enumerate(grads)]
    assert_gram(grads, gram(grads))
    w = make_weights(num_objectives)
    out = [shifted(torch.full((2000,), torch.nan, dtype=dtype), 1), torch.full((1500,), torch.nan, dtype=dtype)]
    assert_combined(grads, w, combine(grads, w, out))


@every_type
def test_only_results_unaligned(dtype):
    grads = make_grads(5, shapes=[(700,)], absent=0, dtype=dtype)
    out = [torch.full((701,), torch.nan, dtype=dtype)[1:]]
    assert_combined(grads, make_weights(5), combine(grads, make_weights(5), out))


def test_gradients_are_not_written_to():
    grads = make_grads(15, shapes=MIXED)
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    gram(grads)
    combine(grads, make_weights(15))
    surgery(grads, given(order_of(15)))
    for row, copies in zip(grads, before, strict=True):
        assert_same(row, copies)


@pytest.mark.parametrize("num_objectives", [5, 20])
def test_what_is_absent_counts_as_zeros(num_objectives):
    grads = make_grads(num_objectives, absent=0.7)
    zeros = [[torch.zeros(shape) if g is None else g for g, shape in zip(row, SHAPES, strict=True)] for row in grads]
    assert_gram(zeros, gram(grads))
    assert_gram(zeros, gram(zeros))


@pytest.mark.parametrize("num_objectives", [2, 17])
def test_nothing_at_all(num_objectives):
    for grads in ([[None, None]] * num_objectives, [[torch.zeros(0)]] * num_objectives, [[]] * num_objectives):
        assert not gram(grads, on=device(4)).any()
        combine(grads, make_weights(num_objectives))


@every_type
def test_zeros_where_no_objective_reaches(dtype):
    out = [torch.full((300,), torch.nan, dtype=dtype), torch.full((5,), torch.nan, dtype=dtype)]
    combine([[None, torch.ones(5, dtype=dtype)], [None, None]], torch.ones(2, dtype=torch.float64), out)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    assert torch.equal(out[1], torch.ones_like(out[1]))
    out[0].fill_(torch.nan)
    surgery([[None, torch.ones(5, dtype=dtype)], [None, None]], given(order_of(2)), out)
    assert torch.equal(out[0], torch.zeros_like(out[0]))


@every_type
@pytest.mark.parametrize("which", [0, 4])
def test_a_result_over_a_gradient(dtype, which):
    order = given(order_of(9))
    for with_kernel in (lambda g, out: combine(g, make_weights(9), out), lambda g, out: surgery(g, order, out)[0]):
        grads = make_grads(9, shapes=MIXED, absent=0, dtype=dtype)
        expected = with_kernel(grads, None)
        over = list(grads[which])
        assert_same(with_kernel(grads, over), expected)


@pytest.mark.parametrize("num_objectives", [2, 7, 15, 20])
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_groups(num_objectives, blocks):
    """Out of order, one without parameters, one of parameters that nothing reaches, one whose parameters are empty."""
    shapes = [(1000,), (3,), (0,), (5000,), (17,), (200,), (9000,)]
    groups = [2, 0, 4, 2, 5, 0, 7]
    grads = make_grads(num_objectives, shapes=shapes, absent=0.2)
    for row in grads:
        row[4] = None
    found = gram(grads, groups, on=device(blocks))
    assert found.shape[0] == 8
    assert_gram(grads, found, groups)
    assert not found[[1, 3, 4, 5, 6]].any()


def test_more_groups_than_the_blocks_have_units():
    shapes = [(40,)] * 60
    groups = [p * 7 % 60 for p in range(60)]
    grads = make_grads(3, shapes=shapes)
    assert_gram(grads, gram(grads, groups, on=device(132)), groups)


@pytest.mark.parametrize("rows", ["stride 0", "columns first", "every second"])
def test_strides_of_weights(rows):
    grads, w = make_grads(6), make_weights(len(SHAPES), 6)
    strided = {
        "stride 0": w[:1].expand(len(SHAPES), -1),
        "columns first": w.T.contiguous().T,
        "every second": torch.stack([w, w + torch.nan], dim=2).flatten(1)[:, ::2],
    }[rows]
    assert_combined(grads, strided, combine(grads, strided))


# Magnitudes


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("num_objectives", [3, 7, 15, 18])
@pytest.mark.parametrize("magnitude", [1e-40, 1e-30, 1e-18, 1e-9, 1e9, 1e15, 1e19, 1e37])
def test_every_scale(dtype, num_objectives, magnitude):
    grads = make_grads(num_objectives, absent=0, scales=magnitude, dtype=dtype)
    found = gram(grads)
    assert found.diagonal().min() > 0
    assert_gram(grads, found)
    w = make_weights(num_objectives).abs() / num_objectives
    assert_combined(grads, w, combine(grads, w))


@pytest.mark.parametrize("num_objectives", [3, 9, 20])
@pytest.mark.parametrize("exponent", [-24, -14, 13])
def test_every_scale_of_float16(num_objectives, exponent):
    grads = make_grads(num_objectives, absent=0, scales=2.0**exponent, dtype=torch.float16)
    assert_gram(grads, gram(grads))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_objectives_of_different_scales(dtype, times):
    scales = [1.0, 1e-40, 1e-9, 1e30, 1e13, 1e-25, 1e5, 1e20, 1e-6, 1e-30, 1e12, 1e37] * times
    grads = make_grads(len(scales), shapes=[(9000,), (70,), (3,)], absent=0, dtype=torch.float64)
    grads = [[(scale * g).to(dtype) for g in row] for scale, row in zip(scales, grads, strict=True)]
    assert_gram(grads, gram(grads))


@every_type
@pytest.mark.parametrize("num_objectives", [9, 18])
def test_scales_that_change_along_a_gradient(dtype, num_objectives):
    """Stretches of zeros, of numbers whose squares vanish, of ordinary ones, in an order of each objective's own."""
    grads = make_grads(num_objectives, shapes=[(9, 1500)], absent=0, dtype=torch.float64)
    scales = torch.tensor([0, 1, 0, 1e-25, 1, 1e-30, 0, 0, 1e3]).double()
    if dtype is torch.float16:
        scales[[3, 5]] = 1e-6
    grads = [[(scales.roll(k)[:, None] * row[0]).to(dtype)] for k, row in enumerate(grads)]
    assert_gram(grads, gram(grads, on=device(1)))


@every_type
@pytest.mark.parametrize("num_objectives", [3, 9, 18])
def test_gradients_of_zeros(dtype, num_objectives):
    grads = make_grads(num_objectives, absent=0, dtype=dtype)
    grads[0] = [torch.zeros_like(g) for g in grads[0]]
    grads[-1] = [-torch.zeros_like(g) for g in grads[-1]]
    found = gram(grads)
    assert not found[0].any()
    assert not found[-1].any()
    assert_gram(grads, found)


@every_type
@pytest.mark.parametrize("num_objectives", [3, 7, 9, 18])
@pytest.mark.parametrize("numel", [70, 3000, 20_000])
def test_gradients_that_are_one_number_throughout(dtype, num_objectives, numel):
    """Every lane errs in the same direction."""
    values = [0.1, -1.8351, 1.0257, 3.3333, 1.9414, -1.998, 1.0, 0.7071, 5.5] * 2
    grads = [[torch.full((numel,), v, dtype=dtype)] for v in values[:num_objectives]]
    assert_gram(grads, gram(grads), worst=True)


@every_type
@pytest.mark.parametrize("num_objectives", [3, 9])
def test_sums_that_swallow_what_is_added_to_them(dtype, num_objectives):
    """A 1 first in every lane's sum, then numbers whose squares are less than half a unit in its last place."""
    units = torch.full((56, UNIT_BYTES // dtype.itemsize), 2.0**-12 * (1 - 2**-6), dtype=torch.float64)
    units[:8, :: 16 // dtype.itemsize] = 1
    grads = [[units.flatten().to(dtype)] for _ in range(num_objectives)]
    assert_gram(grads, gram(grads, on=device(1)), worst=True)


@pytest.mark.parametrize("num_objectives", [2, 9, 20])
def test_the_sign_of_a_small_inner_product(num_objectives):
    g = torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    swapped = torch.stack([g[1::2], -g[::2]], dim=1).reshape(-1)  # orthogonal to g, but for the nudge
    swapped[0] += 3.0 / g[0]
    expected = float(swapped.double() @ g.double())
    found = gram([[g]] + [[swapped]] * (num_objectives - 1))[0, -1].item()
    assert abs(found - expected) <= 1e-6 * float(g.double() @ g.double())


# NaN and Inf


@every_type
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("num_objectives", [1, 4, 9, 18])
def test_a_bad_element_shows_on_the_diagonal_and_with_no_other_objective(dtype, bad, num_objectives):
    k = num_objectives // 2
    others = torch.arange(num_objectives) != k
    for numel, position in [(1, 0), (3000, 0), (3000, 513), (3000, 2999)]:
        grads = make_grads(num_objectives, shapes=[(5,), (numel,)], absent=0, dtype=dtype)
        grads[k][1][position] = bad
        found = gram(grads, [0, 1])
        assert not found[1][k, k].isfinite(), (numel, position)
        assert found[1][others][:, others].isfinite().all(), (numel, position)
        assert found[0].isfinite().all()
        merged = combine(grads, torch.ones(num_objectives, dtype=torch.float64))[1]
        assert (~merged.isfinite()).nonzero().tolist() == [[position]]


# Rounding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_keep_their_value(dtype):
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    numbers = numbers[~numbers.isnan()].clone()
    assert torch.equal(combine([[numbers]], torch.ones(1, dtype=torch.float64))[0], numbers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("beside", [0.0, 2.0**-40, -(2.0**-40)])
def test_results_of_16_bits_are_rounded_once(dtype, beside):
    """Between 1 and 1 + eps: what float32 takes for the middle is above or below it."""
    eps = torch.finfo(dtype).eps
    grads = [[torch.ones(9, dtype=dtype)], [torch.full((9,), eps / 2, dtype=dtype)]]
    merged = combine(grads, torch.tensor([1.0, 1.0 + beside], dtype=torch.float64))[0]
    assert merged.tolist() == [1.0 + eps if beside > 0 else 1.0] * 9
    grads[0][0].fill_(1 + eps)  # whose neighbour above is the even one
    merged = combine(grads, torch.tensor([1.0, 1.0 + beside], dtype=torch.float64))[0]
    assert merged.tolist() == [1.0 + eps if beside < 0 else 1.0 + 2 * eps] * 9


@every_type
def test_weights_beyond_float32(dtype):
    small = 2.0**-24 if dtype is torch.float16 else 2.0**-130
    ones = torch.ones(700, dtype=dtype)
    grads = [[ones], [small * ones], [small * ones], [ones]]
    w = torch.tensor([1.0, 3e39, -3e39 + 2 / small, 0.0], dtype=torch.float64)
    assert_combined(grads, w, combine(grads, w))


def test_a_combination_beyond_the_type_is_infinite():
    grads = [[torch.tensor([60000.0, 60000, -60000, 1]).half()] for _ in range(2)]
    merged = combine(grads, torch.ones(2, dtype=torch.float64))[0]
    assert merged.tolist() == [torch.inf, torch.inf, -torch.inf, 2]
    large = [[torch.full((300,), 3e38).bfloat16()] for _ in range(4)]
    assert combine(large, torch.ones(4, dtype=torch.float64))[0].eq(torch.inf).all()
