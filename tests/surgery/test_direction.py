"""CGGM's loss on the direction: its gradient against finite differences, through heads and fusions of every kind."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cosine_similarity, l1_loss

from gmd.surgery._classifiers import Classifiers, models_and_heads
from gmd.surgery._direction_loss import gradient_losses, weight_losses
from helpers.cggm_cases import (
    CASES,
    NAMES,
    Run,
    late_fusion,
    loss_of,
    outputs_of,
    sequences,
    shared,
    squared_error,
    targets_of,
)

BALANCE = torch.tensor([0.2, 0.9, -0.4], dtype=torch.float64)
STEP = 1e-8  # of the differences; beyond, voxels of the U-Net change sides at a ReLU or a pooling


def classifiers_of(head, criterion, metric):
    return Classifiers(*models_and_heads(None, head, NAMES), criterion, metric, lr=0.1)


def guides_of(network, outputs, targets, criterion):
    classifiers = classifiers_of(network.head, criterion, criterion)
    return list(classifiers.judge(outputs.values, targets_of(outputs, targets)).gradients.values())


def absolute_error(predictions, scores):
    return l1_loss(predictions.squeeze(-1), scores)


SETTINGS = {name: case[:3] for name, case in CASES.items()} | {
    "absolute-error": (late_fusion, sequences, absolute_error),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_gradient_is_that_of_finite_differences(name):
    """Through attention, though its fused kernel cannot be gone through twice, and through group_norm_relu likewise."""
    make, batch, criterion = SETTINGS[name]
    network = make()
    inputs, targets = batch()
    outputs = outputs_of(network, inputs)
    guides = guides_of(network, outputs, targets, criterion)
    params = list(network.parameters())

    def direction():
        loss = loss_of(network, outputs_of(network, inputs), targets, criterion)
        return gradient_losses([loss], network.head, guides, BALANCE)[0]

    found = torch.autograd.grad(direction(), params)
    assert all(g.isfinite().all() for g in found)
    generator = torch.Generator().manual_seed(3)
    parts = {"head": list(network.head.parameters()), "all": params}
    for part in parts.values():
        ours = {id(param) for param in part}
        steps = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype) if id(p) in ours else torch.zeros_like(p)
            for p in params
        ]
        slope = sum((g * s).sum() for g, s in zip(found, steps, strict=True)).item()
        values = []
        for sign in (1, -2, 1):  # there, to the other side, and back
            with torch.no_grad():
                torch._foreach_add_(params, steps, alpha=sign * STEP)
            values.append(direction().item())
        assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(slope, rel=1e-4, abs=1e-6)
        assert abs(slope) > 1e-4 or criterion is absolute_error, "nothing moves: this test would show nothing"


def test_values_by_hand():
    """For one linear layer and the squared error: grad_phi L = 2/n sum_i (prediction_i - target_i) (h_i, 1)."""
    network = shared()
    inputs, scores = sequences()
    outputs = outputs_of(network, inputs)
    guides = guides_of(network, outputs, scores, squared_error)
    hidden = torch.stack(list(outputs.values.values())).mean(dim=0)
    errors = network.head(hidden).squeeze(-1) - scores
    gradient = 2 / 6 * torch.cat([errors @ hidden, errors.sum()[None]])
    flat = [torch.cat([weight.flatten(), bias]) for weight, bias in guides]
    cosines = torch.stack([cosine_similarity(gradient, guide, dim=0) for guide in flat])
    expected = (BALANCE.abs() - BALANCE * cosines).sum() / 3
    [found] = gradient_losses([loss_of(network, outputs, scores)], network.head, guides, BALANCE)
    assert torch.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("direction", ["gradient", "weights"])
def test_a_frozen_parameter_of_the_head_has_no_say(direction, frozen):
    """As of a head that has it as a constant."""
    run = Run("shared", rho=None, direction=direction)
    run.network.head.get_parameter(frozen).requires_grad_(False)
    classifiers = deepcopy(run.method.classifiers)
    losses, outputs, targets = run.forward(0)
    rest = "bias" if frozen == "weight" else "weight"
    own = run.network.head.get_parameter(rest)
    if direction == "gradient":
        [own] = torch.autograd.grad(losses[0], [own], create_graph=True)
        guides = [gradients[rest == "bias"] for gradients in classifiers.judge(outputs, targets).gradients.values()]
    else:
        guides = [model.get_parameter(rest).detach() for model in classifiers.models.values()]
    cosines = torch.stack([cosine_similarity(own.flatten(), guide.flatten(), dim=0) for guide in guides])
    balance = run.method.balance.terms(run.method.balance.state)
    guided = losses[0] + run.method.lam * (balance.abs() - balance * cosines).mean()
    params = [param for param in run.network.parameters() if param.requires_grad]
    expected = torch.autograd.grad(guided, params, retain_graph=True, allow_unused=True)
    report = run.method.backward(losses, outputs, targets)
    assert torch.equal(report.modality["balance"], balance)
    assert run.network.head.get_parameter(frozen).grad is None
    for param, gradient in zip(params, expected, strict=True):
        assert (param.grad is None) == (gradient is None)
        assert gradient is None or torch.allclose(param.grad, gradient, rtol=1e-9, atol=1e-12)


def test_a_gradient_like_the_guides_costs_nothing_and_one_against_them_the_most():
    network = shared()
    inputs, scores = sequences()
    loss = loss_of(network, outputs_of(network, inputs), scores)
    own = torch.autograd.grad(loss, list(network.head.parameters()), retain_graph=True)
    balance = torch.tensor([0.25, 0.75], dtype=torch.float64)
    along, against = [[g * 3 for g in own]] * 2, [[-g for g in own]] * 2
    assert gradient_losses([loss], network.head, along, balance)[0].item() == pytest.approx(0.0, abs=1e-9)
    assert gradient_losses([loss], network.head, against, balance)[0].item() == pytest.approx(1.0)


def test_a_gradient_of_zero_gives_no_nan():
    network = shared()
    inputs, scores = sequences()
    outputs = outputs_of(network, inputs)
    guides = guides_of(network, outputs, scores, squared_error)
    for factor, given in ((0.0, guides), (1.0, [[g * 0 for g in guide] for guide in guides])):
        [found] = gradient_losses([factor * loss_of(network, outputs, scores)], network.head, given, BALANCE)
        found.backward(retain_graph=True)
        assert float(found.detach()) == pytest.approx(float(BALANCE.abs().mean()))
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_trap_the_cosine_is_that_of_the_gradients_not_of_the_weights():
    """Published: the cosine of the weights, which does not know what is in the batch."""
    network = late_fusion()
    classifiers = classifiers_of(network.head, squared_error, squared_error)
    found = {"gradient": [], "weights": []}
    for seed in range(3):
        inputs, scores = sequences(seed)
        outputs = outputs_of(network, inputs)
        losses = [loss_of(network, outputs, scores)]
        guides = list(classifiers.judge(outputs.values, targets_of(outputs, scores)).gradients.values())
        found["gradient"] += gradient_losses(losses, network.head, guides, BALANCE)
        found["weights"] += weight_losses(losses, network.head, list(classifiers.models.values()), BALANCE)
    assert len({float(value.detach()) for value in found["gradient"]}) == 3
    assert len({float(value.detach()) for value in found["weights"]}) == 1


def test_the_cosine_of_the_weights():
    network = late_fusion()
    models = list(classifiers_of(network.head, squared_error, squared_error).models.values())
    flat = [torch.cat([model.weight.flatten(), model.bias]) for model in (network.head, *models)]
    cosines = torch.stack([cosine_similarity(flat[0], other, dim=0) for other in flat[1:]])
    expected = (BALANCE.abs() - BALANCE * cosines).mean()
    found = weight_losses([torch.zeros(())] * 2, network.head, models, BALANCE)
    assert [float(value.detach()) for value in found] == [pytest.approx(float(expected.detach()))] * 2
    found[0].backward()
    assert all(p.grad is not None for p in network.head.parameters())
    assert all(p.grad is None for model in models for p in model.parameters())


def test_each_objective_reaches_its_own_modalities_only():
    network = shared()
    inputs, scores = sequences()
    outputs = outputs_of(network, inputs)
    guides = guides_of(network, outputs, scores, squared_error)
    losses = [loss_of(network, outputs, scores, subset=subset) for subset in (("a",), ("b", "c"))]
    for term, reached in zip(gradient_losses(losses, network.head, guides, BALANCE), ({"a"}, {"b", "c"}), strict=True):
        found = torch.autograd.grad(term, list(outputs.values.values()), retain_graph=True, allow_unused=True)
        assert {m for m, gradient in zip(NAMES, found, strict=True) if gradient is not None} == reached


def test_a_loss_without_the_head_is_named():
    network = late_fusion()
    inputs, scores = sequences()
    outputs = outputs_of(network, inputs)
    losses = [loss_of(network, outputs, scores), outputs.values["a"].square().mean()]
    with pytest.raises(ValueError, match=r"losses\[1\]: expected a loss computed with the head"):
        gradient_losses(losses, network.head, guides_of(network, outputs, scores, squared_error), BALANCE)
