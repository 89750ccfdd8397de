"""What the projector is after many updates: the closed form, symmetric, positive semi-definite, closed where it met."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gmd_kernels as gk
from helpers.owm_cases import closed_form, make_case

pytestmark = pytest.mark.usefixtures("one_thread")

# d, dimensions of the space that the inputs are in, alpha, mean of the inputs
RUNS = {
    "all directions": (64, 64, 1.0, 0.0),
    "few of many": (64, 8, 1.0, 0.0),
    "few of many, mild": (129, 20, 129.0, 0.0),
    "small alpha": (64, 64, 1e-3, 0.0),
    "far from zero": (17, 17, 1.0, 3.0),
    "one again and again": (33, 1, 1e-3, 0.0),
}


def run(name: str, num_updates: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, float, float]:
    """-> the projector, the inputs [n, d], alpha, and the sum of all rounding errors.

    An update rounds every entry of P to within half a unit in the last place, which together is at most u |P| in the
    Frobenius norm; that of what is taken away adds as much. To first order what is in P already is not amplified:
    P_n = A P_m A^T with A = P_n P_m^-1, and P_n <= P_m.
    """
    d, rank, alpha, mean = RUNS[name]
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(rank, d, generator=generator) / rank**0.5
    inputs = (torch.randn(num_updates, rank, generator=generator) @ basis + mean).to(dtype)
    projector, grad, rounded = torch.eye(d, dtype=dtype), torch.ones(1, d, dtype=dtype), 0.0
    for h in inputs:
        rounded += torch.finfo(dtype).eps * projector.norm().item()
        gk.owm_update_(projector, grad, h, alpha)
    return projector, inputs, alpha, rounded


# the C++ kernels take 10,000 updates, PyTorch's lines a tenth: the same errors, at a tenth of the speed
@pytest.mark.slow
@pytest.mark.parametrize(("kernels", "num_updates"), [("cpu", 10_000), ("reference", 1_000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", RUNS)
def test_ten_thousand_updates(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype, kernels: str, num_updates: int
):
    monkeypatch.setenv("GMD_BACKEND", kernels)
    projector, inputs, alpha, rounded = run(name, num_updates, dtype)
    assert torch.equal(projector, projector.T)
    wide, seen = projector.double(), inputs.double()
    drift = torch.linalg.matrix_norm(wide - closed_form(inputs, alpha), 2)
    assert drift <= rounded
    assert drift <= 1000 * torch.finfo(dtype).eps, "500 were measured: errors of either sign cancel out"
    eigenvalues = torch.linalg.eigvalsh(wide)
    assert eigenvalues[0] >= -rounded
    assert eigenvalues[-1] <= 1 + rounded
    # P <= (I + h h^T / alpha)^-1 for every h that it has met
    left = ((seen @ wide) * seen).sum(dim=1)
    squares = seen.square().sum(dim=1)
    assert (left <= alpha * squares / (alpha + squares) + rounded * squares).all()
    assert (left >= -rounded * squares).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("d", [5, 64, 129])
def test_what_was_met_is_closed_up_to_alpha(d: int):
    """P_new h = k alpha / beta, and a gradient along h is left with as much."""
    case = make_case(d, classes=2, alpha=1e-3)
    case.weight_grad[:] = case.mean_input
    k = case.projector.double() @ case.mean_input.double()
    left = k * case.alpha / (case.alpha + case.mean_input.double() @ k)
    gk.owm_update_(*case)
    rounded = 4 * torch.finfo(torch.float32).eps * case.mean_input.norm()
    assert (case.projector @ case.mean_input - left).norm() <= rounded
    assert (case.weight_grad - left).norm(dim=1).max() <= rounded
    assert left.norm() < 0.01 * k.norm(), "little was closed: this test shows little"


@given(
    d=st.integers(1, 40),
    num_updates=st.integers(1, 12),
    alpha=st.floats(1e-3, 1e3),
    scale=st.floats(1e-2, 1e2),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_closed_form(d: int, num_updates: int, alpha: float, scale: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    inputs = scale * torch.randn(num_updates, d, generator=generator, dtype=torch.float64)
    projector, first = torch.eye(d, dtype=torch.float64), torch.randn(3, d, generator=generator, dtype=torch.float64)
    for h in inputs:
        grad = first.clone()
        gk.owm_update_(projector, grad, h, alpha)
    expected = closed_form(inputs, alpha)
    # k is a difference of numbers up to |h|: what is lost in it counts as |h|^2 / alpha times as much in P
    unit = 1e-14 * (1 + inputs.square().sum(dim=1).max().item() / alpha) * num_updates
    assert torch.equal(projector, projector.T)
    assert (projector - expected).norm() <= unit * d
    assert (grad - first @ expected).norm() <= unit * d * first.norm()


def test_the_order_of_the_inputs_does_not_matter():
    """But for rounding: the closed form is a sum."""
    inputs = torch.randn(20, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    projectors = []
    for order in (inputs, inputs.flip(0)):
        projector, grad = torch.eye(33, dtype=torch.float64), torch.zeros(1, 33, dtype=torch.float64)
        for h in order:
            gk.owm_update_(projector, grad, h, 0.5)
        projectors.append(projector)
    assert torch.allclose(*projectors, rtol=0, atol=1e-13)
