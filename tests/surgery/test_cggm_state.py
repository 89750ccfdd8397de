"""CGGM between the steps: what the classifiers learn, what is remembered, what a bad batch or input leaves behind."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from gmd.models.unet3d import PRIOR_LOGIT
from gmd.surgery import CGGM, MeanGradient, Surgeon, Weighting
from helpers.cggm_cases import (
    NAMES,
    Run,
    late_fusion,
    loss_of,
    negative_error,
    outputs_of,
    sequences,
    squared_error,
    targets_of,
)


def assert_equal_states(one, other):
    """Bit for bit, in nested dicts and lists."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal_states(a, b)
    else:
        assert one == other


def test_the_classifiers_learn_and_teach_the_network_nothing():
    run = Run(rho=None, lam=None, lr=1e-9)  # the classifiers' own optimizer has another rate
    first = run.step().modality["metric"]
    for _ in range(200):
        last = run.step().modality["metric"]
    assert (last > first + 0.02).all()
    assert all(p.grad is None for model in run.method.classifiers.models.values() for p in model.parameters())


def test_the_classifiers_are_copies_with_weights_of_their_own():
    network = late_fusion()
    method = CGGM(torch.optim.SGD(network.parameters(), lr=0.1), network.head, squared_error, negative_error, NAMES)
    weights = [network.head.weight, *(model.weight for model in method.classifiers.models.values())]
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 4
    assert {(weight.shape, weight.dtype) for weight in weights} == {(torch.Size([1, 8]), torch.float64)}


def test_a_deep_head_is_copied_layer_by_layer():
    head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    method = CGGM(torch.optim.SGD(head.parameters(), lr=0.1), head, squared_error, negative_error, NAMES)
    for model in method.classifiers.models.values():
        assert not torch.equal(model[0].weight, head[0].weight)
        assert not torch.equal(model[2].weight, head[2].weight)


def test_the_classifiers_of_the_unet_start_from_its_prior():
    """Without it they spend their first steps on the background, and say nothing of the modalities."""
    run = Run("unet")
    for model in run.method.classifiers.models.values():
        assert model.bias.tolist() == [PRIOR_LOGIT] * 2
        assert not torch.equal(model.weight, run.network.head.weight)


def _poison(inputs, modality="b", value=torch.nan):
    inputs.values[modality][0] = value


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("rule", ["smooth", "published"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_bad_batch_leaves_everything_as_it_was(rule, steps, value):
    run, clean = Run(rule=rule), Run(rule=rule)
    for seed in range(steps):
        run.step(seed)
        clean.step(seed)
    before = run.state()
    report = run.step(8, spoil=partial(_poison, value=value))
    assert not report.finite
    if steps:  # before the first one there is no state of the optimizer
        assert_equal_states(run.state(), before)
    run.step(9)
    clean.step(9)
    assert_equal_states(run.state(), clean.state())


def test_a_classifier_without_a_finite_gradient_learns_nothing_from_the_batch():
    """Though the network, whose gradients are finite, does."""
    run = Run(lam=None)
    run.step(0)
    before = deepcopy(run.method.state_dict()["classifiers"])
    losses, outputs, targets = run.forward(1)
    targets["b"] = targets["b"] * torch.nan
    assert run.method.backward(losses, outputs, targets).finite
    assert_equal_states(run.method.state_dict()["classifiers"], before)


@pytest.mark.parametrize("lam", [None, 0.1])
def test_a_loss_that_is_not_finite_teaches_the_classifiers_nothing(lam):
    """Though all that they saw, and their own gradients, are finite."""
    run = Run(lam=lam)
    run.step(0)
    before = deepcopy(run.method.state_dict())
    losses, outputs, targets = run.forward(1)
    assert not run.method.backward([losses[0] * torch.inf], outputs, targets).finite
    assert_equal_states(run.method.state_dict(), before)
    losses, outputs, targets = run.forward(1)
    assert run.method.backward(losses, outputs, targets).finite
    weights = [model.state_dict()["weight"] for model in run.method.classifiers.models.values()]
    known = [state["weight"] for state in before["classifiers"]["models"]]
    assert not any(torch.equal(ours, theirs) for ours, theirs in zip(weights, known, strict=True))


def test_a_metric_without_value_is_no_measurement():
    """As a correlation of predictions that are all the same is none: the step counts, and harms nothing."""
    run = Run()
    run.step(0)
    before = run.method.balance.state
    run.method.classifiers.metric = lambda predictions, scores: predictions.sum() * torch.nan
    report = run.step(1)
    assert report.finite
    assert report.modality["metric"].isnan().all()
    assert report.modality["balance"].isfinite().all()
    assert torch.equal(run.method.balance.state, before)
    assert all(p.isfinite().all() for p in run.network.parameters())


@pytest.mark.parametrize("rule", ["smooth", "published"])
def test_resume_is_bit_for_bit(rule, tmp_path):
    whole, first, second = (Run(rule=rule) for _ in range(3))
    for seed in range(6):
        whole.step(seed)
    for seed in range(3):
        first.step(seed)
    torch.save(first.state(), tmp_path / "state.pt")
    network, optimizer, method = torch.load(tmp_path / "state.pt")
    second.network.load_state_dict(network)
    second.optimizer.load_state_dict(optimizer)
    second.method.load_state_dict(method)
    for seed in range(3, 6):
        second.step(seed)
    assert_equal_states(second.state(), whole.state())


@pytest.mark.parametrize("absent", [("b",), ("a", "c")])
def test_a_modality_that_the_batch_lacks_stays_as_it_was(absent):
    run = Run()
    for seed in range(3):
        run.step(seed)
    before, classifiers = run.method.balance.state, deepcopy(run.method.classifiers.models)
    report = run.step(3, absent=absent)
    assert report.finite
    assert all(len(value) == 3 - len(absent) for value in report.modality.values())
    assert (report.modality["factor"] > 0.2).all(), "a lone modality learns too"
    for i, m in enumerate(NAMES):
        same = all(
            torch.equal(a, b)
            for a, b in zip(classifiers[m].parameters(), run.method.classifiers.models[m].parameters(), strict=True)
        )
        assert same == (m in absent)
        assert torch.equal(run.method.balance.state[:, i], before[:, i]) == (m in absent)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"direction": "weight"}, ValueError, "direction: expected 'gradient' or 'weights', got 'weight'"),
        ({"rule": "ema"}, ValueError, "rule: expected 'smooth' or 'published', got 'ema'"),
        ({"rho": 0.0}, ValueError, "rho: expected a number above 0, or None, got 0.0"),
        ({"lam": float("nan")}, ValueError, "lam: expected a number above 0, or None, got nan"),
        ({"modalities": ["a"]}, ValueError, "modalities: expected at least two different names"),
        ({"modalities": ["a", "b", "a"]}, ValueError, "modalities: expected at least two different names"),
        ({"head": nn.ReLU()}, ValueError, "head: expected a module with parameters, got ReLU"),
        ({"head": nn.Linear(8, 1).requires_grad_(False)}, ValueError, "head: expected a parameter that requires grad"),
        ({"head": nn.MultiheadAttention(4, 1)}, ValueError, "got MultiheadAttention, which has none"),
    ],
)
def test_bad_options_are_refused_at_once(options, error, message):
    network = late_fusion()
    given = {"head": network.head, "modalities": NAMES} | options
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        CGGM(optimizer, criterion=squared_error, metric=negative_error, **given)


