"""The weightings: what each method promises, at any scale and rank, one by one and in batches."""

import functools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import gmd_kernels as gk
from gmd_kernels import quadratic, weightings
from gmd_kernels.weightings import _spectral
from helpers.gramians import (
    KINDS,
    WEIGHTINGS,
    distance,
    every_weighting,
    fresh_gradvac,
    magnitudes,
    make_gram,
    make_jacobian,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def jacobians(draw):
    """T from 1 to 12, N from 1 to 20, lengths from 1e-30 to 1e15, alike or not; some gradients doubled, some zero."""
    num_objectives, numel = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    jacobian = torch.randn(num_objectives, numel, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        jacobian = jacobian + 3 * torch.randn(numel, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        jacobian = jacobian * 10 ** (4 * torch.rand(num_objectives, 1, generator=generator, dtype=torch.float64))
    if draw(st.booleans()):
        jacobian[-1] = draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0])) * jacobian[0]
    return jacobian * 10.0 ** draw(st.integers(-30, 11))


properties = settings(max_examples=50, deadline=None, derandomize=True)


@properties
@given(jacobian=jacobians(), name=st.sampled_from(["upgrad", "dualproj"]))
def test_projections_leave_no_conflict_and_nothing_shorter(jacobian, name):
    gram = jacobian @ jacobian.T
    weights = WEIGHTINGS[name](gram)
    products, allowed = gram @ weights, 1e-10 * magnitudes(gram, weights)
    assert (products >= -allowed).all()
    if name == "dualproj":  # complementarity: what was added is orthogonal to the result
        added = weights - 1 / len(gram)
        assert (added >= -1e-12).all()
        assert (added * products).sum().abs() <= 1e-9 * (weights.abs() * magnitudes(gram, weights)).sum()


@properties
@given(jacobian=jacobians())
def test_upgrad_projects_each_gradient_by_itself(jacobian):
    gram = jacobian @ jacobian.T
    units = torch.eye(len(gram), dtype=torch.float64) / len(gram)
    alone = torch.stack([weightings.dualproj(gram, unit) for unit in units]).sum(dim=0)
    upgrad = weightings.upgrad(gram)
    scale = magnitudes(gram, upgrad) + magnitudes(gram, alone)
    assert (gram @ (upgrad - alone)).abs().max() <= 1e-9 * scale.max()


@properties
@given(seed=st.integers(0, 2**16), num_objectives=st.integers(1, 12))
def test_without_conflict_projections_are_the_preference(seed, num_objectives):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.rand(num_objectives, 20, generator=generator, dtype=torch.float64) + 0.01
    preference = torch.rand(num_objectives, generator=generator, dtype=torch.float64)
    for project in (weightings.upgrad, weightings.dualproj):
        assert torch.allclose(project(jacobian @ jacobian.T, preference), preference, rtol=1e-12)


@properties
@given(jacobian=jacobians())
def test_mgda_is_the_shortest_of_the_simplex(jacobian):
    gram = jacobian @ jacobian.T
    weights = weightings.mgda(gram)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1)
    products, there = gram @ weights, gram.diagonal() > 0  # a gradient of zero takes no part
    assert (products - weights @ products >= -1e-10 * magnitudes(gram, weights))[there].all()


@properties
@given(jacobian=jacobians(), c=st.sampled_from([0.05, 0.4, 0.9, 2.0]))
def test_cagrad_serves_the_worst_off_best_within_the_ball(jacobian, c):
    gram = jacobian @ jacobian.T
    weights, mean = weightings.cagrad(gram, c), torch.full((len(gram),), 1 / len(gram), dtype=torch.float64)
    length = (gram.sum() / gram.numel()).clamp(min=0).sqrt()
    unit = length * gram.diagonal().max().sqrt()  # no improvement is larger
    assert ((weights - mean) @ jacobian).norm() <= c * length * (1 + 1e-6)
    there = gram.diagonal() > 0  # a gradient of zero is none of the worst off
    if not there.any():
        return
    worst = (gram @ weights)[there].min()
    assert worst >= (gram @ mean)[there].min() - 1e-12 * unit
    # any w of the simplex bounds the best there is from above: <g_w, g_0> + c |g_0| |g_w|
    if length > 1e-6 * gram.diagonal().max().sqrt():
        simplex = (weights - mean).clamp(min=0)
        simplex = simplex / simplex.sum()
        gained = c * length * (simplex @ jacobian).norm()
        bounds = 0.0 if gained > 1e-2 * unit else 1e-4 * c  # on the weights, where they cancel
        assert simplex @ gram @ mean + gained - worst <= (1e-6 * (1 + c) + bounds) * unit


