"""gram, pcgrad_weights, combine and surgery: what they mean, on every backend."""

import sys
from collections import UserList
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import gmd_kernels as gk
from helpers.assertions import assert_combined, assert_gram
from helpers.kernel_cases import BACKENDS, DTYPES, SHAPES, make_grads
from helpers.oracle import flat, merge, project


def test_the_cpu_kernels_are_part_of_what_is_tested():
    """Triton's in its interpreter, where they can be installed and no GPU compiles them."""
    interpreted = sys.platform == "linux" and not torch.cuda.is_available()
    expected = ["cpu", "reference", "triton"] if interpreted else ["cpu", "reference"]
    assert expected == BACKENDS, gk.backends()
    assert gk.backends()["cpu"].available, gk.backends()


def assert_merged(actual, expected, jacobian, rtol=2e-6):
    """Each element within rtol of the largest gradient element: float32 sums of T terms."""
    bound = rtol * jacobian.abs().max() * len(jacobian)
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            assert a.shape == e.shape
            assert a.numel() == 0 or (a.double() - e).abs().max() <= bound


def test_none_counts_as_zeros_in_the_gramian(backend):
    grads = make_grads(5, absent=0.4)
    zeros = [[torch.zeros(shape) if g is None else g for g, shape in zip(row, SHAPES, strict=True)] for row in grads]
    assert_gram(zeros, gk.gram(grads), backend=backend)
    assert_gram(zeros, gk.gram(zeros), backend=backend)


def test_nothing_but_none(backend):
    grads = [[None, None], [None, None]]
    assert torch.equal(gk.gram(grads), torch.zeros(2, 2, dtype=torch.float64))
    merged, gram = gk.surgery(grads)
    assert merged == [None, None]
    assert torch.equal(gram, torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 7, 15, 64])
def test_pcgrad_weights_give_the_projected_gradients_of_the_paper(backend, num_objectives):
    grads = make_grads(num_objectives)
    jacobian = flat(grads)
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(3))
    weights = gk.pcgrad_weights(jacobian @ jacobian.T, order)
    expected = project(jacobian, order)
    if num_objectives > 2:
        assert not torch.allclose(expected, jacobian), "no conflict: this test would show nothing"
    assert ((weights @ jacobian - expected).abs() <= 1e-9 * jacobian.abs().max() * num_objectives).all()


def test_pcgrad_weights_leave_gradients_of_zero_length_alone(backend):
    gram = torch.diag(torch.tensor([4.0, 0.0, 1.0], dtype=torch.float64))
    weights = gk.pcgrad_weights(gram, gk.projection_order(3))
    assert torch.equal(weights, torch.eye(3, dtype=torch.float64))


def test_combine_overwrites_poisoned_memory(backend):
    grads = make_grads(5)
    expected = gk.combine(grads, torch.ones(5))
    out = [torch.full(shape, float("nan")) for shape in SHAPES]
    merged = gk.combine(grads, torch.ones(5), out=out)
    for target, result, value in zip(out, merged, expected, strict=True):
        assert result is target
        assert torch.equal(target, torch.zeros_like(target) if value is None else value)


def test_combine_writes_zeros_where_no_objective_reaches(backend):
    out = [torch.full((3,), float("nan"))]
    assert torch.equal(gk.combine([[None], [None]], torch.ones(2), out=out)[0], torch.zeros(3))


def test_combine_may_overwrite_the_first_objective(backend):
    grads = make_grads(6, absent=0)
    expected = gk.combine(grads, torch.arange(6.0))
    merged = gk.combine(grads, torch.arange(6.0), out=grads[0])
    for result, first, value in zip(merged, grads[0], expected, strict=True):
        assert result is first
        assert torch.equal(result, value)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("num_objectives", [1, 2, 3, 7, 15])
def test_surgery_is_gmd(backend, num_objectives, reduction):
    grads = make_grads(num_objectives)
    generator = torch.Generator().manual_seed(11)
    result = gk.surgery(grads, reduction=reduction, generator=generator)
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(11))
    jacobian = flat(grads)
    assert_merged(result.merged, merge(grads, project(jacobian, order), reduction), jacobian)
    merged, gram = result
    assert merged is result.merged
    assert gram is result.gram


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_objectives", [1, 2, 5, 15, 64])
def test_surgery_of_every_type(backend, dtype, num_objectives):
    grads = make_grads(num_objectives, dtype=dtype)
    result = gk.surgery(grads, generator=torch.Generator().manual_seed(11))
    assert_gram(grads, result.gram, backend=backend)
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(11))
    total = gk.pcgrad_weights(result.gram, order).sum(dim=0)
    assert torch.equal(result.weights, total / num_objectives)
    shared = [all(g is not None for g in column) for column in zip(*grads, strict=True)]
    weights = torch.stack([total / num_objectives if every else total for every in shared])
    assert_combined(grads, weights, result.merged)


