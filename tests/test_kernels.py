"""gram, pcgrad_weights, combine and surgery of every backend against float64, on the same rounded inputs."""

import os
import subprocess
import sys
import warnings
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from oracle import flat, merge, project, scale

import gmd_kernels as gk

BACKENDS = [name for name, backend in gk.backends().items() if backend.available]
SHAPES = [(3, 5), (17,), (), (0,), (64, 33, 3), (1, 1, 1, 1, 7), (515,)]


def test_the_cpu_kernels_are_part_of_what_is_tested():
    assert BACKENDS == ["cpu", "reference"], gk.backends()


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", request.param)
    return request.param


def make_grads(num_objectives, shapes=SHAPES, seed=0, absent=0.2, scales=1.0, dtype=torch.float32):
    """Correlated gradients, some of them None; conflicts are certain from T = 3 on."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for k in range(num_objectives):
        sign = -1 if k % 3 == 2 else 1
        row = []
        for shape in shapes:
            common = torch.randn(shape, generator=torch.Generator().manual_seed(99))
            g = scales * (sign * common + torch.randn(shape, generator=generator))
            row.append(None if torch.rand((), generator=generator) < absent else g.to(dtype))
        rows.append(row)
    return rows


def assert_merged(actual, expected, jacobian, rtol=2e-6):
    """Each element within rtol of the largest gradient element: float32 sums of T terms."""
    bound = rtol * jacobian.abs().max() * len(jacobian)
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            assert a.shape == e.shape
            assert a.numel() == 0 or (a.double() - e).abs().max() <= bound


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 15, 16, 33, 64])
def test_gram_is_the_float64_gramian(backend, num_objectives):
    grads = make_grads(num_objectives)
    jacobian = flat(grads)
    gram = gk.gram(grads)
    assert gram.dtype == torch.float64
    assert gram.shape == (num_objectives, num_objectives)
    assert torch.equal(gram, gram.T)
    # Products are exact in float64, so dot products near zero keep their sign too: errors are relative to |g_i| |g_j|.
    assert ((gram - jacobian @ jacobian.T).abs() <= 1e-14 * scale(jacobian)).all()


@pytest.mark.parametrize("numel", [1, 2, 7, 8, 9, 511, 512, 513, 4097, 32767, 32769, 2**17 + 3])
def test_gram_at_the_edges_of_vectors_chunks_and_tasks(backend, numel):
    grads = make_grads(7, shapes=[(numel,), (3,)], absent=0)
    jacobian = flat(grads)
    assert ((gk.gram(grads) - jacobian @ jacobian.T).abs() <= 1e-14 * scale(jacobian)).all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1.0, 1e15])
def test_gram_over_the_scales_of_float32(backend, magnitude):
    grads = make_grads(5, scales=magnitude)
    jacobian = flat(grads)
    assert (jacobian @ jacobian.T).diagonal().min() > 0
    assert ((gk.gram(grads) - jacobian @ jacobian.T).abs() <= 1e-14 * scale(jacobian)).all()


def test_gram_of_nearly_orthogonal_gradients_keeps_the_sign(backend):
    """The projection hangs on the sign of a dot product: cancellation to 1e-12 of the terms must not flip it."""
    g = torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    swapped = torch.stack([g[1::2], -g[::2]], dim=1).reshape(-1)  # orthogonal to g, exactly
    for nudge, sign in ((1e-4, 1), (-1e-4, -1)):
        other = swapped.clone()
        other[0] += nudge / float(g[0])
        expected = float(other.double() @ g.double())
        assert expected * sign > 0
        assert gk.gram([[g], [other]])[0, 1].item() == pytest.approx(expected, rel=1e-6)


def test_gram_with_groups_is_one_gramian_for_each(backend):
    grads = make_grads(6)
    groups = [2, 0, 1, 0, 2, 0, 2]
    grams = gk.gram(grads, groups)
    assert grams.shape == (3, 6, 6)
    for group in range(3):
        mine = [[g for g, q in zip(row, groups, strict=True) if q == group] for row in grads]
        assert torch.allclose(grams[group], gk.gram(mine), rtol=1e-13, atol=1e-12)
    assert torch.allclose(grams.sum(dim=0), gk.gram(grads), rtol=1e-13, atol=1e-12)


def test_none_counts_as_zeros_in_the_gramian(backend):
    grads = make_grads(5, absent=0.4)
    zeros = [[torch.zeros(shape) if g is None else g for g, shape in zip(row, SHAPES, strict=True)] for row in grads]
    assert torch.allclose(gk.gram(grads), gk.gram(zeros), rtol=1e-14, atol=1e-12)


def test_nothing_but_none(backend):
    grads = [[None, None], [None, None]]
    assert torch.equal(gk.gram(grads), torch.zeros(2, 2, dtype=torch.float64))
    merged, gram = gk.surgery(grads)
    assert merged == [None, None]
    assert torch.equal(gram, torch.zeros(2, 2, dtype=torch.float64))


def test_no_parameters_at_all(backend):
    merged, gram = gk.surgery([[], [], []])
    assert merged == []
    assert torch.equal(gram, torch.zeros(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_element_shows_on_the_diagonal(backend, bad):
    grads = make_grads(4, absent=0)
    grads[2][4][63, 32, 2] = bad
    finite = gk.gram(grads).diagonal().isfinite()
    assert finite.tolist() == [True, True, False, True]


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


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 7, 15, 16, 64])
@pytest.mark.parametrize("per_parameter", [False, True])
def test_combine_is_the_weighted_sum(backend, num_objectives, per_parameter):
    grads = make_grads(num_objectives)
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(len(SHAPES), num_objectives, generator=generator, dtype=torch.float64)
    weights = rows if per_parameter else rows[0]
    jacobian = flat(grads)
    for p, merged in enumerate(gk.combine(grads, weights)):
        terms = [
            w * row[p].double()
            for w, row in zip(rows[p if per_parameter else 0], grads, strict=True)
            if row[p] is not None
        ]
        if not terms:
            assert merged is None
        elif merged.numel():
            assert merged.dtype == torch.float32
            error = (merged.double() - sum(terms)).abs().max()
            assert error <= 1e-6 * num_objectives * jacobian.abs().max()


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


def strided_variants(value):
    """The same values in other memory layouts."""
    columns = torch.empty(*value.shape[:-1], value.shape[-1] * 2)[..., ::2]
    return {
        "channels_last": value.contiguous(memory_format=torch.channels_last_3d),
        "transposed": value.transpose(0, 1).contiguous().transpose(0, 1),
        "every_second": columns.copy_(value),
        "offset": torch.cat([torch.zeros(1), value.reshape(-1)])[1:].reshape(value.shape),
        "expanded": value[:, :1].contiguous().expand(value.shape),
    }


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "every_second", "offset", "expanded", "mixed"])
def test_any_strides(backend, layout):
    values = [torch.randn(6, 5, 3, 4, 7, generator=torch.Generator().manual_seed(k)) for k in range(5)]
    names = list(strided_variants(values[0]))
    grads = [[strided_variants(v)[names[k] if layout == "mixed" else layout]] for k, v in enumerate(values)]
    plain = [[g.contiguous().clone() for g in row] for row in grads]
    assert torch.allclose(gk.gram(grads), gk.gram(plain), rtol=1e-12)
    expected = gk.combine(plain, torch.arange(1.0, 6.0))[0]
    assert torch.allclose(gk.combine(grads, torch.arange(1.0, 6.0))[0], expected, rtol=1e-6, atol=1e-5)
    for out in strided_variants(torch.zeros(6, 5, 3, 4, 7)).values():
        if out.stride(1) == 0:
            continue  # a tensor that overlaps itself cannot hold a result
        gk.combine(grads, torch.arange(1.0, 6.0), out=[out.fill_(float("nan"))])
        assert torch.allclose(out, expected, rtol=1e-6, atol=1e-5)


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
    assert torch.allclose(whole.gram, split.gram, rtol=1e-12, atol=1e-12)
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


# Determinism, threads, instruction sets


def test_same_bits_for_any_number_of_threads():
    grads = make_grads(7, shapes=[(300_000,), (77,), (123_457,)], absent=0.1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            for _ in range(3):
                results.append((gk.gram(grads), gk.combine(grads, torch.linspace(-1, 1, 7))))
    finally:
        torch.set_num_threads(threads)
    for gram, merged in results[1:]:
        assert torch.equal(gram, results[0][0])
        assert all(torch.equal(a, b) for a, b in zip(merged, results[0][1], strict=True))


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_every_instruction_set(isa, tmp_path):
    """The choice is made once in a process: a new one for each."""
    script = (
        "import torch, gmd_kernels as gk; print(gk.backends()['cpu'].reason);"
        "g = [[torch.randn(n, generator=torch.Generator().manual_seed(n + k)) for n in (1, 7, 515, 40_001)]"
        "     for k in range(13)];"
        "gram, merged = gk.gram(g), gk.combine(g, torch.linspace(-1, 2, 13));"
        "J = torch.stack([torch.cat(r) for r in g]).double(); s = J.norm(dim=1);"
        "assert ((gram - J @ J.T).abs() <= 1e-14 * s[:, None] * s).all();"
        "assert ((torch.cat(merged).double() - torch.linspace(-1, 2, 13).double() @ J).abs() < 1e-5).all()"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "GMD_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert isa != "generic" or "(generic)" in run.stdout
    if f"({isa})" not in run.stdout and isa != "generic":
        pytest.skip(f"this processor has no {isa}; {run.stdout.strip()}")


# Corners


def test_a_coefficient_that_float32_cannot_hold(backend):
    """A saturated objective: its gradient is 1e-40, the projection off it has a coefficient of 1e40."""
    grads = [[torch.tensor([1.0, 1.0, 1.0])], [torch.tensor([-1e-40, 0.0, 0.0])]]
    result = gk.surgery(grads)
    assert result.weights.abs().max() > torch.finfo(torch.float32).max
    # the projected first gradient is [0, 1, 1]; the second loses what points against the first
    assert torch.allclose(result.merged[0], torch.tensor([0.0, 0.5, 0.5]), atol=1e-6)


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


# Types other than float32 go through the reference, and say so


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_fall_back_visibly(dtype):
    grads = make_grads(5, dtype=dtype)
    with pytest.warns(gk.FallbackWarning, match=r"serve float32, some gradients are torch\." + str(dtype)[6:]):
        gram = gk.gram(grads)
    jacobian = flat(grads)
    assert ((gram - jacobian @ jacobian.T).abs() <= 1e-14 * scale(jacobian)).all()
    with pytest.warns(gk.FallbackWarning):
        merged = gk.combine(grads, torch.ones(5))
    assert all(m is None or m.dtype == dtype for m in merged)


def test_types_may_differ_between_parameters():
    grads = [[torch.ones(3), torch.ones(2, dtype=torch.float64), torch.ones(4).bfloat16()] for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gk.FallbackWarning)
        merged, gram = gk.surgery(grads)
    assert torch.equal(gram, torch.full((2, 2), 9.0, dtype=torch.float64))
    assert [m.dtype for m in merged] == [torch.float32, torch.float64, torch.bfloat16]


def test_forcing_a_backend_that_cannot_serve_is_an_error(monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match=r"GMD_BACKEND=cpu cannot serve this call: .*float64"):
        gk.gram([[torch.ones(2, dtype=torch.float64)]])
    monkeypatch.setenv("GMD_BACKEND", "tpu")
    with pytest.raises(ValueError, match="expected 'cpu' or 'reference', got 'tpu'"):
        gk.gram([[torch.ones(2)]])