@properties
@given(jacobian=jacobians())
def test_nash_mtl_has_every_objective_contribute_alike(jacobian):
    """But for what is added to the Gramian: quadratic.NOISE of each diagonal entry. Where weights are bounded, less."""
    gram = jacobian @ jacobian.T
    weights, present = weightings.nash_mtl(gram), gram.diagonal() > 0
    shares = weights * (gram @ weights) + quadratic.NOISE * gram.diagonal() * weights**2
    rounding = weights * magnitudes(gram, weights)
    largest = (weights * gram.diagonal().sqrt()).max()
    assert largest <= quadratic.LARGEST * (1 + 1e-12)
    if largest < quadratic.LARGEST * (1 - 1e-12):
        assert ((shares - 1).abs() <= 1e-10 + 1e-14 * rounding)[present].all()
    assert (weights[present] > 0).all()
    assert (weights[~present] == 0).all()
    assert (weights @ jacobian).norm() ** 2 <= len(gram) * (1 + 1e-9)


@properties
@given(jacobian=jacobians(), max_norm=st.floats(1e-3, 10))
def test_nash_mtl_with_max_norm_is_the_same_direction_and_no_longer(jacobian, max_norm):
    gram = jacobian @ jacobian.T
    free, weights = weightings.nash_mtl(gram), weightings.nash_mtl(gram, max_norm=max_norm)
    length = (free @ gram @ free).clamp(min=0).sqrt()
    expected = free * min(1.0, max_norm / max(float(length), 1e-300))
    lengths = gram.diagonal().sqrt()
    assert ((weights - expected) * lengths).abs().max() <= 1e-7 * (expected * lengths).abs().max() + 1e-300


@properties
@given(seed=st.integers(0, 2**16), num_objectives=st.integers(1, 12), exponent=st.integers(-30, 15))
def test_imtl_g_projects_alike_onto_every_gradient(seed, num_objectives, exponent):
    jacobian = make_jacobian(num_objectives, "lengths", seed) * 10.0**exponent
    weights = weightings.imtl_g(jacobian @ jacobian.T)
    projections = jacobian @ (weights @ jacobian) / jacobian.norm(dim=1)
    assert float(weights.sum()) == pytest.approx(1)
    assert (projections - projections.mean()).abs().max() <= 1e-9 * (weights.abs() @ jacobian.norm(dim=1))


@properties
@given(seed=st.integers(0, 2**16), num_objectives=st.integers(1, 12), exponent=st.integers(-30, 15))
def test_aligned_mtl_makes_the_gradients_orthogonal_and_of_the_least_singular_value(seed, num_objectives, exponent):
    jacobian = make_jacobian(num_objectives, "conflicting", seed) * 10.0**exponent
    gram = jacobian @ jacobian.T
    units = torch.eye(num_objectives, dtype=torch.float64)
    rows = torch.stack([weightings.aligned_mtl(gram, unit) for unit in units])
    least = torch.linalg.svdvals(jacobian).min()
    assert torch.allclose(rows @ gram @ rows.T / least**2, units, atol=1e-8)


