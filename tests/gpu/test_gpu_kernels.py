"""gram, pcgrad_weights and combine on a GPU against float64 on the same rounded inputs; the same tests on the CPU."""

from contextlib import nullcontext

import pytest
import torch

import gmd_kernels as gk
from helpers.gpu_cases import KERNELS, ON_CPU, REFERENCE, check_gram, home, on_each, same_bits
from helpers.kernel_cases import DTYPES, LAYOUTS, OBJECTIVES, SHAPES, lay_out, make_grads, make_weights
from helpers.oracle import combine_error, flat, project

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
every_type = pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
every_wide_type = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
# beyond a vector, a warp, a tile and a block of a GPU, and no multiple of any
LONG = [(40_001,), (3, 5), (0,), (), (257, 129), (1031,)]
STRIDED = [(6, 5, 3, 4, 7), (40, 30), (1, 9, 1, 1), (33,), (), (0, 3), (2, 1, 600)]

place = on_each(ON_CPU, *KERNELS, REFERENCE)


def check(place, grads, weights, groups=None):
    """Gramian and combination of gradients on the device, weights on the CPU."""
    gram, merged = gk.gram(grads, groups), gk.combine(grads, weights.to(place.device))
    assert gram.device.type == place.device
    assert gram.dtype == torch.float64
    check_gram(place, grads, gram, groups)
    assert combine_error(home(grads), weights, home(merged)) <= 1
    return gram


@pytest.mark.parametrize(("error", "is_right"), [(1e-12, True), (1e-10, False), (float("nan"), False)])
def test_what_is_asked_of_the_reference_on_a_gpu(error, is_right):
    """More than rounding in a long chain is noticed there too, though not every bit."""
    grads = make_grads(3, LONG, dtype=torch.bfloat16)
    gram = gk.gram([[None if g is None else g.double() for g in row] for row in grads])
    gram[0, 1] += error * (gram[0, 0] * gram[1, 1]).sqrt()
    with pytest.raises(AssertionError, match="transpose"):
        check_gram(REFERENCE, grads, gram)
    gram[1, 0] = gram[0, 1]
    with nullcontext() if is_right else pytest.raises(AssertionError):
        check_gram(REFERENCE, grads, gram)


@every_type
@pytest.mark.parametrize("num_objectives", OBJECTIVES)
def test_every_number_of_objectives(place, dtype, num_objectives):
    grads = place.put(make_grads(num_objectives, dtype=dtype))
    check(place, grads, make_weights(num_objectives))
    check(place, grads, make_weights(len(SHAPES), num_objectives))


@every_type
@pytest.mark.parametrize("num_objectives", [3, 15, 40])
def test_tensors_that_several_blocks_share(place, dtype, num_objectives):
    check(place, place.put(make_grads(num_objectives, LONG, dtype=dtype)), make_weights(num_objectives))


@pytest.mark.parametrize("num_objectives", [2, 15, 33])
def test_types_may_differ_between_parameters(place, num_objectives):
    columns = [make_grads(num_objectives, [(301,), (7, 5)], seed=s, dtype=dtype) for s, dtype in enumerate(DTYPES)]
    grads = place.put([[g for row in rows for g in row] for rows in zip(*columns, strict=True)])
    check(place, grads, make_weights(num_objectives))


def test_many_small_parameters_each_its_own_group(place):
    grads = place.put(make_grads(7, [(1 + p % 67,) for p in range(300)]))
    check(place, grads, make_weights(300, 7), groups=range(300))


@every_type
@pytest.mark.parametrize("groups", [[0] * 6, [2, 0, 1, 2, 0, 1], [5, 5, 1, 1, 5, 3]], ids=str)
@pytest.mark.parametrize("num_objectives", [3, 9, 20])
def test_groups(place, dtype, groups, num_objectives):
    check(place, place.put(make_grads(num_objectives, LONG, dtype=dtype)), make_weights(num_objectives), groups)


# Layouts

MIXTURES = {name: [name] for name in LAYOUTS} | {"one each": list(LAYOUTS), "two": ["channels_last", "contiguous"]}


@every_type
@pytest.mark.parametrize("layouts", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("num_objectives", [4, 18])
def test_gradients_in_any_layout(place, dtype, layouts, num_objectives):
    grads = lay_out(place.put(make_grads(num_objectives, STRIDED, dtype=dtype)), layouts)
    check(place, grads, make_weights(len(STRIDED), num_objectives))


@every_type
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "negated"])
def test_poisoned_results_in_any_layout(place, dtype, layout):
    values, weights = place.put(make_grads(4, STRIDED, dtype=dtype)), make_weights(4)
    for layouts in (["contiguous"], ["channels_last"], list(LAYOUTS)):
        grads = lay_out(values, layouts)
        poison = [torch.full(shape, torch.nan, dtype=dtype, device=place.device) for shape in STRIDED]
        out = [LAYOUTS[layout](memory) for memory in poison]
        merged = gk.combine(grads, weights.to(place.device), out=out)
        assert all(m is target for m, target in zip(merged, out, strict=True))
        reached = [any(g is not None for g in column) for column in zip(*grads, strict=True)]
        assert not any(bool(m.any()) for m, is_reached in zip(merged, reached, strict=True) if not is_reached)
        merged = [m if is_reached else None for m, is_reached in zip(merged, reached, strict=True)]
        assert combine_error(home(grads), weights, home(merged)) <= 1