def test_surgery_with_a_weighting_of_the_users_own(backend):
    grads = make_grads(4)
    seen = []

    def largest(gram):
        seen.append(gram)
        return torch.nn.functional.one_hot(gram.diagonal().argmax(), len(gram)).double()

    result = gk.surgery(grads, weighting=largest)
    winner = int(result.weights.argmax())
    assert torch.equal(seen[0], result.gram)
    for merged, g in zip(result.merged, grads[winner], strict=True):
        assert merged is None or torch.equal(merged, torch.zeros_like(merged) if g is None else g)


def test_mean_weighting_is_the_gradient_of_the_mean_loss(backend):
    grads = make_grads(5)
    for merged, column in zip(gk.surgery(grads, gk.weightings.mean).merged, zip(*grads, strict=True), strict=True):
        present = [g for g in column if g is not None]
        if present:
            assert torch.allclose(merged, sum(present) / 5, rtol=1e-5, atol=1e-6)


def test_projection_order_is_a_permutation_of_the_others_and_follows_its_generator():
    for num_objectives in (1, 2, 3, 15, 64):
        order = gk.projection_order(num_objectives, torch.Generator().manual_seed(1))
        assert order.dtype == torch.int64
        assert order.shape == (num_objectives, num_objectives - 1)
        for i, row in enumerate(order.tolist()):
            assert sorted(row) == [j for j in range(num_objectives) if j != i]
        assert torch.equal(order, gk.projection_order(num_objectives, torch.Generator().manual_seed(1)))
    firsts = {int(gk.projection_order(15)[0, 0]) for _ in range(400)}
    assert firsts == set(range(1, 15))