@properties
@given(seed=st.integers(0, 2**16), target=st.floats(-0.99, 0.99), exponent=st.integers(-30, 15))
def test_gradvac_turns_gradients_until_their_cosine_is_the_average(seed, target, exponent):
    """Of two gradients: what is added to the one is the other's weight."""
    jacobian = make_jacobian(2, seed=seed) * torch.tensor([[10.0**exponent], [10.0 ** (exponent - 2)]])
    cosines = torch.full((2, 2), target, dtype=torch.float64)
    added = weightings.gradvac(jacobian @ jacobian.T, cosines, beta=0.25) - 1
    units = jacobian / jacobian.norm(dim=1, keepdim=True)
    before = units[0] @ units[1]
    for i, j in ((0, 1), (1, 0)):
        turned = jacobian[i] + added[j] * jacobian[j]
        assert float(turned @ units[j] / turned.norm()) == pytest.approx(float(before.clamp(min=target)), abs=1e-9)
        assert float(cosines[i, j]) == pytest.approx(float(0.75 * target + 0.25 * before))
    assert cosines.diagonal().tolist() == [target, target]


def test_gradvac_with_averages_of_zero_is_pcgrad():
    gram = make_gram(7, "conflicting")
    expected = weightings.pcgrad(gram, torch.Generator().manual_seed(0))
    assert torch.allclose(fresh_gradvac(gram), expected)


def test_mean_and_sum_are_what_they_say():
    gram = make_gram(4)
    assert weightings.mean(gram).tolist() == [0.25] * 4
    assert weightings.sum(gram).tolist() == [1.0] * 4


# What holds for all of them


@every_weighting
@pytest.mark.parametrize("num_objectives", [1, 2, 9])
def test_a_batch_is_one_by_one(weighting, num_objectives):
    grams = torch.stack([make_gram(num_objectives, kind, seed) for seed in range(2) for kind in KINDS])
    batch = grams.reshape(2, len(KINDS), num_objectives, num_objectives)
    generator = torch.Generator().manual_seed(0)
    if weighting is fresh_gradvac:  # an order for each Gramian, one after the other
        weighting = lambda gram: weightings.gradvac(gram, torch.zeros_like(gram), generator=generator)  # noqa: E731
    expected = torch.stack([weighting(gram) for gram in grams]).reshape(batch.shape[:-1])
    generator.manual_seed(0)
    weights = weighting(batch)
    assert weights.dtype == torch.float64
    assert torch.allclose(weights, expected, rtol=1e-7, atol=1e-9)


def test_those_that_take_batches_say_so():
    for name, weighting in WEIGHTINGS.items():
        assert getattr(weightings, name).batched, weighting


@every_weighting
@pytest.mark.parametrize("exponent", [-100, -47, 3, 50])  # gradients of 1e-30 to 1e15
def test_the_scale_of_the_gradients_does_not_matter(weighting, exponent):
    """The weights stay; those of the bargaining solution fall as the scale rises."""
    if weighting is weightings.pcd:  # what it adds to its averages has a scale, which does not matter without a share
        weighting = functools.partial(weighting, tau=0.0)
    for kind in ("conflicting", "dependent"):
        jacobian = make_jacobian(9, kind)
        scaled = jacobian * 2.0**exponent
        expected, weights = weighting(jacobian @ jacobian.T), weighting(scaled @ scaled.T)
        factor = 2.0**exponent if weighting in (weightings.nash_mtl, weightings.fairgrad) else 1.0
        assert torch.allclose(weights * factor, expected, rtol=1e-12)


@every_weighting
@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_objectives_does_not_matter(weighting, kind):
    num_objectives = 2 if weighting is fresh_gradvac else 8  # more meet in an order, which is random
    jacobian = make_jacobian(num_objectives, kind)
    permutation = torch.randperm(num_objectives, generator=torch.Generator().manual_seed(2))
    permuted = jacobian[permutation]
    expected = weighting(jacobian @ jacobian.T)[permutation]
    if weighting is weightings.pcd:
        weighting = functools.partial(weighting, primary=permutation.tolist().index(0))
    assert distance(permuted, weighting(permuted @ permuted.T), expected) <= 1e-7