def test_nothing_is_written_beside_a_result(place):
    grads, weights = place.put(make_grads(5, STRIDED, absent=0)), make_weights(5)
    larger = [torch.full([size + 2 for size in shape], torch.nan, device=place.device) for shape in STRIDED]
    out = [buffer[(slice(1, -1),) * buffer.ndim] for buffer in larger]
    assert combine_error(home(grads), weights, home(gk.combine(grads, weights.to(place.device), out=out))) <= 1
    for buffer, target in zip(larger, out, strict=True):
        target.fill_(torch.nan)
        assert buffer.isnan().all()


@every_type
@pytest.mark.parametrize("replaced", [0, 2])
def test_results_in_the_place_of_gradients(place, dtype, replaced):
    values, weights = make_grads(5, LONG, absent=0, dtype=dtype), make_weights(5)
    grads = place.put(values)
    merged = gk.combine(grads, weights.to(place.device), out=grads[replaced])
    assert all(m is target for m, target in zip(merged, grads[replaced], strict=True))
    assert combine_error(values, weights, home(merged)) <= 1
    assert all(same_bits(home(row), values[k]) for k, row in enumerate(grads) if k != replaced)


def test_autograd_notices_what_was_written_over(place):
    x, w = torch.ones(3, device=place.device), torch.randn(3, device=place.device, requires_grad=True)
    y = (x * w).sum()
    ones = torch.ones(3, device=place.device)
    gk.combine([[ones], [ones]], torch.ones(2, device=place.device), out=[x])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


# Magnitudes


@every_wide_type
@pytest.mark.parametrize("magnitude", [1e-38, 1e-30, 1e-22, 1e-18, 1e-9, 1e9, 1e15, 1e19, 1e37])
@pytest.mark.parametrize("num_objectives", [3, 9, 20])
def test_every_scale(place, dtype, magnitude, num_objectives):
    grads = place.put(make_grads(num_objectives, absent=0, scales=magnitude, dtype=dtype))
    gram = check(place, grads, make_weights(num_objectives).abs() / num_objectives)
    assert float(gram.diagonal().min()) > 0


@every_type
def test_scales_that_change_along_a_gradient(place, dtype):
    """Blocks of zeros, of numbers whose squares vanish, and of ordinary ones, in an order of each objective's own."""
    grads = make_grads(9, shapes=[(9, 1500)], absent=0, dtype=torch.float64)
    scales = torch.tensor([0, 1, 0, 1e-25, 1, 1e-30, 0, 0, 1e3]).double()
    if dtype is torch.float16:
        scales[[3, 5]] = 1e-6
    check(
        place,
        place.put([[(scales.roll(k)[:, None] * row[0]).to(dtype)] for k, row in enumerate(grads)]),
        make_weights(9),
    )


@every_type
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("num_objectives", [1, 4, 9, 20])
def test_a_bad_element_shows_on_the_diagonal_and_with_no_other_objective(place, dtype, bad, num_objectives):
    k = num_objectives // 2
    others = torch.arange(num_objectives) != k
    for numel, position in [(1, 0), (3000, 513), (3000, 2999), (40_000, 33_333)]:
        grads = make_grads(num_objectives, shapes=[(5,), (numel,)], absent=0, dtype=dtype)
        grads[k][1][position] = bad
        grads = place.put(grads)
        gram = home(gk.gram(grads))
        assert not gram[k, k].isfinite(), (numel, position)
        assert gram[others][:, others].isfinite().all(), (numel, position)
        merged = home(gk.combine(grads, torch.ones(num_objectives, device=place.device)))[1]
        assert (~merged.isfinite()).nonzero().tolist() == [[position]]


@every_type
def test_weights_beyond_float32(place, dtype):
    """A saturated objective has such a weight after a projection; the products are ordinary."""
    small = 2.0**-24 if dtype is torch.float16 else 2.0**-130
    ones = torch.ones(700, dtype=dtype)
    grads = [[ones], [small * ones], [small * ones], [ones]]
    weights = torch.tensor([1.0, 3e39, -3e39 + 2 / small, 0.0], dtype=torch.float64)
    merged = gk.combine(place.put(grads), weights.to(place.device))
    assert combine_error(grads, weights, home(merged)) <= 1


def test_a_combination_beyond_float16_is_infinite(place):
    grads = place.put([[torch.tensor([60000.0, 60000, -60000, 1]).half()] for _ in range(2)])
    assert gk.combine(grads, torch.ones(2, device=place.device))[0].tolist() == [torch.inf, torch.inf, -torch.inf, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=NAMES[1:3])
