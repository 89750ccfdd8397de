"""Groups of parameters: as many Gramians in one pass, and the surgery of each group by itself."""

import pytest
import torch

import gmd_kernels as gk
from helpers.assertions import assert_combined, assert_gram
from helpers.kernel_cases import DTYPES, make_grads, make_weights
from helpers.oracle import flat, merge, project

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
SHAPES = [(20_000,), (3,), (7, 5), (0,), (33_000,), (515,), (1,), (2, 40)]
GROUPINGS = {
    "one": [0] * 8,
    "sorted": [0, 0, 0, 1, 1, 2, 2, 2],
    "interleaved": [2, 0, 1, 2, 0, 1, 2, 0],
    "backwards": [7, 6, 5, 4, 3, 2, 1, 0],
    "some of no parameter": [5, 5, 1, 1, 5, 3, 5, 1],
    "one of empty tensors": [0, 0, 2, 1, 0, 2, 2, 0],
}
each_grouping = pytest.mark.parametrize("groups", GROUPINGS.values(), ids=GROUPINGS)


def of_group(rows, groups, group):
    return [[g for g, q in zip(row, groups, strict=True) if q == group] for row in rows]


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("num_objectives", [1, 3, 9])
@each_grouping
def test_one_gramian_for_each(backend, dtype, num_objectives, groups):
    grads = make_grads(num_objectives, SHAPES, dtype=dtype)
    grams = gk.gram(grads, groups)
    assert grams.dtype == torch.float64
    assert grams.shape == (max(groups) + 1, num_objectives, num_objectives)
    assert torch.equal(grams, grams.mT)
    assert_gram(grads, grams, groups, backend=backend)
    for group, gram in enumerate(grams):
        assert_gram(of_group(grads, groups, group), gram, backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("num_objectives", [1, 4, 40])
@pytest.mark.parametrize("sizes", [[300_000, 1, 2, 3], [1, 2, 300_000, 3], [5, 150_000, 1, 150_000], [400] * 300])
def test_groups_of_many_slots_and_many_groups_of_one(num_objectives, sizes):
    grads = make_grads(num_objectives, [(n,) for n in sizes], absent=0)
    groups = range(len(sizes))
    assert_gram(grads, gk.gram(grads, groups), groups)
    pairs = [p // 2 for p in groups]
    assert_gram(grads, gk.gram(grads, pairs), pairs)


def test_groups_may_be_any_sequence_of_ints(backend):
    grads = make_grads(3, SHAPES[:3])
    assert torch.equal(gk.gram(grads, (0, 1, 1)), gk.gram(grads, [0, 1, 1]))
    assert torch.equal(gk.gram(grads, range(3)), gk.gram(grads, [0, 1, 2]))


def test_no_parameters_and_parameters_that_nobody_reaches(backend):
    assert not gk.gram([[], []], []).any()
    grads = [[None, torch.ones(2), None] for _ in range(2)]
    grams = gk.gram(grads, [0, 1, 2])
    assert grams.shape == (3, 2, 2)
    assert grams.sum(dim=(1, 2)).tolist() == [0, 8, 0]
    result = gk.surgery(grads, groups=[0, 1, 2])
    assert [m is None for m in result.merged] == [True, False, True]


@pytest.mark.parametrize("layout", ["plain", "transposed by one objective"])
def test_ten_thousand_small_parameters_each_its_own_group(backend, layout):
    count, generator = {"cpu": 10_000, "reference": 300, "triton": 30}[backend], torch.Generator().manual_seed(0)
    values = torch.randn(3, count, 2, 3, generator=generator)
    if layout != "plain":
        values[0] = values[0].mT.contiguous().view(count, 2, 3)
    rows = [list(value.unbind()) for value in values]
    if layout != "plain":
        rows[0] = [g.view(3, 2).mT for g in rows[0]]
    jacobians = torch.stack([torch.stack(row) for row in rows]).flatten(2).double()  # [T, P, n]
    expected = torch.einsum("ipn,jpn->pij", jacobians, jacobians)
    grams = gk.gram(rows, range(count))
    lengths = jacobians.norm(dim=2).T
    assert ((grams - expected).abs() <= 1e-14 * lengths[:, :, None] * lengths[:, None, :]).all()
    assert torch.allclose(gk.gram(rows), expected.sum(dim=0), rtol=1e-12, atol=1e-10)
    weights = make_weights(count, 3)
    merged = torch.stack([m.flatten() for m in gk.combine(rows, weights)])
    assert torch.allclose(merged.double(), torch.einsum("pt,tpn->pn", weights, jacobians), atol=1e-5)


# Surgery


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("num_objectives", [2, 3, 7])
@each_grouping
def test_gmd_of_each_group(backend, num_objectives, reduction, groups):
    """Some parameters shared, others private; the orders are drawn for all groups at once."""
    num_groups = max(groups) + 1
    grads = make_grads(num_objectives, [(min(n, 400), *rest) for n, *rest in SHAPES], absent=0.1)
    orders = gk.projection_order(num_objectives, torch.Generator().manual_seed(7), num_groups=num_groups)
    result = gk.surgery(grads, groups=groups, reduction=reduction, generator=torch.Generator().manual_seed(7))
    assert_gram(grads, result.gram, groups, backend=backend)
    assert result.weights.shape == (num_groups, num_objectives)
    for group in range(num_groups):
        mine = of_group(grads, groups, group)
        jacobian = flat(mine)
        expected = merge(mine, project(jacobian, orders[group]), reduction)
        merged = of_group([result.merged], groups, group)[0]
        for m, e in zip(merged, expected, strict=True):
            assert (m is None) == (e is None)
            assert m is None or torch.allclose(m.double(), e, rtol=0, atol=2e-6 * num_objectives * 10)
        weights = gk.pcgrad_weights(result.gram[group], orders[group]).sum(dim=0)
        weights = weights / num_objectives if reduction == "mean" else weights
        assert torch.allclose(result.weights[group], weights, rtol=1e-12)


def largest(gram):
    return torch.nn.functional.one_hot(gram.diagonal().argmax(), len(gram)).double()


@pytest.mark.parametrize("weighting", [gk.weightings.mean, largest], ids=["mean", "a user's"])
@each_grouping
def test_a_weighting_of_each_group(backend, weighting, groups):
    grads = make_grads(4, SHAPES)
    result = gk.surgery(grads, weighting, groups=groups)
    assert torch.equal(result.gram, gk.gram(grads, groups))
    assert result.weights.shape == (max(groups) + 1, 4)
    for group in range(max(groups) + 1):
        mine = of_group(grads, groups, group)
        assert torch.equal(result.weights[group], weighting(result.gram[group]))
        merged = of_group([result.merged], groups, group)[0]
        assert_combined(mine, result.weights[group], merged)
        alone = gk.surgery(mine, weighting)
        assert all(m is None or torch.equal(m, other) for m, other in zip(merged, alone.merged, strict=True))


def test_a_weighting_sees_one_gramian_at_a_time(backend):
    seen = []
    result = gk.surgery(make_grads(3, SHAPES), lambda gram: seen.append(gram) or largest(gram), groups=[0, 1] * 4)
    assert torch.equal(torch.stack(seen), result.gram)


def test_groups_may_overwrite_the_first_objective(backend):
    grads, same = make_grads(5, SHAPES, absent=0), make_grads(5, SHAPES, absent=0)
    groups = GROUPINGS["interleaved"]
    expected = gk.surgery(same, groups=groups, generator=torch.Generator().manual_seed(1))
    result = gk.surgery(grads, groups=groups, generator=torch.Generator().manual_seed(1), out=grads[0])
    for m, g, e in zip(result.merged, grads[0], expected.merged, strict=True):
        assert m is g
        assert torch.equal(m, e)