DEGENERATE = {
    "all zero": torch.zeros(5, 3),
    "one zero": torch.tensor([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]]),
    "only one not zero": torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 0.0]]),
    "the same": torch.ones(6, 4),
    "doubled": torch.tensor([[1.0, 2.0], [1.0, 2.0], [-1.0, 1.0]]),
    "opposite": torch.tensor([[1.0, 2.0], [-1.0, -2.0]]),
    "opposite lengths": torch.tensor([[1e-8], [-1.0]]),
    "one parameter": torch.linspace(-1, 2, 12)[:, None],
    "a triangle": torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]),
}


@every_weighting
@pytest.mark.parametrize("jacobian", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_gramians(weighting, jacobian):
    """Finite weights; no conflict where there is none by promise, but for rounding."""
    jacobian = jacobian.double()
    gram = jacobian @ jacobian.T
    weights = weighting(gram)
    assert weights.isfinite().all()
    none_worse = (weightings.upgrad, weightings.dualproj, weightings.mgda, weightings.nash_mtl, weightings.fairgrad)
    if weighting in none_worse:
        assert (gram @ weights >= -1e-10 * magnitudes(gram, weights)).all()
    if weighting is weightings.cagrad:
        assert (gram @ weights).min() >= gram.mean(dim=0).min() - 1e-7 * gram.diagonal().max()


ROUNDED = {
    "random": lambda normal: normal(15, 5000),
    "two alike": lambda normal: normal(13, 5000)[[*range(13), 3, 3]],
    "rank four": lambda normal: normal(15, 4) @ normal(4, 5000),
    "constant": lambda normal: normal(15, 1).expand(15, 5000),
    "nearly collinear": lambda normal: normal(1, 5000) + 1e-4 * normal(15, 5000),
    "nearly opposite": lambda normal: normal(15, 1).sign() * normal(1, 5000) + 1e-3 * normal(15, 5000),
}


@every_weighting
@pytest.mark.parametrize("make", ROUNDED.values(), ids=ROUNDED)
def test_gramians_out_of_float32_products(weighting, make):
    """Wrong by a few 1e-9, 4e-6 at worst, which makes those of dependent gradients indefinite: no weight may run."""
    generator = torch.Generator().manual_seed(0)
    rows = make(lambda *shape: torch.randn(*shape, generator=generator))
    gram, exact = gk.gram([[row] for row in rows]), rows.double() @ rows.double().T
    weights = weighting(gram)
    unsolvable = weighting in (weightings.nash_mtl, weightings.fairgrad)  # at a Pareto-stationary point
    # pcd asks for progress along gradients that nearly oppose each other
    bound = 1e3 if unsolvable or weighting is weightings.pcd else 1e2
    assert weights.isfinite().all()
    assert weights.abs().max() <= bound / min(1.0, float(exact.diagonal().min().sqrt()))
    if weighting in (weightings.upgrad, weightings.dualproj, weightings.mgda):
        assert (exact @ weights).min() >= -1e-4 * exact.diagonal().max()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_one_objective_has_its_own_gradient(scale):
    gram = torch.full((1, 1), scale**2, dtype=torch.float64)
    expected = dict.fromkeys(WEIGHTINGS, 1.0) | {"cagrad": 1.4, "nash_mtl": 1 / scale, "fairgrad": 1 / scale}
    for name, weighting in WEIGHTINGS.items():
        assert float(weighting(gram)) == pytest.approx(expected[name]), name


def test_a_gradient_of_zero():
    gram = torch.zeros(3, 3, dtype=torch.float64)
    gram[1:, 1:] = make_gram(2, "conflicting")
    assert weightings.mgda(gram)[0] == 0
    assert torch.allclose(weightings.mgda(gram)[1:], weightings.mgda(gram[1:, 1:]))
    served = gram @ weightings.cagrad(gram)
    assert served[1:].min() > (gram @ weightings.mean(gram))[1:].min() + 1e-3, "the others are served as before"
    assert torch.allclose(weightings.imtl_g(gram)[1:], weightings.imtl_g(gram[1:, 1:]))
    assert torch.allclose(weightings.nash_mtl(gram)[1:], weightings.nash_mtl(gram[1:, 1:]))
    assert weightings.imtl_g(gram)[0] == weightings.nash_mtl(gram)[0] == 0
    for project in (weightings.upgrad, weightings.dualproj):
        assert torch.allclose(project(gram)[1:], project(gram[1:, 1:]) * 2 / 3)
    cosines = torch.full((3, 3), 0.5, dtype=torch.float64)
    weightings.gradvac(gram, cosines)
    assert (cosines[0] == 0.5).all()  # nothing was met
    assert (cosines[:, 0] == 0.5).all()


@every_weighting
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gramian_that_is_not_finite_gives_weights_that_are_not_and_spoils_no_other(weighting, bad):
    grams = torch.stack([make_gram(5), make_gram(5)])
    expected = weighting(grams)[1]
    grams[0, 2, 3] = bad
    weights = weighting(grams)
    assert torch.equal(weights[1], expected)
    if weighting not in (weightings.mean, weightings.sum):
        assert not weights[0].isfinite().any()


def test_gradvac_keeps_its_averages_finite():
    cosines = torch.full((5, 5), 0.3, dtype=torch.float64)
    weightings.gradvac(torch.full((5, 5), float("nan"), dtype=torch.float64), cosines)
    assert (cosines == 0.3).all()


def test_gradvac_with_averages_of_one():
    """Gradients that were the same and no longer are: a cosine of one is out of reach."""
    weights = weightings.gradvac(make_gram(4), torch.ones(4, 4, dtype=torch.float64))
    assert weights.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda gram: weightings.mgda(gram.float()), r"gram: expected float64 \[T, T\], got torch.float32 \[3, 3\]"),
        (lambda gram: weightings.upgrad(gram[0]), r"gram: expected float64 \[T, T\], got torch.float64 \[3\]"),
        (lambda gram: weightings.mean(gram[:2]), r"gram: expected float64 \[T, T\], got torch.float64 \[2, 3\]"),
        (lambda gram: weightings.sum(gram.new_ones(65, 65)), r"gram: expected 1 to 64 objectives, got 65"),
        (lambda gram: weightings.cagrad(gram, c=-0.1), r"c: expected a finite number of at least 0, got -0.1"),
        (lambda gram: weightings.cagrad(gram, c=math.inf), r"c: expected a finite number of at least 0, got inf"),
        (lambda gram: weightings.upgrad(gram, gram[0, :2]), r"preference: expected floating \[T\] = \[3\] on cpu, got"),
        (lambda gram: weightings.dualproj(gram, torch.ones(3).int()), r"preference: .*, got torch.int32 \[3\] on cpu"),
        (lambda gram: weightings.aligned_mtl(gram, -torch.ones(3)), r"preference: expected at least 0, got \[-1.0,"),
        (lambda gram: weightings.nash_mtl(gram, max_norm=0.0), r"max_norm: expected a finite number above 0, got 0.0"),
        (lambda gram: weightings.nash_mtl(gram, max_norm=math.inf), r"max_norm: expected a finite .*, got inf"),
        (lambda gram: weightings.nash_mtl(gram, max_norm=math.nan), r"max_norm: expected a finite .*, got nan"),
        (
            lambda gram: weightings.aligned_mtl(gram, scale_mode="mean"),
            r"scale_mode: expected 'min', 'median' or 'rmse', got 'mean'",
        ),
        (lambda gram: weightings.gradvac(gram, gram.clone(), beta=0.0), r"beta: expected above 0 and at most 1, got 0"),
        (lambda gram: weightings.gradvac(gram, gram.clone(), beta=1.5), r"beta: expected above 0 and at most 1, got 1"),
        (lambda gram: weightings.gradvac(gram, gram[:2]), r"cosines: expected float64 \[3, 3\] on cpu, got"),
        (lambda gram: weightings.gradvac(gram, gram.float()), r"cosines: .*, got torch.float32 \[3, 3\] on cpu"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.eye(3, dtype=torch.float64))