def test_rounding_to_16_bits_is_torchs(place, dtype):
    """Every number of the type, and every tie between two, which goes to the even one."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    numbers = numbers[numbers.isfinite() & (numbers != 0)]
    exponents = torch.frexp(numbers.float().abs().clamp(min=torch.finfo(dtype).smallest_normal)).exponent
    halves = torch.ldexp(numbers.sign().float() * torch.finfo(dtype).eps / 4, exponents)
    steps = (2.0**8 * halves).to(dtype)  # so that the type holds them
    ties = numbers.float() + steps.float() / 2**8
    assert torch.equal(ties.double(), numbers.double() + halves.double()), "not exact in float32"
    grads, weights = place.put([[numbers], [steps]]), torch.tensor([[1, 0], [1, 2.0**-8]], device=place.device)
    for row, expected in zip(weights, (numbers, ties.to(dtype)), strict=True):
        merged = home(gk.combine(grads, row))[0]
        assert torch.equal(merged.view(torch.int16), expected.view(torch.int16))


# Projections


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 15, 16, 17, 32, 33, 64])
def test_pcgrad_weights_give_the_projected_gradients_of_the_paper(place, num_objectives):
    jacobian = flat(make_grads(num_objectives))
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(3))
    weights = home(gk.pcgrad_weights((jacobian @ jacobian.T).to(place.device), order.to(place.device)))
    expected = project(jacobian, order)
    assert num_objectives < 3 or not torch.allclose(expected, jacobian), "no conflict: this test would show nothing"
    assert ((weights @ jacobian - expected).abs() <= 1e-9 * jacobian.abs().max() * num_objectives).all()


@pytest.mark.parametrize("num_objectives", [4, 40])
def test_many_gramians_of_any_layout(place, num_objectives):
    factors = torch.randn(5, num_objectives, num_objectives, generator=torch.Generator().manual_seed(0)).double()
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(0), num_groups=5).to(place.device)
    gram = (factors.mT @ factors).to(place.device)
    weights = torch.stack([gk.pcgrad_weights(g, o) for g, o in zip(gram, order, strict=True)])
    assert torch.equal(gk.pcgrad_weights(gram, order), weights)
    elsewhere = gram.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(gk.pcgrad_weights(elsewhere, torch.stack([order, order], dim=-1)[..., 0]), weights)
    assert gk.pcgrad_weights(gram[:0], order[:0]).shape == (0, num_objectives, num_objectives)


# The same bits from run to run


@every_type
@pytest.mark.parametrize("num_objectives", [7, 15, 33])
def test_same_bits_from_run_to_run(place, dtype, num_objectives):
    grads = place.put(make_grads(num_objectives, LONG, dtype=dtype))
    weights = make_weights(num_objectives).to(place.device)
    first = [gk.gram(grads), gk.gram(grads, [1, 0, 2, 1, 0, 0]), *gk.combine(grads, weights)]
    for _ in range(3):
        assert same_bits([gk.gram(grads), gk.gram(grads, [1, 0, 2, 1, 0, 0]), *gk.combine(grads, weights)], first)


def test_nothing_of_one_call_is_left_for_the_next(place):
    bad = place.put([[torch.full((1200,), torch.nan)], [torch.full((1200,), torch.inf)]])
    good = place.put([[torch.ones(40, 30)], [torch.ones(40, 30)]])
    ones = torch.ones(2, device=place.device)
    for _ in range(3):
        assert not gk.gram(bad).isfinite().any()
        assert gk.gram(good).tolist() == [[1200, 1200], [1200, 1200]]
        assert gk.combine(good, ones)[0].unique().tolist() == [2]


# Bad input: the message names the argument, and nothing is written


def test_errors_name_what_is_on_another_device(place):
    """Meta tensors stand for those of another device, where there is but one."""
    here, other = torch.ones(2, device=place.device), torch.ones(2, device="meta" if place.device == "cpu" else "cpu")
    name, out = here.device, [torch.full((2,), 7.0, device=place.device)]
    for call, message in (
        (lambda: gk.gram([[here], [other]]), rf"grads\[1\]\[0\]: expected on {name}, .* got .* on {other.device}"),
        (lambda: gk.surgery([[here, other]], out=[*out, None]), rf"grads\[0\]\[1\]: expected on {name}"),
        (lambda: gk.combine([[here]], torch.ones(1, device=other.device), out=out), rf"weights: .* on {name}, got"),
        (lambda: gk.combine([[here]], torch.ones(2, device=place.device), out=out), r"weights: expected \[T\] = \[1\]"),
        (lambda: gk.combine([[here]], torch.ones(1, device=place.device), out=[other]), rf"out\[0\]: .* on {name}"),
        (lambda: gk.surgery([[here]], out=[out[0].double()]), r"out\[0\]: expected .*float32"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert out[0].tolist() == [7, 7]


def test_an_order_on_another_device(place):
    gram, other = torch.eye(2, device=place.device).double(), "meta" if place.device == "cpu" else "cpu"
    with pytest.raises(ValueError, match="order: expected on the Gramian's device"):
        gk.pcgrad_weights(gram, torch.zeros(2, 1, dtype=torch.int64, device=other))
