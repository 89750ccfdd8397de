"""The weightings beside TorchJD's, on the same Gramians."""

import pytest
import torch
from torchjd import aggregation as jd
from torchjd.linalg import QuadprogProjector

import gmd_kernels as gk
from gmd_kernels import weightings
from gmd_kernels.weightings import _projections
from helpers.gramians import KINDS, WEIGHTINGS, distance, magnitudes, make_gram, make_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")


SIZES = [2, 3, 5, 8, 11, 16, 64]
every_case = pytest.mark.parametrize(("kind", "num_objectives"), [(kind, size) for kind in KINDS for size in SIZES])


@every_case
@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_projections_are_torchjds(name, kind, num_objectives):
    """Theirs are of G + reg_eps * trace(G) * I, by default 1e-4: with 1e-12 the two agree as far as that goes."""
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T
    theirs = {"upgrad": jd.UPGradWeighting, "dualproj": jd.DualProjWeighting}[name]
    expected = theirs(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-12))(gram)
    weights = WEIGHTINGS[name](gram)
    tolerance = {"collinear": 1e-6, "lengths": 1e-4}.get(kind, 1e-7)
    assert distance(jacobian, weights, expected) <= tolerance
    if name == "dualproj":
        assert weights @ gram @ weights <= (expected @ gram @ expected) * (1 + 1e-9)


@every_case
def test_mgda_is_at_least_as_short_as_torchjds(kind, num_objectives):
    """Theirs takes a hundred Frank-Wolfe steps, which is exact for two objectives alone."""
    gram = make_gram(num_objectives, kind)
    weights, theirs = weightings.mgda(gram), jd.MGDAWeighting()(gram)
    assert weights @ gram @ weights <= (theirs @ gram @ theirs) * (1 + 1e-12)
    if num_objectives == 2:
        assert torch.allclose(weights, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS[:3], "dependent"])
@pytest.mark.parametrize(("num_objectives", "c"), [(2, 0.4), (3, 0.9), (5, 0.1), (8, 0.4), (16, 0.4), (64, 0.4)])
def test_cagrad_serves_the_worst_off_at_least_as_well_as_torchjds(kind, num_objectives, c):
    """Theirs stops at CLARABEL's 1e-8 of the objective, of which the weights hold the root."""
    jacobian = make_jacobian(num_objectives, kind, seed=1)
    gram = jacobian @ jacobian.T
    weights, theirs = weightings.cagrad(gram, c), jd.CAGradWeighting(c)(gram)
    assert distance(jacobian, weights, theirs) <= 1e-3
    assert (gram @ weights).min() >= (gram @ theirs).min() - 1e-7 * magnitudes(gram, weights).max()