def test_every_weighting_looks_at_its_gramian():
    for weighting in WEIGHTINGS.values():
        with pytest.raises(ValueError, match=r"gram: expected float64 \[T, T\], got torch.float32 \[3, 2\]"):
            weighting(torch.ones(3, 2))


# By name


def test_every_weighting_has_a_name():
    there = {name for name, value in vars(weightings).items() if getattr(value, "batched", False) is True}
    assert set(weightings.NAMES) == there
    assert all(weightings.named(name) is getattr(weightings, name) for name in weightings.NAMES)


def test_the_options_of_a_name_are_those_that_stay_from_step_to_step():
    [(name, option)] = weightings.options_of("cagrad").items()
    assert (name, option.annotation, option.default) == ("c", float, 0.4)
    assert list(weightings.options_of("gradvac")) == ["beta"]
    assert list(weightings.options_of("upgrad")) == ["preference"]
    assert not weightings.options_of("pcgrad")
    with pytest.raises(ValueError, match=r"weighting: expected one of mean, sum, .*, got 'sgd'"):
        weightings.options_of("sgd")


# Where they run


@every_weighting
def test_nothing_reads_a_value_on_the_host(weighting):
    """On the meta device there is none to read. Off the CPU eigenvectors come from Jacobi's method."""
    gram = torch.empty(2, 5, 5, dtype=torch.float64, device="meta")
    if weighting is fresh_gradvac:
        weighting = functools.partial(weightings.gradvac, cosines=torch.empty_like(gram))
    weights = weighting(gram)
    assert weights.shape == (2, 5)
    assert weights.device.type == "meta"


