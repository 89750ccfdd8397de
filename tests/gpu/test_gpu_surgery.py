"""GMD on a GPU: in one call the same as part by part, orders as random as they should be, weightings as on the CPU."""

import functools
from collections import Counter
from itertools import product

import pytest
import torch

import gmd_kernels as gk
from helpers.gpu_cases import KERNELS, ON_CPU, REFERENCE, check_gram, home, on_each, opposed, same_bits
from helpers.gramians import KINDS, WEIGHTINGS, distance, make_jacobian
from helpers.kernel_cases import DTYPES, LAYOUTS, lay_out, make_grads
from helpers.oracle import combine_error

place = on_each(ON_CPU, *KERNELS, REFERENCE)
LONG = [(20_001,), (3, 5), (0,), (), (257, 129), (1031,)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def check(place, grads, groups=None, reduction="mean", out=None):
    """Surgery with an order from the CPU: its Gramian, its weights, and its result as these two demand."""
    t, num_groups = len(grads), None if groups is None else max(groups) + 1
    values, result = home(grads), gk.surgery(grads, groups=groups, reduction=reduction, generator=seeded(11), out=out)
    assert result.gram.device.type == result.weights.device.type == place.device
    check_gram(place, values, result.gram, groups)
    order = gk.projection_order(t, seeded(11), num_groups=num_groups)
    total = gk.pcgrad_weights(result.gram, order.to(place.device)).sum(dim=-2)
    of_shared = total / t if reduction == "mean" else total
    assert torch.allclose(result.weights, of_shared, rtol=1e-12, atol=0)
    index = [0] * len(grads[0]) if groups is None else list(groups)
    total, of_shared = home(total).view(-1, t)[index], home(of_shared).view(-1, t)[index]
    shared = torch.tensor([all(g is not None for g in column) for column in zip(*grads, strict=True)])
    weights = torch.where(shared[:, None], of_shared, total)
    assert combine_error(values, weights, home(result.merged)) <= 1
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33, 64])
def test_every_number_of_objectives(place, dtype, num_objectives):
    check(place, place.put(make_grads(num_objectives, dtype=dtype)))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("num_objectives", [3, 7, 16, 20])
@pytest.mark.parametrize("groups", [None, [0] * 6, [2, 0, 1, 2, 0, 1]], ids=str)
def test_private_parameters_groups_and_reductions(place, reduction, num_objectives, groups):
    check(place, place.put(make_grads(num_objectives, LONG, absent=0.3)), groups, reduction)
    check(place, place.put(make_grads(num_objectives, LONG, absent=0)), groups, reduction)


