"""PCD: the nearest direction that leaves every other objective its share, and the averages that it is normed by."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import gmd_kernels as gk
from gmd_kernels import weightings
from helpers.gramians import KINDS, make_gram, make_jacobian

pytestmark = pytest.mark.usefixtures("one_thread")


def check_nearest(jacobian, scale, tau, weights):
    """Multipliers that are not negative, and zero where more than the share is left, prove a direction the nearest."""
    assert float((weights @ jacobian).norm()) == pytest.approx(float(jacobian[0].norm()))
    normed, multipliers = jacobian * scale[:, None], weights / scale / (weights / scale)[0]
    slack = normed @ (multipliers @ normed) - tau * normed.square().sum(dim=1)
    assert (multipliers >= 0).all()
    assert (slack[1:] >= -1e-10 * multipliers.max()).all()
    assert (multipliers * slack)[1:].abs().sum() <= 1e-8 * multipliers.max() ** 2


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    num_objectives=st.integers(1, 12),
    kind=st.sampled_from(KINDS[:2]),
    tau=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    exponent=st.integers(-3, 15),
)
def test_the_direction_is_the_nearest_that_leaves_every_other_its_share(seed, num_objectives, kind, tau, exponent):
    jacobian = make_jacobian(num_objectives, kind, seed) * 10.0**exponent
    scale = (jacobian.square().sum(dim=1) + 1e-8).rsqrt()
    check_nearest(jacobian, scale, tau, weightings.pcd(jacobian @ jacobian.T, tau=tau))


@pytest.mark.parametrize("primary", [0, 2, 4])
def test_the_primary_objective_may_be_anywhere(primary):
    gram, tau = make_gram(5, "conflicting"), torch.tensor([0.1, 0.2, 0.0, 0.05, 0.3], dtype=torch.float64)
    first = [primary, *(i for i in range(5) if i != primary)]
    expected = weightings.pcd(gram[first][:, first], tau=tau[first])
    assert torch.allclose(weightings.pcd(gram, primary, tau)[first], expected, rtol=1e-9)


def test_without_conflict_the_primary_gradient_is_followed():
    gram = make_gram(4) + 100
    assert torch.allclose(weightings.pcd(gram, primary=1), torch.tensor([0.0, 1.0, 0.0, 0.0]).double(), atol=1e-9)


OPPOSED = {  # no direction gets both of the others further
    "opposite": [[1.0, 0.0], [0.0, 1.0], [0.0, -2.0]],
    "a triangle": [[1.0, 0.0, 0.1], [1.0, 0.0, 0.0], [-0.5, 0.75**0.5, 0.0], [-0.5, -(0.75**0.5), 0.0]],
    "opposite but for 1e-7": [[1.0, 0.0], [0.0, 1.0], [1e-7, -1.0]],
}


@pytest.mark.parametrize("jacobian", OPPOSED.values(), ids=OPPOSED)
def test_where_the_others_oppose_each_other_the_primary_gradient_is_taken_alone(jacobian):
    jacobian = torch.tensor(jacobian, dtype=torch.float64)
    assert weightings.pcd(jacobian @ jacobian.T).tolist() == [1.0, *[0.0] * (len(jacobian) - 1)]


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_weights_never_cancel_to_rounding(angle):
    """What the others ask for is a step that is the longer, the nearer they come to opposing each other."""
    rows = torch.tensor([[1.0, 0.0], [angle, 1.0], [angle, -1.0]], dtype=torch.float64)
    [merged], gram = gk.surgery([[row] for row in rows.float()], weightings.pcd)
    weights = weightings.pcd(gram)
    assert (merged.double() - weights @ rows).norm() <= 0.001
    assert (weights @ rows.norm(dim=1)) <= 1e4 * (weights @ rows).norm()


def test_zero_gradients():
    gram = make_gram(4, "conflicting")
    gram[0] = gram[:, 0] = 0
    assert (weightings.pcd(gram, primary=0) == 0).all()
    alone = weightings.pcd(gram[1:, 1:], primary=1)
    assert torch.allclose(weightings.pcd(gram, primary=2), torch.cat([torch.zeros(1), alone]).double(), rtol=1e-9)
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert (weightings.pcd(opposite, tau=0.0) == 0).all(), "no step serves one without harm to the other"


def test_averages_over_steps():
    state, average = torch.zeros(2, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for step in range(1, 5):
        jacobian = make_jacobian(5, "conflicting", step) * 10**step
        weights = weightings.pcd(jacobian @ jacobian.T, state=state)
        average = 0.999 * average + 0.001 * jacobian.square().sum(dim=1)
        check_nearest(jacobian, (average / (1 - 0.999**step) + 1e-8).rsqrt(), 0.02, weights)
        assert torch.allclose(state, torch.stack([average, torch.full_like(average, step)]), rtol=1e-12)


def test_a_state_of_its_own_for_each_of_many_and_for_each_objective():
    grams = torch.stack([make_gram(4, "conflicting", seed) for seed in range(3)])
    states = torch.zeros(3, 2, 4, dtype=torch.float64)
    weightings.pcd(grams[:, 1:, 1:], state=states[..., 1:])  # a step without the first objective
    weights = weightings.pcd(grams, state=states)
    assert states[:, 1].tolist() == [[1.0, 2.0, 2.0, 2.0]] * 3
    for gram, state, expected in zip(grams, states, weights, strict=True):
        alone = torch.zeros(2, 4, dtype=torch.float64)
        weightings.pcd(gram[1:, 1:], state=alone[:, 1:])
        assert torch.allclose(weightings.pcd(gram, state=alone), expected, rtol=1e-9)
        assert torch.allclose(alone, state)


def test_a_gramian_that_is_not_finite_leaves_its_averages_alone():
    grams = torch.stack([make_gram(3), make_gram(3)])
    grams[0, 1, 2] = torch.inf
    state = torch.ones(2, 2, 3, dtype=torch.float64)
    assert weightings.pcd(grams, state=state)[0].isnan().all()
    assert (state[0] == 1).all()
    assert (state[1, 1] == 2).all()


EYE = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"primary": 3}, r"primary: expected an int from 0 to 2, got 3"),
        ({"primary": -1}, r"primary: expected an int from 0 to 2, got -1"),
        ({"primary": True}, r"primary: expected an int from 0 to 2, got True"),
        ({"tau": -0.1}, r"tau: expected a number from 0 to 1, or a tensor \[T\] of such, got -0.1"),
        ({"tau": float("nan")}, r"tau: expected a number from 0 to 1, .*, got nan"),
        ({"tau": "0.02"}, r"tau: expected a number from 0 to 1, .*, got '0.02'"),
        ({"tau": EYE[0, :2]}, r"tau: expected floating \[T\] = \[3\] on cpu, got torch.float64 \[2\] on cpu"),
        ({"tau": 2 * EYE[0]}, r"tau: expected numbers from 0 to 1, got \[2.0, 0.0, 0.0\]"),
        ({"state": EYE}, r"state: expected float64 \[2, 3\] on cpu, got torch.float64 \[3, 3\] on cpu"),
        ({"state": EYE[:2].float()}, r"state: expected float64 \[2, 3\] on cpu, got torch.float32 \[2, 3\] on cpu"),
        ({"state": [0.0]}, r"state: expected float64 \[2, 3\] on cpu, got list"),
    ],
)
def test_bad_options_are_named_before_anything_changes(options, message):
    state = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        weightings.pcd(EYE, **{"state": state, **options})
    assert (state == 0).all()


def test_no_state_on_another_device():
    """Values of tau cannot be looked at there."""
    gram = torch.empty(4, 3, 3, dtype=torch.float64, device="meta")
    state, tau = gram.new_empty(4, 2, 3), gram.new_empty(3)
    assert weightings.pcd(gram, 2, tau, state).shape == (4, 3)