def test_a_surgeon_of_another_optimizer_is_refused():
    network = late_fusion()
    one, other = (torch.optim.SGD(network.parameters(), lr=0.1) for _ in range(2))
    with pytest.raises(ValueError, match="surgeon: expected one of the same optimizer"):
        CGGM(one, network.head, squared_error, negative_error, NAMES, surgeon=MeanGradient(other))


def test_bad_input_changes_nothing():
    run = Run()
    inputs, scores = sequences()
    outputs = outputs_of(run.network, inputs)
    loss, targets = loss_of(run.network, outputs, scores), targets_of(outputs, scores)
    before = run.state()
    unknown = outputs.values | {"d": outputs.values["a"]}
    cases = [
        ([], outputs.values, targets, "losses: expected at least one"),
        ([loss], {}, targets, "outputs: expected the output of at least one modality"),
        ([loss], list(outputs.values.values()), targets, "outputs: expected a dict, by modality, got list"),
        ([loss], unknown, targets | {"d": scores}, "outputs: expected some of a, b, c, got 'd'"),
        ([loss], outputs.values, {"a": scores}, "targets: expected those of 'b' too, got 'a'"),
        (
            [loss],
            outputs.values,
            targets | {"c": scores[:2]},
            r"targets\['c'\]: expected 6 rows, as outputs\['c'\] has, got 2",
        ),
        ([outputs.values["a"].square().mean()], outputs.values, targets, r"losses\[0\]: expected a loss computed with"),
    ]
    for losses, given, wanted, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            run.method.backward(losses, given, wanted)
        assert_equal_states(run.state(), before)
        assert all(p.grad is None for p in run.network.parameters())
    run.method.backward([loss], outputs.values, targets)  # the graph is whole after all of that


def test_the_state_of_any_surgeon_inside_is_saved():
    """Not GMD's alone: a surgeon keeps weights, and its weighting averages."""
    network = late_fusion()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    surgeon = Surgeon(optimizer, Weighting("pcd", smooth=0.5), every=4)
    method = CGGM(optimizer, network.head, squared_error, negative_error, NAMES, surgeon=surgeon)
    state = method.state_dict()
    assert_equal_states(state["surgeon"], surgeon.state_dict())
    state["surgeon"]["schedule"]["steps"] = 7
    method.load_state_dict(state)
    assert surgeon.state_dict()["schedule"]["steps"] == 7