@pytest.mark.parametrize("num_objectives", [2, 15, 20])
def test_types_and_layouts_mixed(place, num_objectives):
    columns = [make_grads(num_objectives, [(301,), (7, 5)], seed=s, dtype=dtype) for s, dtype in enumerate(DTYPES)]
    grads = place.put([[g for row in rows for g in row] for rows in zip(*columns, strict=True)])
    check(place, grads)
    check(place, lay_out(grads, list(LAYOUTS)))
    check(place, lay_out(grads, ["offset"]))


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e10, 1e15])
def test_every_scale(place, scale):
    check(place, place.put(make_grads(7, absent=0, scales=scale)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_over_the_first_objective_and_over_poison(place, dtype):
    values = make_grads(7, LONG, absent=0, dtype=dtype)
    poison = [torch.full(shape, torch.nan, dtype=dtype, device=place.device) for shape in LONG]
    merged = check(place, place.put(values), out=poison).merged
    assert all(m is target for m, target in zip(merged, poison, strict=True))
    grads = place.put(values)
    over = gk.surgery(grads, generator=seeded(11), out=grads[0]).merged
    assert all(m is target for m, target in zip(over, grads[0], strict=True))
    assert same_bits(over, merged)


@pytest.mark.parametrize("num_objectives", [4, 15, 16])
def test_gradients_that_are_kept_on_the_chip_and_many_that_are_not(place, num_objectives):
    """An H100 keeps about 30 MB: none of it is there twice, nothing is left out where the two parts meet."""
    numels = [30_001, 200_003] if place.device == "cpu" else [30_001, 600_007, 3_000_017]
    for numel in numels:
        rows = torch.randn(
            num_objectives, numel, generator=torch.Generator(place.device).manual_seed(0), device=place.device
        )
        rows[1::2] -= 0.5 * rows[::2][: len(rows[1::2])]
        grads = [[row[: numel // 3].clone(), row[numel // 3 :].clone()] for row in rows]
        result = gk.surgery(grads, generator=seeded(3), reduction="sum")
        exact = torch.stack([piece @ piece.T for piece in rows.double().split(4096, dim=1)]).sum(dim=0)
        lengths = exact.diagonal().sqrt()
        assert float(((result.gram - exact).abs() / (lengths[:, None] * lengths)).max()) <= 4e-7
        expected = result.weights @ rows.double()
        bound = 2 * (num_objectives + 2) * 2.0**-24 * (result.weights.abs() @ rows.double().abs())
        assert bool(((torch.cat(result.merged).double() - expected).abs() <= bound).all())
        assert same_bits(result.merged, gk.combine(grads, result.weights))


def test_same_bits_from_run_to_run_and_nothing_left_of_the_call_before(place):
    grads, bad = place.put(make_grads(15, LONG)), place.put(make_grads(15, LONG, scales=float("inf")))
    first = gk.surgery(grads, generator=seeded(2))
    for _ in range(5):
        assert not gk.surgery(bad, generator=seeded(2)).gram.diagonal().isfinite().any()
        again = gk.surgery(grads, generator=seeded(2))
        assert torch.equal(again.gram, first.gram)
        assert torch.equal(again.weights, first.weights)
        assert same_bits(again.merged, first.merged)


@pytest.mark.parametrize("num_objectives", [5, 20])
def test_calls_of_every_kind_in_turn(place, num_objectives):
    """They share what the kernels keep on the device: counters of blocks above all."""
    grads, other = (place.put(make_grads(num_objectives, shapes)) for shapes in (LONG, [(7,), (30_000,), (2, 2)]))

    def results():
        calls = [
            gk.surgery(g, groups=q, generator=seeded(1))
            for g, q in [(grads, None), (grads, [2, 0, 1, 2, 0, 1]), (other, None), (other, [0, 2, 1]), (grads, None)]
        ]
        grams = [gk.gram(grads), gk.gram(grads, [0, 1, 2, 3, 4, 5]), gk.gram(other, [1, 0, 0]), gk.gram(other)]
        return [*grams, *(t for call in calls for t in (call.gram, call.weights, *call.merged))]

    first = results()
    for _ in range(4):
        assert same_bits(results(), first)
    check(place, grads)
    check(place, grads, [2, 0, 1, 2, 0, 1])
    check(place, other)


def test_nothing_to_do(place):
    empty = torch.ones(0, device=place.device)
    merged, gram = gk.surgery([[empty, None], [empty, None]])
    assert merged[0].shape == (0,)
    assert merged[1] is None
    assert gram.tolist() == [[0, 0], [0, 0]]


# Orders


def outcomes(place, grads, weights_of_a_call, calls):
    """How often each of the eight orders of three objectives shows in the weights of so many calls."""
    gram = gk.gram(grads)
    orders = [torch.tensor([a, b, c]) for a, b, c in product([(1, 2), (2, 1)], [(0, 2), (2, 0)], [(0, 1), (1, 0)])]
    known = torch.stack([gk.pcgrad_weights(gram, order.to(place.device)).sum(dim=0) / 3 for order in orders])
    apart = (known[:, None] - known).norm(dim=-1) + torch.eye(8, device=place.device)
    assert float(apart.min()) > 1e-6, "some orders look alike: this test would show nothing"
    seen = torch.stack([weights_of_a_call() for _ in range(calls)])
    distances, nearest = (seen[:, None] - known).norm(dim=-1).min(dim=1)
    assert float(distances.max()) < 1e-9
    return Counter(nearest.tolist())


def chi_squared(counts, calls):
    """Of eight outcomes that are alike: 7 on average, above 40 once in a million experiments."""
    return sum((counts[k] - calls / 8) ** 2 / (calls / 8) for k in range(8))


@pytest.mark.parametrize("generator", [False, True], ids=["default", "own"])
def test_every_order_is_as_frequent_as_any_other(place, generator):
    grads, calls = place.put(opposed((40,), (7,))), 400
    own = torch.Generator(place.device).manual_seed(5) if generator else None
    torch.manual_seed(7)
    counts = outcomes(place, grads, lambda: gk.surgery(grads, generator=own).weights.clone(), calls)
    assert chi_squared(counts, calls) < 40, counts


@pytest.mark.parametrize("num_objectives", [5, 15, 30])
@pytest.mark.parametrize("groups", [None, [0, 1]], ids=str)
def test_the_seed_decides_and_the_next_call_draws_anew(place, num_objectives, groups):
    values = opposed((400,), num_objectives=num_objectives)
    grads = place.put([[*row, *row] for row in values])  # groups that differ in their orders alone

    def weights(generator=None):
        return [gk.surgery(grads, groups=groups, generator=generator).weights.clone() for _ in range(4)]

    torch.manual_seed(3)
    first = weights()
    torch.manual_seed(3)
    assert same_bits(weights(), first)
    assert all(not torch.equal(a, b) for k, a in enumerate(first) for b in first[:k])
    assert groups is None or not any(torch.equal(*pair) for pair in first)
    own = weights(torch.Generator(place.device).manual_seed(4))
    assert same_bits(weights(torch.Generator(place.device).manual_seed(4)), own)
    assert not torch.equal(own[0], first[0])


def test_the_generators_state_says_where_the_orders_go_on(place):
    grads = place.put(opposed((400,), num_objectives=9))
    generator = torch.Generator(place.device).manual_seed(4)
    gk.surgery(grads, generator=generator)
    state = generator.get_state()
    following = gk.surgery(grads, generator=generator).weights.clone()
    generator.set_state(state)
    assert torch.equal(gk.surgery(grads, generator=generator).weights, following)


# Weightings


@pytest.mark.parametrize("name", [*WEIGHTINGS, "pcgrad"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_objectives", [2, 7, 16])
def test_weightings_are_what_they_are_on_the_cpu(place, monkeypatch, name, kind, num_objectives):
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T

    def weights(gram):
        if name == "pcgrad":
            return gk.weightings.pcgrad(gram, seeded(1))
        return WEIGHTINGS[name](gram)

    there = weights(gram.to(place.device))
    monkeypatch.setenv("GMD_BACKEND", "reference")
    assert there.device.type == place.device
    assert distance(jacobian, home(there), weights(gram)) <= 1e-6


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 1, 1, 0]], ids=str)
@pytest.mark.parametrize("name", ["mean", "upgrad", "mgda"])
def test_surgery_with_a_weighting(place, name, groups):
    grads = place.put(make_grads(5, LONG, absent=0))
    result = gk.surgery(grads, WEIGHTINGS[name], groups=groups)
    assert torch.equal(result.gram, gk.gram(grads, groups))
    weights = home(result.weights) if groups is None else home(result.weights)[groups]
    assert combine_error(home(grads), weights, home(result.merged)) <= 1


def test_a_preference_on_the_device(place):
    gram = place.put([torch.tensor([[2.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)])[0]
    preference = torch.tensor([0.25, 0.75], device=place.device)
    weighting = functools.partial(gk.weightings.upgrad, preference=preference)
    assert torch.allclose(home(weighting(gram)), gk.weightings.upgrad(home(gram), home(preference)))
