"""gram and combine of every type, number of objectives and size against float64, on the same rounded inputs."""

import pytest
import torch

import gmd_kernels as gk
from helpers.assertions import assert_combined, assert_gram
from helpers.kernel_cases import DTYPES, FEWER_SIZES, OBJECTIVES, SHAPES, SIZES, make_grads, make_weights

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
every_type = pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)


@every_type
@pytest.mark.parametrize("num_objectives", OBJECTIVES)
def test_every_number_of_objectives(backend, dtype, num_objectives):
    grads = make_grads(num_objectives, dtype=dtype)
    gram = gk.gram(grads)
    assert gram.dtype == torch.float64
    assert gram.shape == (num_objectives, num_objectives)
    assert torch.equal(gram, gram.T)
    assert_gram(grads, gram, backend=backend)
    for weights in (make_weights(num_objectives), make_weights(len(SHAPES), num_objectives)):
        merged = gk.combine(grads, weights)
        assert_combined(grads, weights, merged)
        assert all(m is None or m.dtype == dtype for m in merged)


@every_type
@pytest.mark.parametrize("num_objectives", [1, 3, 7, 15])
def test_every_size(backend, dtype, num_objectives):
    """A group for each parameter: an error in the smallest one does not drown in the others."""
    sizes = FEWER_SIZES if backend == "triton" else SIZES
    grads = make_grads(num_objectives, shapes=[(n,) for n in sizes], absent=0.1, dtype=dtype)
    groups = range(len(sizes))
    assert_gram(grads, gk.gram(grads, groups), groups, backend=backend)
    weights = make_weights(num_objectives)
    for p, size in enumerate(sizes):
        alone = [[row[p]] for row in grads]
        assert_gram(alone, gk.gram(alone), what=size, backend=backend)
        assert_combined(alone, weights, gk.combine(alone, weights), what=size)


@every_type
@pytest.mark.parametrize("numel", [16383, 16384, 16385, 32767, 32769, 2**17 + 3])
def test_sizes_that_several_threads_share(backend, dtype, numel):
    grads = make_grads(9, shapes=[(numel,), (3,)], absent=0, dtype=dtype)
    assert_gram(grads, gk.gram(grads), backend=backend)
    assert_combined(grads, make_weights(9), gk.combine(grads, make_weights(9)))


@pytest.mark.parametrize("num_objectives", [1, 4, 5, 12])
def test_types_may_differ_between_parameters(backend, num_objectives):
    columns = [make_grads(num_objectives, [(301,), (7, 5)], seed=s, dtype=dtype) for s, dtype in enumerate(DTYPES)]
    grads = [[g for row in rows for g in row] for rows in zip(*columns, strict=True)]
    assert_gram(grads, gk.gram(grads), backend=backend)
    weights = make_weights(num_objectives)
    merged = gk.combine(grads, weights)
    assert_combined(grads, weights, merged)
    assert [m.dtype for m in merged if m is not None] == [
        column[0].dtype for column in ([g for g in c if g is not None] for c in zip(*grads, strict=True)) if column
    ]


@pytest.mark.parametrize("num_objectives", [15, 64])
def test_rounding_errors_of_many_products_cancel(num_objectives):
    """The bound of the worst case says little about gradients: 2e-8 with products in float32."""
    jacobian = torch.randn(num_objectives, 200_000, generator=torch.Generator().manual_seed(0))
    gram, exact = gk.gram([[row] for row in jacobian]), jacobian.double() @ jacobian.double().T
    lengths = exact.diagonal().sqrt()
    assert ((gram - exact).abs() <= 2e-8 * lengths[:, None] * lengths).all()


@every_type
@pytest.mark.parametrize("num_objectives", [3, 9])
@pytest.mark.parametrize("numel", [70, 3000])
def test_gradients_that_are_one_number_throughout(backend, dtype, num_objectives, numel):
    """Every lane of every block errs in the same direction."""
    values = [0.1, -1.8351, 1.0257, 3.3333, 1.9414, -1.998, 1.0, 0.7071, 5.5]
    grads = [[torch.full((numel,), v, dtype=dtype)] for v in values[:num_objectives]]
    assert_gram(grads, gk.gram(grads), worst=True, backend=backend)


