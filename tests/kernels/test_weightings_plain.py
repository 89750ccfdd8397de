"""Weightings that do not look at the gradients: given weights, and random ones."""

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import weightings
from helpers.gramians import make_gram, make_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN = torch.tensor([0.5, -1.0, 2.0])


def test_given_weights_are_taken_for_every_gramian():
    grams = torch.stack([make_gram(3, seed=seed) for seed in range(2)])
    assert weightings.constant(grams[0], GIVEN).tolist() == GIVEN.tolist()
    weights = weightings.constant(grams, GIVEN)
    assert weights.tolist() == [GIVEN.tolist()] * 2
    weights.zero_()
    assert GIVEN.tolist() == [0.5, -1.0, 2.0], "what comes out is the caller's own"
    assert weights.dtype == torch.float64


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (GIVEN[:2], r"weights: expected floating \[T\] = \[3\] on cpu, got torch.float32 \[2\] on cpu"),
        (GIVEN.int(), r"weights: expected floating \[T\] = \[3\] on cpu, got torch.int32 \[3\] on cpu"),
        (GIVEN.to("meta"), r"weights: expected floating \[T\] = \[3\] on cpu, got torch.float32 \[3\] on meta"),
        ([0.5, -1.0, 2.0], r"weights: expected floating \[T\] = \[3\] on cpu, got list"),
        (GIVEN / 0, r"weights: expected finite numbers, got \[inf, -inf, inf\]"),
    ],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        weightings.constant(torch.eye(3, dtype=torch.float64), weights)


def test_random_weights_are_positive_sum_to_one_and_are_alike_in_the_mean():
    gram = torch.eye(4, dtype=torch.float64).expand(20_000, 4, 4)
    weights = weightings.random(gram, torch.Generator().manual_seed(0))
    assert (weights > 0).all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(len(weights)).double())
    assert torch.allclose(weights.mean(dim=0), torch.full((4,), 0.25).double(), atol=5e-3)
    logs = weights.log()
    assert float((logs[:, 0] - logs[:, 1]).std()) == pytest.approx(2**0.5, rel=0.02), "of two normal numbers"


def test_random_weights_are_drawn_anew_and_can_be_repeated():
    gram = make_gram(5)
    first, second = (weightings.random(gram) for _ in range(2))
    assert not torch.equal(first, second)
    repeated = [weightings.random(gram, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*repeated)


def test_the_gradients_do_not_matter():
    bad = torch.full((3, 3), torch.nan, dtype=torch.float64)
    assert weightings.constant(bad, GIVEN).isfinite().all()
    assert weightings.random(bad).isfinite().all()
    for weighting in (lambda gram: weightings.constant(gram, GIVEN), weightings.random):
        with pytest.raises(ValueError, match=r"gram: expected float64 \[T, T\], got torch.float32 \[3, 2\]"):
            weighting(torch.ones(3, 2))


def test_on_a_device_without_values():
    gram = torch.empty(2, 3, 3, dtype=torch.float64, device="meta")
    assert weightings.random(gram).device.type == "meta"
    assert weightings.random(gram, torch.Generator()).device.type == "meta"
    assert weightings.constant(gram, GIVEN.to("meta")).shape == (2, 3)


@pytest.mark.slow
def test_in_torch_compile():
    gram = make_gram(3)
    compiled = torch.compile(weightings.random, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = weightings.random(gram)
    torch.manual_seed(0)
    assert torch.equal(compiled(gram), expected)
    compiled = torch.compile(weightings.constant, backend="eager", fullgraph=True)
    assert torch.equal(compiled(gram, GIVEN), GIVEN.double())


def test_a_generator_inside_torch_compile_is_refused(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(ValueError, match=r"generator: torch.compile cannot trace one"):
        weightings.random(make_gram(3), torch.Generator())


def test_in_surgery():
    rows = make_jacobian(3).float()
    [merged], _ = gk.surgery([[row] for row in rows], lambda gram: weightings.constant(gram, GIVEN))
    assert torch.allclose(merged, GIVEN @ rows, atol=1e-5)
    torch.manual_seed(1)
    [merged], gram = gk.surgery([[row] for row in rows], weightings.random)
    torch.manual_seed(1)
    assert torch.allclose(merged, weightings.random(gram).float() @ rows, atol=1e-5)
