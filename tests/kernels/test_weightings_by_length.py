"""ConFIG, DB-MTL and Krum: what they make of angles, lengths and distances."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import gmd_kernels as gk
from gmd_kernels import weightings
from helpers.gramians import KINDS, make_gram, make_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")

properties = settings(max_examples=50, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


# ConFIG


@properties
@given(seed=seeds, num_objectives=st.integers(1, 12), kind=st.sampled_from(KINDS), exponent=st.integers(-30, 15))
def test_config_has_the_same_angle_to_every_gradient_and_their_common_length(seed, num_objectives, kind, exponent):
    jacobian = make_jacobian(num_objectives, kind, seed) * 10.0**exponent
    weights = weightings.config(jacobian @ jacobian.T)
    merged, lengths = weights @ jacobian, jacobian.norm(dim=1)
    unit = merged / merged.norm()
    projections = jacobian @ unit / lengths
    assert (projections - projections.mean()).abs().max() <= 1e-9 * (weights.abs() @ lengths) / merged.norm()
    assert float(merged.norm()) == pytest.approx(abs(float((jacobian @ unit).sum())), rel=1e-6)
    assert float(merged @ jacobian.sum(dim=0)) >= 0


@properties
@given(seed=seeds, num_objectives=st.integers(2, 64))
def test_config_of_gradients_on_one_line_is_their_sum_or_nothing(seed, num_objectives):
    """The published formula divides rounding by rounding where as many gradients point one way as the other."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(num_objectives, 1, generator=generator, dtype=torch.float64)
    jacobian = factors * torch.randn(8, generator=generator, dtype=torch.float64)
    merged = weightings.config(jacobian @ jacobian.T) @ jacobian
    expected = jacobian.sum(dim=0) * (factors.sign().sum() != 0)
    assert (merged - expected).norm() <= 1e-9 * jacobian.norm(dim=1).sum()


@properties
@given(seed=seeds, num_objectives=st.integers(2, 20), level=st.integers(-9, -1))
def test_weights_of_config_are_bounded(seed, num_objectives, level):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(num_objectives, 1, generator=generator).sign() * torch.randn(50, generator=generator)
    jacobian = (jacobian + 10.0**level * torch.randn(num_objectives, 50, generator=generator)).double()
    lengths = jacobian.norm(dim=1)
    weights = weightings.config(jacobian @ jacobian.T)
    assert (weights.abs() * lengths).max() <= 1e4 * lengths.sum()


# DB-MTL


@properties
@given(seed=seeds, num_objectives=st.integers(1, 12), exponent=st.integers(-30, 15))
def test_db_mtl_is_what_equal_gradients_of_log_losses_add_up_to(seed, num_objectives, exponent):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(num_objectives, generator=generator, dtype=torch.float64) + 0.01
    jacobian = make_jacobian(num_objectives, "lengths", seed) * 10.0**exponent
    of_logs = jacobian / losses[:, None]
    lengths = of_logs.norm(dim=1, keepdim=True)
    weights = weightings.db_mtl(jacobian @ jacobian.T, losses)
    assert torch.allclose(weights @ jacobian, (of_logs / lengths * lengths.max()).sum(dim=0), rtol=1e-9)


def test_db_mtl_takes_losses_of_each_gramian_or_of_all():
    grams = torch.stack([make_gram(3, seed=seed) for seed in range(2)])
    losses = torch.tensor([[1.0, 2.0, 0.5], [3.0, 0.1, 1.0]])
    one_by_one = torch.stack([weightings.db_mtl(gram, loss) for gram, loss in zip(grams, losses, strict=True)])
    assert torch.equal(weightings.db_mtl(grams, losses), one_by_one)
    assert torch.equal(weightings.db_mtl(grams, losses[0])[0], one_by_one[0])