@pytest.mark.slow
@every_weighting
def test_torch_compile_without_a_break(weighting):
    gram = make_gram(4, "conflicting")
    if weighting is fresh_gradvac:
        weighting = lambda gram: weightings.gradvac(gram, torch.zeros_like(gram))  # noqa: E731
    compiled = torch.compile(weighting, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = weighting(gram)
    torch.manual_seed(0)
    assert torch.allclose(compiled(gram), expected, rtol=1e-9)


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 8, 15, 64])
def test_jacobi_gives_eigenvectors(num_objectives):
    gram = torch.stack([make_gram(num_objectives, kind) for kind in ("conflicting", "dependent")])
    gram[:, :, 0] = gram[:, 0] = 0
    values, vectors = quadratic._jacobi(gram)
    scale = gram.abs().amax()
    assert ((vectors * values.unsqueeze(-2)) @ vectors.mT - gram).abs().max() <= 1e-11 * scale
    assert (vectors @ vectors.mT - torch.eye(num_objectives)).abs().max() <= 1e-12


def test_weightings_from_jacobis_eigenvectors(monkeypatch):
    grams = [make_gram(7, kind) for kind in ("conflicting", "dependent")]
    expected = [(weightings.imtl_g(gram), weightings.aligned_mtl(gram)) for gram in grams]
    monkeypatch.setattr(_spectral, "eigh", quadratic._jacobi)
    for gram, (imtl_g, aligned_mtl) in zip(grams, expected, strict=True):
        assert torch.allclose(weightings.imtl_g(gram), imtl_g, rtol=1e-8)
        assert torch.allclose(weightings.aligned_mtl(gram), aligned_mtl, rtol=1e-8)


# In the pipeline


@every_weighting
def test_surgery_with_a_weighting_of_ours(weighting):
    jacobian = make_jacobian(3, "conflicting")
    result = gk.surgery([[row[:5].float(), row[5:].float()] for row in jacobian], weighting)
    assert torch.allclose(torch.cat(result.merged).double(), weighting(result.gram) @ jacobian, atol=1e-5)


def test_gradvac_in_surgery_keeps_its_state():
    cosines = torch.zeros(3, 3, dtype=torch.float64)
    weighting = functools.partial(weightings.gradvac, cosines=cosines, beta=1.0)
    jacobian = make_jacobian(3, "conflicting").float()
    gram = gk.surgery([[row] for row in jacobian], weighting).gram
    assert (cosines != 0).sum() == 6
    lengths = gram.diagonal().sqrt()
    assert cosines.abs().max() <= (gram / lengths / lengths[:, None]).abs().max() + 1
