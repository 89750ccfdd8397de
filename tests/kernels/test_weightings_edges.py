"""Weightings where gradients cancel, coincide, vanish or differ in scale: in float32, from gradients to the result."""

import functools

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import quadratic, weightings
from gmd_kernels.pivoting import pivoted
from helpers.gramians import KINDS, WEIGHTINGS, make_gram
from helpers.zoo import ZOO, balanced, nearly_stationary, opposite_and_others, random, stationary

pytestmark = pytest.mark.usefixtures("one_thread")

# no objective gets worse with these, at no point
PROMISING = {
    "mgda": weightings.mgda,
    "nash_mtl": weightings.nash_mtl,
    "nash_mtl, max_norm": functools.partial(weightings.nash_mtl, max_norm=1.0),
    "upgrad": weightings.upgrad,
    "dualproj": weightings.dualproj,
    "fairgrad": weightings.fairgrad,
    "cagrad, c=1": functools.partial(weightings.cagrad, c=1.0),
    "cagrad, c=2": functools.partial(weightings.cagrad, c=2.0),
}
OTHERS = {
    "cagrad": weightings.cagrad,
    "imtl_g": weightings.imtl_g,
    "aligned_mtl": weightings.aligned_mtl,
    "aligned_mtl, median": functools.partial(weightings.aligned_mtl, scale_mode="median"),
    "aligned_mtl, rmse": functools.partial(weightings.aligned_mtl, scale_mode="rmse"),
    "gradvac": WEIGHTINGS["gradvac"],
    "pcd": weightings.pcd,
    "config": weightings.config,
    "db_mtl": WEIGHTINGS["db_mtl"],
}
ALL = PROMISING | OTHERS