@every_case
def test_imtl_g_and_aligned_mtl_are_torchjds(kind, num_objectives):
    """But for the sign of IMTL-G's weights, where theirs lead uphill."""
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T
    weights = weightings.imtl_g(gram)
    assert distance(jacobian, weights * weights.sum().sign(), jd.IMTLGWeighting()(gram)) <= 1e-8
    preference = torch.rand(num_objectives, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for preferred in (None, preference):
        for scale_mode in ("min", "median", "rmse"):
            expected = jd.AlignedMTLWeighting(preferred, scale_mode=scale_mode)(gram)
            assert distance(jacobian, weightings.aligned_mtl(gram, preferred, scale_mode), expected) <= 1e-8


@pytest.mark.parametrize("num_objectives", [2, 3, 8, 16])
def test_preferences_are_torchjds(num_objectives):
    jacobian = make_jacobian(num_objectives, "conflicting")
    gram = jacobian @ jacobian.T
    preference = torch.rand(num_objectives, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    projector = QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)
    for ours, theirs in ((weightings.upgrad, jd.UPGradWeighting), (weightings.dualproj, jd.DualProjWeighting)):
        assert distance(jacobian, ours(gram, preference), theirs(preference, projector)(gram)) <= 1e-7


@pytest.mark.parametrize("num_objectives", [2, 3, 7, 16])
def test_gradvac_is_torchjds(num_objectives, monkeypatch):
    """Three steps, with the moving averages that they leave. Theirs takes its orders from torch's default generator."""
    theirs = jd.GradVacWeighting(beta=0.3, eps=0.0)
    cosines = torch.zeros(num_objectives, num_objectives, dtype=torch.float64)
    for step in range(3):
        gram = make_gram(num_objectives, "conflicting", seed=step)
        torch.manual_seed(step)
        others = [torch.tensor([j for j in range(num_objectives) if j != i]) for i in range(num_objectives)]
        order = torch.stack([row[torch.randperm(num_objectives - 1)] for row in others])
        torch.manual_seed(step)
        expected = theirs(gram)
        monkeypatch.setattr(_projections, "projection_order", lambda *args, order=order: order[None])
        assert torch.allclose(weightings.gradvac(gram, cosines, beta=0.3), expected, rtol=1e-9)
        assert torch.allclose(cosines, theirs._phi_t, rtol=1e-9, atol=1e-15)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of cvxpy, on how it is used
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_objectives", [2, 3, 5, 8])
def test_nash_mtl_solves_what_torchjds_approaches(kind, num_objectives):
    """Theirs takes at most 20 convex programs: too few where the lengths of the gradients differ a thousandfold."""
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T
    weights = weightings.nash_mtl(gram)
    theirs = jd.NashMTL(n_tasks=num_objectives, max_norm=0.0).weighting(jacobian)
    residual = (weights * (gram @ weights) - 1).abs().max()
    assert residual <= 1e-6  # what is added to the diagonal, 1e-12, times the square of the weights by the lengths
    assert residual <= (theirs * (gram @ theirs) - 1).abs().max()
    if kind != "lengths":
        assert distance(jacobian, theirs, weights) <= 1e-3
        bounded = jd.NashMTL(n_tasks=num_objectives, max_norm=1.0).weighting(jacobian)
        assert distance(jacobian, bounded, weightings.nash_mtl(gram, max_norm=1.0)) <= 1e-3


def pcds_case(seed):
    """[T, N] of 1 to 8 gradients: of full rank, with something in common, or of rank two, which is often infeasible."""
    generator = torch.Generator().manual_seed(seed)
    num_objectives, kind = 1 + seed % 8, seed % 3
    rows = torch.randn(num_objectives, (12, 12, 2)[kind], generator=generator, dtype=torch.float64)
    return rows + torch.randn(rows.shape[1], generator=generator, dtype=torch.float64) if kind == 1 else rows


def test_pcd_is_torchjds():
    alone = 0
    for seed in range(240):
        jacobian = pcds_case(seed)
        expected, weights = jd.PCDWeighting()(jacobian @ jacobian.T), weightings.pcd(jacobian @ jacobian.T)
        assert distance(jacobian, weights, expected) <= 1e-9, seed
        alone += seed % 3 == 2 and len(jacobian) > 2 and bool((expected[1:] == 0).all())
    assert alone > 10, "no case without a solution"


@pytest.mark.parametrize("num_objectives", [1, 2, 7, 15])
def test_pcd_keeps_the_averages_of_torchjds(num_objectives):
    tau = torch.linspace(0, 0.1, num_objectives, dtype=torch.float64)
    theirs, state = jd.PCDWeighting(tau[1:]), torch.zeros(2, num_objectives, dtype=torch.float64)
    for step in range(5):
        jacobian = make_jacobian(num_objectives, "conflicting", seed=step) * 10.0 ** (step - 2)
        gram = jacobian @ jacobian.T
        assert distance(jacobian, weightings.pcd(gram, tau=tau, state=state), theirs(gram)) <= 1e-9
    assert torch.allclose(state[0], theirs._sq_norm_ema, rtol=1e-12)


@every_case
def test_config_is_torchjds(kind, num_objectives):
    jacobian = make_jacobian(num_objectives, kind)
    expected = jd.ConFIG()(jacobian)
    merged = weightings.config(jacobian @ jacobian.T) @ jacobian
    assert (merged - expected).norm() <= (1e-9 if kind == "collinear" else 1e-12) * expected.norm()


@pytest.mark.parametrize("num_objectives", [3, 8, 16])
def test_config_of_dependent_gradients_is_torchjds(num_objectives):
    jacobian = make_jacobian(num_objectives, "dependent")
    expected = jd.ConFIG()(jacobian)
    assert (weightings.config(jacobian @ jacobian.T) @ jacobian - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("num_objectives", [2, 5, 8])
def test_fairgrad_is_torchjds(num_objectives, alpha):
    jacobian = make_jacobian(num_objectives, "conflicting") / 4
    gram = jacobian @ jacobian.T
    weights, theirs = weightings.fairgrad(gram, alpha), jd.FairGradWeighting(alpha)(gram)
    assert (gram @ weights - weights ** (-1 / alpha)).abs().max() <= 1e-10
    assert distance(jacobian, theirs, weights) <= 1e-6


@pytest.mark.parametrize(("num_objectives", "byzantine", "selected"), [(3, 0, 1), (8, 1, 1), (8, 3, 4), (15, 2, 15)])
def test_krum_is_torchjds(num_objectives, byzantine, selected):
    for kind in KINDS:
        gram = make_gram(num_objectives, kind)
        expected = jd.KrumWeighting(byzantine, selected)(gram)
        assert torch.allclose(weightings.krum(gram, byzantine, selected), expected, rtol=1e-15)


@pytest.mark.parametrize("num_objectives", [1, 3, 15, 64])
def test_given_and_random_weights_are_torchjds(num_objectives):
    gram, given = make_gram(num_objectives), torch.linspace(-1, 1, num_objectives, dtype=torch.float64)
    assert torch.equal(weightings.constant(gram, given), jd.ConstantWeighting(given)(gram))
    torch.manual_seed(0)
    expected = jd.RandomWeighting()(gram)
    torch.manual_seed(0)
    assert torch.equal(weightings.random(gram), expected)


# What each method promises, for Jacobians of any rank and scale


@pytest.mark.parametrize("theirs", [jd.UPGradWeighting(), jd.MGDAWeighting(), jd.AlignedMTLWeighting()])
def test_surgery_with_a_weighting_of_torchjd(theirs):
    jacobian = make_jacobian(3, "conflicting")
    result = gk.surgery([[row[:5].float(), row[5:].float()] for row in jacobian], theirs)
    expected = theirs(result.gram) @ jacobian
    assert torch.allclose(torch.cat(result.merged).double(), expected, atol=1e-5)