@every_type
@pytest.mark.parametrize("num_objectives", [3, 9])
def test_sums_that_swallow_what_is_added_to_them(backend, dtype, num_objectives):
    """A 1 first in every block, then numbers whose squares are less than half a unit in its last place."""
    blocks = torch.full((10, 1024), 2.0**-12 * (1 - 2**-6), dtype=torch.float64)
    blocks.view(20, 512)[:, :32] = 1
    grads = [[blocks.flatten().to(dtype)] for _ in range(num_objectives)]
    assert_gram(grads, gk.gram(grads), worst=True, backend=backend)


def test_gram_of_nearly_orthogonal_gradients_keeps_the_sign(backend):
    """The projection hangs on the sign of a dot product: cancellation to 1e-12 of the terms must not flip it."""
    g = torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    swapped = torch.stack([g[1::2], -g[::2]], dim=1).reshape(-1)  # orthogonal to g, exactly
    for nudge, sign in ((1e-4, 1), (-1e-4, -1)):
        other = swapped.clone()
        other[0] += nudge / float(g[0])
        expected = float((other[0].double() - swapped[0]) * g[0])  # all the rest cancels
        assert expected * sign > 0
        assert gk.gram([[g], [other]])[0, 1].item() == pytest.approx(expected, rel=1e-6)


# Magnitudes

every_wide_type = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)


@every_wide_type
@pytest.mark.parametrize("magnitude", [1e-40, 1e-38, 1e-30, 1e-22, 1e-18, 1e-12, 1e-9, 1e9, 1e15, 1e19, 1e25, 1e37])
@pytest.mark.parametrize("num_objectives", [3, 9])
def test_every_scale(backend, dtype, magnitude, num_objectives):
    """Squares leave float32 on both sides. Some of 1e-40 are zero in bfloat16, few are in float32."""
    grads = make_grads(num_objectives, absent=0, scales=magnitude, dtype=dtype)
    gram = gk.gram(grads)
    assert gram.diagonal().min() > 0
    assert_gram(grads, gram, backend=backend)
    weights = make_weights(num_objectives).abs() / num_objectives  # no sum beyond float32
    assert_combined(grads, weights, gk.combine(grads, weights))


@pytest.mark.parametrize("exponent", [-24, -20, -14, -10, 10, 13])
@pytest.mark.parametrize("num_objectives", [3, 9])
def test_every_scale_of_float16(backend, exponent, num_objectives):
    grads = make_grads(num_objectives, absent=0, scales=2.0**exponent, dtype=torch.float16)
    assert_gram(grads, gk.gram(grads), backend=backend)
    for weights in (make_weights(num_objectives), 1e-3 * make_weights(num_objectives)):
        assert_combined(grads, weights, gk.combine(grads, weights))


WITHIN = [1.0, 1e-9, 1e13, 1e5, 1e-6, 1e12]  # squares that float32 holds
BEYOND = [1e-40, 1e30, 1e-25, 1e20, 1e-30, 1e37]


@every_wide_type
@pytest.mark.parametrize(
    "scales", [WITHIN + BEYOND, BEYOND + WITHIN, [s for both in zip(WITHIN, BEYOND, strict=True) for s in both]]
)
def test_objectives_of_different_scales(backend, dtype, scales):
    """Rows that float32 is too narrow for next to those that it holds, in one tile and in different ones."""
    grads = make_grads(len(scales), shapes=[(2000,), (70,), (3,)], absent=0, dtype=torch.float64)
    grads = [[(scale * g).to(dtype) for g in row] for scale, row in zip(scales, grads, strict=True)]
    assert_gram(grads, gk.gram(grads), backend=backend)


@every_type
def test_scales_that_change_along_a_gradient(backend, dtype):
    """Blocks of zeros, of numbers whose squares vanish, and of ordinary ones, in an order of each objective's own."""
    grads = make_grads(9, shapes=[(9, 1500)], absent=0, dtype=torch.float64)
    scales = torch.tensor([0, 1, 0, 1e-25, 1, 1e-30, 0, 0, 1e3]).double()
    if dtype is torch.float16:
        scales[[3, 5]] = 1e-6
    grads = [[(scales.roll(k)[:, None] * row[0]).to(dtype)] for k, row in enumerate(grads)]
    assert_gram(grads, gk.gram(grads), backend=backend)


@every_type
@pytest.mark.parametrize("num_objectives", [3, 9])
def test_a_gradient_of_zeros(backend, dtype, num_objectives):
    grads = make_grads(num_objectives, absent=0, dtype=dtype)
    grads[1] = [torch.zeros_like(g) for g in grads[1]]
    gram = gk.gram(grads)
    assert not gram[1].any()
    assert_gram(grads, gram, backend=backend)