def check(name, make, num_objectives, seed):
    """The result is the combination of the gradients to 1e-3 of one of them, and keeps what the weighting promises."""
    rows = make(num_objectives, seed).float()
    result = gk.surgery([[row] for row in rows], ALL[name])
    jacobian, merged = rows.double(), result.merged[0].double()
    lengths, sizes = jacobian.norm(dim=1), result.weights.abs() * jacobian.norm(dim=1)
    case = f"{make.__name__}, T = {num_objectives}, seed {seed}"
    assert result.weights.isfinite().all(), case
    unit = num_objectives**0.5 if name.startswith(("nash_mtl", "fairgrad")) else lengths.max()
    assert (merged - result.weights @ jacobian).norm() <= 1e-3 * unit, f"{case}: rounding shows in the result"
    if name in PROMISING:  # 1e-5: as wrong as Gramians out of float32 products may be
        assert (jacobian @ merged >= -1e-5 * lengths * sizes.sum()).all(), f"{case}: an objective gets worse"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_rounding_does_not_show_and_promises_are_kept(name, make):
    for num_objectives in (2, 3, 4, 7, 15):
        for seed in range(2):
            check(name, make, num_objectives, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_rounding_does_not_show_and_promises_are_kept_at_many_objectives(name, make):
    for num_objectives in (5, 6, 8, 31, 63, 64):
        for seed in range(2, 7):
            check(name, make, num_objectives, seed)


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_pcgrad_leaves_no_conflict_between_two(make):
    for seed in range(5):
        rows = make(2, seed).float()
        result = gk.surgery([[row] for row in rows], weightings.pcgrad)
        jacobian, merged = rows.double(), result.merged[0].double()
        lengths = jacobian.norm(dim=1)
        assert (jacobian @ merged >= -1e-6 * lengths * (result.weights.abs() @ lengths)).all()
        assert (merged - result.weights @ jacobian).norm() <= 1e-6 * lengths.max()


# IMTL-G: weights of zero are zero, not rounding by rounding


def test_imtl_g_is_zero_along_a_line_with_as_many_gradients_one_way_as_the_other():
    """With rows k g and k = 1, 0.7, -1.3, -0.4 it was 4.8 |g|, in a random direction."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        multiples = torch.tensor([1.0, 0.7, -1.3, -0.4])[torch.randperm(4, generator=generator)]
        jacobian = (multiples[:, None] * torch.randn(50, generator=generator)).double()
        assert weightings.imtl_g(jacobian @ jacobian.T).tolist() == [0.0] * 4
        in_float32 = jacobian.float()
        assert weightings.imtl_g(gk.gram([[row] for row in in_float32])).tolist() == [0.0] * 4


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_imtl_gs_weights_are_bounded(make):
    for num_objectives in (2, 3, 4, 7, 15, 63):
        for seed in range(3):
            jacobian = make(num_objectives, seed)
            weights = weightings.imtl_g(jacobian @ jacobian.T)
            assert weights.abs().sum() <= 10 * (1 + 1e-12)
            assert float(weights.sum().abs()) <= 1 + 1e-12


def test_imtl_g_never_goes_uphill_where_gradients_are_independent():
    """The weights that sum to one would, in some of these: their projections are negative, all of them."""
    uphill = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        lengths = 10 ** (2 * torch.rand(5, 1, generator=generator, dtype=torch.float64))
        jacobian = lengths * (
            random(5, seed) + 8 * torch.randn(5, 3, generator=generator).double() @ random(3, seed + 1)
        )
        gram = jacobian @ jacobian.T
        weights = weightings.imtl_g(gram)
        projections = gram @ weights / jacobian.norm(dim=1)
        assert (projections > 0).all()
        assert projections.max() <= projections.min() * (1 + 1e-6)
        uphill += int(weights.sum() < 0)
    assert uphill > 0, "this test shows nothing"


def test_imtl_g_scaled_down_keeps_its_direction():
    """Unit gradients with the products 0, 0.9, 0.3: shares of 1.2, 1.3 and -0.5 over lengths that make them cancel."""
    cosines = torch.tensor([[1.0, 0.0, 0.9], [0.0, 1.0, 0.3], [0.9, 0.3, 1.0]], dtype=torch.float64)
    shares = torch.linalg.solve(cosines, torch.ones(3, dtype=torch.float64))
    negative = int(shares.argmin())
    lengths = torch.full((3,), 10.0, dtype=torch.float64)
    for length in (1.0, -10 * float(shares[negative] / (shares.sum() - shares[negative])) + 0.01):
        lengths[negative] = length
        weights = weightings.imtl_g(cosines * lengths * lengths[:, None])
        exact = shares / lengths / (shares / lengths).sum()
        expected = exact / max(1.0, float(exact.abs().sum()) / 10) * exact.sum().sign()
        assert torch.allclose(weights.abs(), expected.abs(), rtol=1e-9)
    assert float(weights.abs().sum()) == pytest.approx(10)


# Cancellation: what is bounded, and by what


@pytest.mark.parametrize("c", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("make", [stationary, nearly_stationary, balanced, opposite_and_others])
def test_cagrads_weights_are_bounded(make, c):
    for num_objectives in (2, 4, 15):
        jacobian = make(num_objectives, 0)
        weights = weightings.cagrad(jacobian @ jacobian.T, c)
        added = (weights - 1 / num_objectives).abs() * jacobian.norm(dim=1)
        assert added.max() <= 1e4 * c * jacobian.mean(dim=0).norm() * (1 + 1e-6)


def test_cagrad_stands_still_at_a_pareto_stationary_point():
    """The weights were 1e6 there with c = 2, and float32 made 13 % of a gradient out of nothing."""
    for seed in range(20):
        rows = stationary(4, seed).float()
        merged = gk.surgery([[row] for row in rows], functools.partial(weightings.cagrad, c=2.0)).merged[0]
        assert merged.norm() <= 3e-3 * rows.norm(dim=1).max()


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "nash_mtl"])
def test_weights_that_cancel_are_scaled_down_and_keep_their_direction(name, monkeypatch):
    jacobian = opposite_and_others(4, 1)
    gram, lengths = jacobian @ jacobian.T, jacobian.norm(dim=1)
    limit = 1.0 if name == "nash_mtl" else lengths.mean()
    free = WEIGHTINGS[name](gram)
    assert 1e3 * limit < (free * lengths).max() <= 1e4 * limit * (1 + 1e-12)
    monkeypatch.setattr("gmd_kernels.weightings._gramians.LARGEST", 1e3)
    weights = WEIGHTINGS[name](gram)
    assert float((weights * lengths).max() / limit) == pytest.approx(1e3)
    assert torch.allclose(weights / weights.max(), free / free.max(), rtol=1e-12)


# The two ways to solve the same programs


def test_pivoting_solves_what_is_well_posed():
    """Entries or their duals are zero, exactly; the interior-point method agrees."""
    for kind in KINDS:
        for num_objectives in (1, 2, 7, 15):
            gram = make_gram(num_objectives, kind)
            lengths = gram.diagonal().sqrt()
            cosines = gram / lengths / lengths[:, None] + 1e-12 * torch.eye(num_objectives)
            matrix = cosines.expand(num_objectives, -1, -1)
            z, solved = pivoted(matrix, cosines)
            assert solved.all()
            assert (z >= 0).all()
            assert (torch.where(z > 0, 0.0, z @ cosines + cosines) >= -1e-12).all()
            assert torch.allclose(z, quadratic._interior_point(matrix, cosines), rtol=1e-6, atol=1e-9)


def test_pivoting_says_what_it_has_not_solved():
    """Rank one and no ridge: no factor, no solution."""
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).expand(3, 2, 2)
    offset = torch.tensor([[-1.0, -1.0], [1.0, 0.5], [-1.0, 2.0]], dtype=torch.float64)
    z, solved = pivoted(matrix, offset)
    assert solved.tolist() == [False, True, True]
    assert z[1:].tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("name", [*PROMISING, "cagrad"])
def test_weights_are_those_of_the_interior_point_methods(name, monkeypatch):
    """Which is how they are found off the CPU."""
    grams = [make_gram(t, kind) for t in (2, 7, 15) for kind in KINDS]
    found = [ALL[name](gram) for gram in grams]
    monkeypatch.setattr(quadratic, "is_readable", lambda _: False)
    for gram, weights in zip(grams, found, strict=True):
        difference = (ALL[name](gram) - weights) * gram.diagonal().sqrt()
        assert difference.abs().max() <= 1e-6 * (weights * gram.diagonal().sqrt()).abs().max()


@pytest.mark.parametrize("name", ALL)
def test_another_default_device_changes_nothing(name):
    gram = make_gram(4, "conflicting")
    expected = ALL[name](gram)
    with torch.device("meta"):
        assert torch.equal(ALL[name](gram), expected)
