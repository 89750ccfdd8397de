"""What a surgeon remembers: nothing of a call that failed, nothing a user writes into, no state but a sound one."""

import copy

import pytest
import torch

import gmd
from helpers.every_cases import SUBSETS, batch, combined, grads, losses_of, problem


def smoothed(every=3):
    """Returns a network and a surgeon of it whose weighting remembers averages, smoothed weights and a generator."""
    network, optimizer = problem()
    return network, gmd.Surgeon(optimizer, gmd.Weighting("pcd", smooth=0.5), every=every)


def same(ours, theirs):
    """Returns whether two states are equal, bit for bit."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def stop(*_):
    raise KeyboardInterrupt


def hooked_after_accumulation(network, losses, outputs):
    network.shared.weight.register_post_accumulate_grad_hook(stop)
    return losses, outputs, {}


FAILURES = {
    "a hook": hooked_after_accumulation,
    "a part": lambda network, losses, outputs: (losses, outputs, {"part": stop}),
    "a part that lacks objectives": lambda network, losses, outputs: (
        *(losses, outputs),
        {"part": lambda: losses_of(network, *batch(1), SUBSETS[:2])},
    ),
    "outputs": lambda network, losses, outputs: (losses, {"a": torch.ones(3)}, {}),
    "factors": lambda network, losses, outputs: (losses, outputs, {"factors": torch.ones(2)}),
}


@pytest.mark.parametrize(
    ("failure", "every", "before"),
    [
        (failure, every, before)
        for failure in FAILURES
        for every, before in [(1, 1), (3, 0), (3, 1), (3, 3)]
        if (every, before) != (3, 1) or "part" not in failure  # which is not asked for between
    ],
)
def test_a_call_that_fails_is_not_remembered(failure, every, before):
    network, surgeon = smoothed(every)
    for step in range(before):
        surgeon.backward(*losses_of(network, *batch(step)))
    state = copy.deepcopy(surgeon.state_dict())
    losses, outputs, options = FAILURES[failure](network, *losses_of(network, *batch(9)))
    with pytest.raises((KeyboardInterrupt, ValueError)):
        surgeon.backward(losses, outputs, **options)
    assert same(surgeon.state_dict(), state)
    assert not any(param._backward_hooks for param in network.parameters())


def test_a_first_call_that_fails_leaves_open_whether_losses_have_names():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=3)
    losses, _ = losses_of(network, *batch(0))
    with pytest.raises(ValueError, match="factors"):
        surgeon.backward(list(losses.values()), factors=torch.ones(3))
    assert surgeon.backward(losses).refreshed


BAD_WEIGHTS = {
    "one": torch.ones(1),
    "a column": torch.ones(6, 1),
    "of each parameter": torch.ones(10, 6),
    "whole numbers": torch.ones(6, dtype=torch.int64),
    "a list": [1.0] * 6,
    "nothing": None,
    "a scalar": torch.tensor(1.0),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
@pytest.mark.parametrize(("every", "with_part"), [(3, False), (3, True), (1, True)])
def test_what_a_weighting_returns_is_checked(kind, every, with_part):
    """Six rows times a column make a sum of all losses by all weights, without a word."""
    network, optimizer = problem()
    surgeon = gmd.Surgeon(optimizer, lambda gram: BAD_WEIGHTS[kind], every=every)
    part = (lambda: losses_of(network, *batch(1))) if with_part else None
    with pytest.raises(ValueError, match=r"weighting: expected weights, float64 \[6\] on cpu, got "):
        surgeon.backward(losses_of(network, *batch(0))[0], part=part)
    assert all(param.grad is None for param in network.parameters())


def test_weights_in_a_buffer_of_the_user_are_told_apart_from_those_of_before():
    """They more than double each time: so the interval must not grow."""
    network, optimizer = problem()
    buffer = torch.full((6,), 0.2, dtype=torch.float64)
    surgeon = gmd.Surgeon(optimizer, lambda gram: buffer.mul_(torch.arange(1, 7)), every="auto")
    reports = [surgeon.backward(losses_of(network, *batch(step))[0]) for step in range(9)]
    assert [report.refreshed for report in reports] == [True, False, False, False] * 2 + [True]


@pytest.mark.parametrize("tol", [0.0, 0.3])
def test_writing_into_a_report_changes_no_later_step(tol):
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=4, tol=tol)
    report = surgeon.backward(*losses_of(network, *batch(0)))
    before = report.weights.clone(), report.gram.clone()
    for _ in range(2):
        report.weights.zero_()
        report.grams.zero_()
        report = surgeon.backward(*losses_of(network, *batch(1)))
        assert torch.equal(report.weights, before[0])
        assert torch.equal(report.gram, before[1])


def test_weights_of_another_type_become_float64():
    network, optimizer = problem()
    surgeon = gmd.Surgeon(optimizer, lambda gram: torch.full((6,), 1 / 3, requires_grad=True), every=2)
    for step in range(2):
        losses, _ = losses_of(network, *batch(step))
        optimizer.zero_grad()
        report = surgeon.backward(losses, retain_graph=True)
        assert report.weights.dtype is torch.float64
        assert not report.weights.requires_grad
        expected = combined(network, losses, report.weights, 1)
        assert all(torch.allclose(ours, right, rtol=1e-9) for ours, right in zip(grads(network), expected, strict=True))


@pytest.mark.parametrize("granularity", ["module", "tensor"])
def test_a_part_with_weights_of_parts_of_the_model_is_refused(granularity):
    """Its weights were silently those of the whole model."""
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, granularity=granularity, model=network)
    with pytest.raises(ValueError, match=f"part: expected granularity='model' with it, got '{granularity}'"):
        surgeon.backward(losses_of(network, *batch(0))[0], part=lambda: losses_of(network, *batch(1)))


@pytest.mark.parametrize("returned", ["losses alone", "nothing"])
def test_a_part_returns_losses_and_outputs(returned):
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=3)
    found = losses_of(network, *batch(1))[0] if returned == "losses alone" else None
    with pytest.raises(TypeError, match=r"part: expected it to return \(losses, outputs or None\), got "):
        surgeon.backward(losses_of(network, *batch(0))[0], part=lambda: found)


@pytest.mark.parametrize("kind", ["none", "in another order"])
def test_the_outputs_of_a_part_go_with_the_factors(kind):
    network, optimizer = problem()
    losses, outputs = losses_of(network, *batch(1))
    of_part = None if kind == "none" else dict(reversed(outputs.items()))
    with pytest.raises(ValueError, match=r"part: expected the outputs of the batch, .*\['a', 'b', 'c'\], got "):
        gmd.GMD(optimizer, every=3).backward(
            *losses_of(network, *batch(0)), torch.tensor([0.1, 1.0, 2.0]), part=lambda: (losses, of_part)
        )


DAMAGES = {
    "no schedule": lambda state: state.pop("schedule"),
    "no weighting": lambda state: state.pop("weighting"),
    "no count": lambda state: state["schedule"].pop("steps"),
    "no weights": lambda state: state["schedule"]["sets"][0].pop("weights"),
    "fewer weights": lambda state: state["schedule"]["sets"][0].update(weights=torch.ones(5, dtype=torch.float64)),
    "weights of float32": lambda state: state["schedule"]["sets"][0].update(weights=torch.ones(6)),
    "weights that are none": lambda state: state["schedule"]["sets"][0]["weights"].fill_(torch.nan),
    "a name twice": lambda state: state["schedule"]["sets"][0].update(names=["a"] * 6),
    "another network": lambda state: state["schedule"].update(params=list(range(12))),
    "private parameters of another": lambda state: state["schedule"]["sets"][0].update(private=[10]),
    "a step to come": lambda state: state["schedule"]["sets"][0].update(step=99),
    "another weighting": lambda state: state["weighting"].update(weighting="mean"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_is_none_is_refused_and_changes_nothing(damage):
    network, surgeon = smoothed()
    for step in range(4):
        surgeon.backward(*losses_of(network, *batch(step)))
    state, other = copy.deepcopy(surgeon.state_dict()), smoothed()[1]
    DAMAGES[damage](state)
    fresh = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"state|schedule|weighting"):
        other.load_state_dict(state)
    assert same(other.state_dict(), fresh)