# NaN and Inf


@every_type
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("num_objectives", [1, 4, 9])
def test_a_bad_element_shows_on_the_diagonal_and_with_no_other_objective(backend, dtype, bad, num_objectives):
    k = num_objectives // 2
    others = torch.arange(num_objectives) != k
    for numel, position in [(1, 0), (3000, 0), (3000, 513), (3000, 1500), (3000, 2999), (40_000, 33_333)]:
        grads = make_grads(num_objectives, shapes=[(5,), (numel,)], absent=0, dtype=dtype)
        grads[k][1][position] = bad
        for gram in (gk.gram(grads), gk.gram(grads, [0, 1])[1]):
            assert not gram[k, k].isfinite(), (numel, position)
            assert gram[others][:, others].isfinite().all(), (numel, position)
        assert gk.gram(grads, [0, 1])[0].isfinite().all()
        merged = gk.combine(grads, torch.ones(num_objectives))[1]
        assert (~merged.isfinite()).nonzero().tolist() == [[position]]


def test_a_combination_beyond_float16_is_infinite(backend):
    grads = [[torch.tensor([60000.0, 60000, -60000, 1]).half()] for _ in range(2)]
    merged = gk.combine(grads, torch.ones(2))[0]
    assert merged.tolist() == [torch.inf, torch.inf, -torch.inf, 2]


# Weights that float32 cannot hold


@every_type
def test_weights_beyond_float32(backend, dtype):
    """A saturated objective of 1e-40 has such a weight after a projection; the products are ordinary."""
    small = 2.0**-24 if dtype is torch.float16 else 2.0**-130
    ones = torch.ones(700, dtype=dtype)
    weights = torch.tensor([1.0, 3e39, -3e39 + 2 / small, 0.0], dtype=torch.float64)
    merged = gk.combine([[ones], [small * ones], [small * ones], [ones]], weights)[0]
    assert_combined([[ones], [small * ones], [small * ones], [ones]], weights, [merged])
    large = torch.full((700,), torch.finfo(dtype).max / 4, dtype=dtype)
    weights = torch.tensor([1e-9, 1.1e-44], dtype=torch.float64)
    assert_combined([[ones], [large]], weights, gk.combine([[ones], [large]], weights))


def test_a_coefficient_that_float32_cannot_hold(backend):
    """A saturated objective: its gradient is 1e-40, the projection off it has a coefficient of 1e40."""
    grads = [[torch.tensor([1.0, 1.0, 1.0])], [torch.tensor([-1e-40, 0.0, 0.0])]]
    result = gk.surgery(grads)
    assert result.weights.abs().max() > torch.finfo(torch.float32).max
    # the projected first gradient is [0, 1, 1]; the second loses what points against the first
    assert torch.allclose(result.merged[0], torch.tensor([0.0, 0.5, 0.5]), atol=1e-6)


# Rounding to 16 bits

every_short_type = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


def every_number(dtype: torch.dtype) -> torch.Tensor:
    """All of a 16-bit type but NaN."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    return numbers[~numbers.isnan()]


@every_short_type
def test_16_bits_keep_their_value(backend, dtype):
    numbers = every_number(dtype)
    assert torch.equal(gk.combine([[numbers]], torch.ones(1))[0], numbers)


@every_short_type
@pytest.mark.parametrize("beside", [0.0, 2.0**-7, -(2.0**-7)])
def test_rounding_to_16_bits_is_torchs(backend, dtype, beside):
    """Every tie between two neighbours, which goes to the even one, and what lies right beside it."""
    numbers = every_number(dtype)
    numbers = numbers[numbers.isfinite() & (numbers != 0)]
    info = torch.finfo(dtype)
    exponents = torch.frexp(numbers.float().abs().clamp(min=info.smallest_normal)).exponent
    halves = torch.ldexp(numbers.sign().float() * info.eps / 4, exponents)  # of the way to the next number
    shift = 2.0**8  # so that the type holds them
    steps = (halves * shift * (1 + beside)).to(dtype)
    ties = numbers.float() + steps.float() / shift
    assert torch.equal(ties.double(), numbers.double() + halves.double() * (1 + beside)), "not exact in float32"
    expected = ties.to(dtype)
    assert beside < 0 or (expected != numbers).any()
    merged = gk.combine([[numbers], [steps]], torch.tensor([1, 1 / shift]))[0]
    assert torch.equal(merged.view(torch.int16), expected.view(torch.int16))