# Properties


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), num_objectives=st.integers(1, 8), conflicting=st.booleans())
def test_property_the_plain_mean_if_and_only_if_nothing_conflicts(seed, num_objectives, conflicting):
    rows = torch.rand(num_objectives, 12, generator=torch.Generator().manual_seed(seed)) + 0.01  # all products positive
    conflicting = conflicting and num_objectives > 1
    if conflicting:
        rows[0] *= -1
    result = gk.surgery([[row[:5], row[5:]] for row in rows])
    assert torch.allclose(result.weights, torch.full_like(result.weights, 1 / num_objectives)) == (not conflicting)
    if not conflicting:
        assert torch.allclose(torch.cat(result.merged), rows.mean(dim=0), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), num_objectives=st.integers(2, 6), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_property_the_split_into_tensors_does_not_matter(seed, num_objectives, cuts):
    rows = torch.randn(num_objectives, 200, generator=torch.Generator().manual_seed(seed))
    bounds = [0, *sorted(cuts), 200]
    sizes = [b - a for a, b in pairwise(bounds)]
    whole = gk.surgery([[row] for row in rows], generator=torch.Generator().manual_seed(seed))
    split = gk.surgery([list(row.split(sizes)) for row in rows], generator=torch.Generator().manual_seed(seed))
    assert_gram([[row] for row in rows], split.gram)
    assert torch.allclose(whole.merged[0], torch.cat(split.merged), rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_property_two_objectives_end_without_conflict(seed):
    """A gradient that meets only one other is orthogonal to it, or agrees with it, afterwards."""
    jacobian = torch.randn(2, 30, generator=torch.Generator().manual_seed(seed)).double()
    weights = gk.pcgrad_weights(jacobian @ jacobian.T, gk.projection_order(2))
    projected = weights @ jacobian
    assert (projected @ jacobian.T).min() >= -1e-12


def test_one_objective_is_its_own_gradient(backend):
    grads = make_grads(1, absent=0.3)
    for merged, g in zip(gk.surgery(grads).merged, grads[0], strict=True):
        assert (merged is None) == (g is None)
        assert g is None or torch.equal(merged, g)


def test_two_opposite_gradients_cancel(backend):
    g = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    merged = gk.surgery([[g], [-g]]).merged[0]
    assert merged.abs().max() <= 1e-6 * g.abs().max()


def test_scaling_one_loss_scales_its_share_alone(backend):
    """PCGrad's projections do not see the length of the gradient that they remove."""
    grads = make_grads(2, absent=0)
    order = gk.projection_order(2)
    scaled = [grads[0], [100 * g for g in grads[1]]]
    one, hundred = gk.pcgrad_weights(gk.gram(grads), order), gk.pcgrad_weights(gk.gram(scaled), order)
    assert one[0, 1] / 100 == pytest.approx(float(hundred[0, 1]), rel=1e-5)


# Corners


def test_lazily_negated_tensors(backend):
    """As autograd returns them where a complex number was conjugated."""
    x = torch.randn(700, generator=torch.Generator().manual_seed(0))
    negated = torch._neg_view(x)
    assert negated.is_neg()
    assert float(gk.gram([[negated], [x]])[0, 1]) == pytest.approx(-float(x.double() @ x.double()))
    assert torch.equal(gk.combine([[negated]], torch.ones(1))[0], -x)


def test_gradients_that_require_grad_leave_no_graph_behind(backend):
    grads = [[torch.ones(3, requires_grad=True)], [torch.ones(3)]]
    assert not gk.combine(grads, torch.ones(2))[0].requires_grad
    assert not gk.gram(grads).requires_grad


def test_a_cpu_generator_serves_every_device():
    order = gk.projection_order(5, torch.Generator().manual_seed(0), device="meta")
    assert order.device.type == "meta"
    assert order.shape == (5, 4)


def test_lazily_negated_weights_and_gramians(backend):
    weights = torch._neg_view(torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert gk.combine([[torch.ones(3)], [torch.ones(3)]], weights)[0].tolist() == [-3, -3, -3]
    gram = torch._neg_view(torch.tensor([[-2.0, 1.0], [1.0, -2.0]], dtype=torch.float64))
    assert gk.pcgrad_weights(gram, gk.projection_order(2)).tolist() == [[1, 0.5], [0.5, 1]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_of_any_type_and_layout(backend, dtype):
    grads = make_grads(3, absent=0)
    weights = torch.tensor([1.0, -0.5, 3.0], dtype=dtype)
    assert_combined(grads, weights, gk.combine(grads, weights))
    strided = torch.stack([weights, -weights], dim=1)[:, 0]
    assert_combined(grads, weights, gk.combine(grads, strided))
    transposed = torch.arange(21.0).to(dtype).view(3, 7).T
    assert_combined(grads, transposed, gk.combine(grads, transposed))
    same = weights[:1].expand(3)
    assert_combined(grads, same, gk.combine(grads, same.requires_grad_()))


def test_many_gramians_and_orders_of_any_layout(backend):
    gram = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = gram.mT @ gram
    order = gk.projection_order(4, torch.Generator().manual_seed(0), num_groups=5)
    weights = torch.stack([gk.pcgrad_weights(g, o) for g, o in zip(gram, order, strict=True)])
    assert torch.equal(gk.pcgrad_weights(gram, order), weights)
    elsewhere = torch.stack([order, order], dim=-1)[..., 0]
    assert torch.equal(gk.pcgrad_weights(gram.permute(1, 2, 0).contiguous().permute(2, 0, 1), elsewhere), weights)
    assert torch.equal(
        gk.pcgrad_weights(gram[:1].expand(3, 4, 4), order[:1].expand(3, 4, 3)), weights[:1].expand(3, 4, 4)
    )
    assert gk.pcgrad_weights(gram[:0], order[:0]).shape == (0, 4, 4)
    assert not gk.pcgrad_weights(gram.requires_grad_(), order).requires_grad


@pytest.mark.parametrize("kind", [list, tuple, UserList])
def test_gradients_in_any_kind_of_sequence(backend, kind):
    grads = make_grads(3)
    held = kind(kind(row) for row in grads)
    assert torch.equal(gk.gram(held), gk.gram(grads))
    for m, expected in zip(gk.combine(held, torch.ones(3)), gk.combine(grads, torch.ones(3)), strict=True):
        assert (m is None and expected is None) or torch.equal(m, expected)


# What there is no kernel for goes through the reference, and says so


@pytest.mark.parametrize(
    ("gradient", "missing"),
    [
        (torch.ones(3).to(torch.float8_e5m2), r"serve float32, .* some gradients are torch\.float8_e5m2"),
        (torch._efficientzerotensor(3), r"some gradients are no ordinary tensors"),
    ],
    ids=["float8", "zero tensor"],
)
def test_other_gradients_fall_back_visibly(gradient, missing, monkeypatch):
    square = float(gradient.float().square().sum())
    with pytest.warns(gk.FallbackWarning, match=missing):
        assert gk.gram([[gradient]]).tolist() == [[square]]
    with pytest.warns(gk.FallbackWarning, match=missing):
        merged = gk.combine([[gradient]], torch.ones(1))[0]
    assert merged.dtype == gradient.dtype
    assert torch.equal(merged.float(), gradient.float())
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match=r"GMD_BACKEND=cpu cannot serve this call: .*" + missing):
        gk.gram([[gradient]])


def test_a_backend_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", "tpu")
    out = [torch.full((2,), 7.0)]
    for call in (
        lambda: gk.gram([[torch.ones(2)]]),
        lambda: gk.combine([[torch.ones(2)]], torch.ones(1), out=out),
        lambda: gk.surgery([[torch.ones(2)]], out=out),
        lambda: gk.pcgrad_weights(torch.ones(1, 1).double(), gk.projection_order(1)),
    ):
        with pytest.raises(
            ValueError, match=r"GMD_BACKEND: expected 'cuda', 'cpu', 'triton' or 'reference', got 'tpu'"
        ):
            call()
    assert out[0].tolist() == [7, 7]