def test_db_mtl_of_zero_gradients_and_of_losses_that_are_not_finite():
    gram = make_gram(3)
    gram[0] = gram[:, 0] = 0
    weights = weightings.db_mtl(gram, torch.tensor([1.0, 2.0, 0.5]))
    assert weights[0] == 0
    assert (weights[1:] > 0).all()
    assert (weightings.db_mtl(0 * gram, torch.ones(3)) == 0).all()
    for bad in (torch.nan, torch.inf):
        assert weightings.db_mtl(gram, torch.tensor([bad, 2.0, 0.5])).isnan().all()


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (torch.tensor([1.0, 0.0, 2.0]), r"losses: expected above zero, .*, got \[1.0, 0.0, 2.0\]"),
        (torch.tensor([1.0, -1.0, 2.0]), r"losses: expected above zero, .*, got \[1.0, -1.0, 2.0\]"),
        (torch.ones(2), r"losses: expected floating \[T\] = \[3\] on cpu, got torch.float32 \[2\] on cpu"),
        (torch.ones(3).int(), r"losses: expected floating \[T\] = \[3\] on cpu, got torch.int32 \[3\] on cpu"),
        ([1.0, 1.0, 1.0], r"losses: expected floating \[T\] = \[3\] on cpu, got list"),
    ],
)
def test_bad_losses_are_named(losses, message):
    with pytest.raises(ValueError, match=message):
        weightings.db_mtl(torch.eye(3, dtype=torch.float64), losses)


# Krum


@properties
@given(seed=seeds, num_objectives=st.integers(3, 12), byzantine=st.integers(0, 9), selected=st.integers(1, 12))
def test_krum_selects_the_gradients_with_the_nearest_neighbours(seed, num_objectives, byzantine, selected):
    byzantine, selected = min(byzantine, num_objectives - 3), min(selected, num_objectives)
    jacobian = make_jacobian(num_objectives, "random", seed)
    distances = torch.cdist(jacobian[None], jacobian[None])[0].sort(dim=1).values
    scores = distances[:, 1 : num_objectives - byzantine - 1].sum(dim=1)
    expected = torch.zeros(num_objectives).double()
    expected[scores.argsort()[:selected]] = 1 / selected
    assert torch.equal(weightings.krum(jacobian @ jacobian.T, byzantine, selected), expected)


def test_krum_drops_outliers():
    jacobian = 0.1 * make_jacobian(8, "random") + 1
    jacobian[2], jacobian[5] = -100.0, 1e6
    weights = weightings.krum(jacobian @ jacobian.T, byzantine=2, selected=6)
    assert weights.nonzero().flatten().tolist() == [0, 1, 3, 4, 6, 7]


def test_of_gradients_that_are_all_alike_krum_takes_the_first():
    gram = torch.ones(2, 5, 5, dtype=torch.float64)
    assert weightings.krum(gram, selected=2).tolist() == [[0.5, 0.5, 0.0, 0.0, 0.0]] * 2


def test_krum_on_many_gramians_not_finite_ones_and_devices_without_values():
    grams = torch.stack([make_gram(5, kind) for kind in KINDS])
    expected = torch.stack([weightings.krum(gram) for gram in grams])
    grams[1, 0, 2] = torch.nan
    weights = weightings.krum(grams)
    assert weights[1].isnan().all()
    assert torch.equal(weights[[0, 2, 3]], expected[[0, 2, 3]])
    assert weightings.krum(grams.to("meta")).shape == (4, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"byzantine": 2}, r"byzantine: expected an int from 0 to 1, got 2"),
        ({"byzantine": 0.5}, r"byzantine: expected an int from 0 to 1, got 0.5"),
        ({"selected": 0}, r"selected: expected an int from 1 to 4, got 0"),
        ({"selected": 5}, r"selected: expected an int from 1 to 4, got 5"),
    ],
)
def test_bad_counts_of_krum_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        weightings.krum(torch.eye(4, dtype=torch.float64), **options)


def test_krum_needs_neighbours():
    with pytest.raises(ValueError, match="gram: expected 3 objectives or more for a choice by neighbours, got 2"):
        weightings.krum(torch.eye(2, dtype=torch.float64))


@pytest.mark.slow
def test_krum_in_torch_compile():
    gram = make_gram(5)
    compiled = torch.compile(weightings.krum, backend="eager", fullgraph=True)
    assert torch.equal(compiled(gram), weightings.krum(gram))


def test_krum_in_surgery():
    rows = make_jacobian(4).float()
    [merged], gram = gk.surgery([[row] for row in rows], weightings.krum)
    assert torch.equal(merged, rows[weightings.krum(gram).argmax()])
