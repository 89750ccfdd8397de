"""torch.amp.GradScaler with GMD: the same steps are skipped, the same scales follow, the same parameters come out."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import gmd
import gmd_kernels as gk
from gmd.surgery import MeanGradient

BAD = {3, 4, 9}  # steps of an overflow
STEPS = 14


def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=3)
    return model, optimizer, scaler


def losses_of(model, step, num_objectives):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    out = model(x)
    losses = [(-1) ** k * (out - k).square().mean() for k in range(num_objectives)]
    if step in BAD:
        losses[-1] = losses[-1] * torch.inf
    return losses


def history(num_objectives, backward):
    """Scale and parameters after every step."""
    model, optimizer, scaler = setting()
    backward = backward(optimizer, scaler)
    scales, params = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        backward(losses_of(model, step, num_objectives))
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        params.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    return scales, torch.stack(params)


def torchs_own(optimizer, scaler):
    return lambda losses: scaler.scale(torch.stack(losses).mean()).backward()


@pytest.mark.parametrize("surgeon", [gmd.GMD, MeanGradient])
def test_one_objective_goes_as_it_does_with_torch_alone(surgeon):
    expected = history(1, torchs_own)
    got = history(1, lambda optimizer, scaler: surgeon(optimizer, scaler=scaler).backward)
    assert got[0] == expected[0]
    assert set(expected[0]) == {2.0**19, 2.0**20, 2.0**21}, "the scale should both have grown and fallen"
    assert torch.equal(got[1], expected[1])


def test_several_objectives_skip_where_the_mean_of_their_losses_would():
    expected = history(3, torchs_own)
    got = history(3, lambda optimizer, scaler: gmd.GMD(optimizer, scaler=scaler).backward)
    assert got[0] == expected[0]
    skipped = lambda params: [bool((a == b).all()) for a, b in pairwise(params)]  # noqa: E731
    assert skipped(got[1]) == skipped(expected[1]) == [step in BAD for step in range(1, STEPS)]


@pytest.mark.parametrize("tol", [None, 0.0])
def test_the_scale_leaves_without_a_trace(tol):
    """Gramian, weights and `.grad` are those of the losses as they came."""
    results = []
    for scaled in (False, True):
        model, optimizer, scaler = setting()
        generator = torch.Generator().manual_seed(1)
        surgeon = gmd.GMD(optimizer, generator=generator, scaler=scaler if scaled else None)
        x = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(2))
        outputs = [model(v) for v in x]
        losses = [
            (outputs[0] - 1).square().mean(),
            -outputs[1].square().mean(),
            (outputs[0] + outputs[1] + 2).square().mean(),
        ]
        report = surgeon.backward(losses, outputs=None if tol is None else outputs)
        results.append((report, [p.grad for p in model.parameters()]))
    (plain, expected), (report, got) = results
    assert torch.allclose(report.gram, plain.gram, rtol=1e-6)
    assert torch.allclose(report.weights, plain.weights, rtol=1e-6)
    assert torch.equal(report.losses, plain.losses)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(got, expected, strict=True))


def test_a_bad_pass_among_several_before_the_step_is_remembered():
    model, optimizer, scaler = setting()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    for step in (3, 0):  # the overflow comes first
        surgeon.backward(losses_of(model, step, 2))
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**19
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


def test_gradients_add_up_unscaled():
    model, optimizer, scaler = setting()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    for _ in range(2):
        surgeon.backward(losses_of(model, 0, 1))
    expected = torch.autograd.grad(losses_of(model, 0, 1)[0], list(model.parameters()))
    assert all(torch.allclose(p.grad, 2 * g) for p, g in zip(model.parameters(), expected, strict=True))


def test_a_scaler_that_is_off_does_nothing():
    for surgeon in (gmd.GMD, MeanGradient):
        model, optimizer, _ = setting()
        off = torch.amp.GradScaler("cpu", enabled=False)
        surgeon(optimizer, scaler=off).backward(losses_of(model, 0, 1))
        expected = torch.autograd.grad(losses_of(model, 0, 1)[0], list(model.parameters()))
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))
        off.step(optimizer)
        off.update()


def test_a_bad_scale_is_refused():
    grads = [[torch.ones(2)], [torch.ones(2)]]
    for scale in (0, float("inf"), "2", torch.ones(2), torch.ones((), dtype=torch.int64)):
        with pytest.raises(ValueError, match="scale: expected"):
            gk.surgery(grads, scale=scale)
