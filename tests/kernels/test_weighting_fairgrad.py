"""FairGrad: every objective's share follows from its weight, for any alpha and lengths; nothing cancels to noise."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import least_squares

import gmd_kernels as gk
from gmd_kernels import quadratic, weightings
from helpers.gramians import KINDS, distance, magnitudes, make_gram, make_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")

ALPHAS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    num_objectives=st.integers(1, 20),
    kind=st.sampled_from(KINDS),
    alpha=st.sampled_from(ALPHAS),
    exponent=st.integers(-30, 15),
    spread=st.sampled_from([0, 4, 8]),  # four more by one of the kinds
)
def test_progress_follows_from_the_weight(seed, num_objectives, kind, alpha, exponent, spread):
    """But for rounding, and for what is added to the Gramian: quadratic.NOISE of each diagonal entry."""
    generator = torch.Generator().manual_seed(seed)
    spread = 10 ** (spread * torch.rand(num_objectives, 1, generator=generator, dtype=torch.float64))
    jacobian = make_jacobian(num_objectives, kind, seed) * spread * 10.0**exponent
    gram = jacobian @ jacobian.T
    weights = weightings.fairgrad(gram, alpha)
    assert (weights > 0).all()
    expected = weights ** (-1 / alpha)
    rounding = 2 * quadratic.NOISE * gram.diagonal() * weights + 1e-14 * magnitudes(gram, weights)
    assert ((gram @ weights - expected).abs() <= 1e-10 * expected + rounding).all()


@pytest.mark.parametrize("num_objectives", [1, 2, 7, 15, 63])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_one_is_nash_mtl(kind, num_objectives):
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T
    assert distance(jacobian, weightings.fairgrad(gram), weightings.nash_mtl(gram)) <= 1e-9


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("num_objectives", "kind"), [(4, "conflicting"), (4, "random"), (15, "conflicting")])
def test_beside_scipy(num_objectives, kind, alpha):
    jacobian = make_jacobian(num_objectives, kind) / 8
    gram = jacobian @ jacobian.T
    weights = weightings.fairgrad(gram, alpha)

    def residual(w):
        return gram.numpy() @ w - w ** (-1 / alpha)

    start = 1.5 * weights.numpy()
    found = least_squares(residual, start, bounds=(1e-9, math.inf), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert abs(residual(weights.numpy())).max() <= 1e-10
    assert distance(jacobian, torch.from_numpy(found.x), weights) <= 1e-6


def test_a_small_alpha_is_the_sum_and_a_large_one_serves_the_worst_off():
    assert torch.allclose(weightings.fairgrad(make_gram(5) + 20, 1e-3), torch.ones(5).double(), atol=0.01)
    gram, least = make_gram(5, "conflicting"), []
    for alpha in (0.5, 1.0, 4.0, 16.0):
        weights = weightings.fairgrad(gram, alpha)
        least.append(float((gram @ weights).min() / (weights @ gram @ weights).sqrt()))
    assert least == sorted(least), "the larger alpha, the more of the same length does the worst-off get"


STATIONARY = {
    "opposite": torch.tensor([[1.0], [-1.0]]),
    "opposite lengths": torch.tensor([[1e-6], [-1.0]]),
    "a triangle": torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]),
    "one parameter": torch.linspace(-1, 2, 12)[:, None],
    "almost opposite": torch.tensor([[1.0, 1e-7], [-1.0, 0.0]]),
}


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("jacobian", STATIONARY.values(), ids=STATIONARY)
def test_what_cancels_is_not_amplified(jacobian, alpha):
    """What orthogonal gradients of these lengths would give is the measure, of which float32 sums leave little."""
    rows = jacobian.double()
    lengths = rows.norm(dim=1)
    natural = lengths ** ((1 - alpha) / (1 + alpha))
    weights = weightings.fairgrad(rows @ rows.T, alpha)
    assert (weights * lengths).max() <= 1.001e4 * natural.max()
    assert (rows @ (weights @ rows) / lengths).min() >= -6e-8 * (weights @ lengths), "more than float32 rounds"
    [merged], _ = gk.surgery([[row] for row in jacobian], lambda gram: weightings.fairgrad(gram, alpha))
    assert merged.norm() <= 0.01 * natural.norm()


def test_a_gradient_of_zero_has_no_weight_and_changes_none():
    gram = make_gram(4, "conflicting")
    gram[0] = gram[:, 0] = 0
    for alpha in ALPHAS:
        weights = weightings.fairgrad(gram, alpha)
        assert weights[0] == 0
        assert torch.allclose(weights[1:], weightings.fairgrad(gram[1:, 1:], alpha), rtol=1e-9)
    assert (weightings.fairgrad(torch.zeros(3, 3, dtype=torch.float64), 2.0) == 0).all()


@pytest.mark.parametrize("alpha", [0, -1.0, math.inf, math.nan, "1", True])
def test_bad_alphas_are_named(alpha):
    with pytest.raises(ValueError, match=f"alpha: expected a finite number above 0, got {alpha!r}"):
        weightings.fairgrad(torch.eye(2, dtype=torch.float64), alpha)
