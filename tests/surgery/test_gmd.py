"""GMD and the plain method: from losses to `.grad`; the traps of the published code as named regression tests."""

import random

import pytest
import torch
from torch import nn

import gmd
import gmd_kernels as gk
from gmd.surgery import MeanGradient
from helpers.oracle import flat, merge, project


class TwoModalities(nn.Module):
    """A shared layer, and a private one for each of two modalities."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.private = nn.ModuleList(nn.Linear(4, 6) for _ in range(2))
        self.shared = nn.Linear(6, 1)

    def losses(self, x, y):
        one, two = (self.shared(p(v).tanh()) for p, v in zip(self.private, x, strict=True))
        return [((one - y) ** 2).mean(), ((two + y) ** 2).mean(), ((one / 2 + two / 2 - y) ** 2).mean()]


@pytest.fixture
def setting():
    model = TwoModalities()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 8, 4, generator=generator)
    y = torch.randn(8, 1, generator=generator)
    return model, lambda: model.losses(x, y)


def gradients_of(model, losses):
    params = list(model.parameters())
    return [torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_backward_fills_grad_with_the_merged_gradient(setting, reduction):
    model, losses = setting
    grads = gradients_of(model, losses())
    order = gk.projection_order(3, torch.Generator().manual_seed(4))
    expected = merge(grads, project(flat(grads), order), reduction)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, reduction=reduction, generator=torch.Generator().manual_seed(4))
    report = surgeon.backward(losses())
    for param, value in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(param.grad.double(), value, rtol=1e-5, atol=1e-7)
    assert torch.allclose(report.gram, flat(grads) @ flat(grads).T, rtol=1e-6)
    assert report.losses.tolist() == pytest.approx([v.item() for v in losses()])
    assert report.weights.shape == (3,)
    assert report.conflicts > 0, "no conflict: this test would show nothing"
    assert torch.equal(report.cosines.diagonal(), torch.ones(3).double())
    assert report.cosines.abs().max() <= 1 + 1e-12


def test_merged_norm_follows_from_the_gramian(setting):
    """|merged|^2 = w' G w: here for shared parameters only, as private ones have other weights."""
    model, losses = setting
    for private in model.private:
        private.requires_grad_(False)
    report = gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses())
    squared = sum(float(p.grad.double().square().sum()) for p in model.shared.parameters())
    assert float(report.weights @ report.gram @ report.weights) == pytest.approx(squared, rel=1e-5)


def test_grad_accumulates_as_with_tensor_backward(setting):
    model, losses = setting
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(4))
    surgeon.backward(losses())
    once = [p.grad.clone() for p in model.parameters()]
    surgeon.generator.manual_seed(4)
    surgeon.backward(losses())
    assert all(torch.allclose(p.grad, 2 * g) for p, g in zip(model.parameters(), once, strict=True))


def test_frozen_and_unreached_parameters_are_left_alone(setting):
    model, losses = setting
    model.private[0].requires_grad_(False)
    unused = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([*model.parameters(), unused], lr=0.1)
    gmd.GMD(optimizer).backward(losses())
    assert unused.grad is None
    assert model.private[0].weight.grad is None
    assert model.private[1].weight.grad is not None


def test_the_users_loop_learns(setting):
    model, losses = setting
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    surgeon = gmd.GMD(optimizer)
    before = sum(v.item() for v in losses())
    for _ in range(60):
        optimizer.zero_grad()
        surgeon.backward(losses())
        optimizer.step()
    assert sum(v.item() for v in losses()) < 0.75 * before


def test_mean_gradient_is_torchs_own(setting):
    model, losses = setting
    torch.stack(losses()).mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    report = MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))
    assert float(report.gram) == pytest.approx(sum(float(g.square().sum()) for g in expected), rel=1e-5)
    assert report.conflicts == 0


@pytest.mark.parametrize("method", [gmd.GMD, MeanGradient])
def test_a_nan_shows_in_the_report(setting, method):
    model, losses = setting
    surgeon = method(torch.optim.SGD(model.parameters(), lr=0.1))
    assert surgeon.backward(losses()).finite
    assert not surgeon.backward([losses()[0], losses()[1] * float("nan")]).finite
    model.zero_grad()
    poisoned = model.shared.weight.square().sum() * 0
    assert not surgeon.backward([losses()[0], poisoned.sqrt()]).finite, "finite loss, gradient 0 * inf"


@pytest.mark.parametrize("method", [gmd.GMD, MeanGradient])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda v: [], ValueError, "losses: expected at least one objective"),
        (lambda v: [v[0], v[1].detach()], ValueError, r"losses\[1\] does not require grad"),
        (lambda v: [v[0], 3.0], TypeError, r"losses\[1\]: expected a scalar tensor, got float"),
        (lambda v: [torch.stack(v)], ValueError, r"losses\[0\]: expected a scalar tensor, got shape \[3\]"),
    ],
)
def test_bad_losses_change_nothing(setting, method, spoil, error, message):
    model, losses = setting
    with pytest.raises(error, match=message):
        method(torch.optim.SGD(model.parameters(), lr=0.1)).backward(spoil(losses()))
    assert all(p.grad is None for p in model.parameters())


def test_bad_reduction_is_refused_at_once(setting):
    with pytest.raises(ValueError, match="reduction: expected 'mean' or 'sum', got 'avg'"):
        gmd.GMD(torch.optim.SGD(setting[0].parameters(), lr=0.1), reduction="avg")


# Traps of METHODS, section 2


def test_trap_coefficients_belong_to_the_objective_they_are_reported_for():
    """Published: the gradient list itself is shuffled, so logged coefficients belong to other objectives."""
    grads = [[torch.tensor([1.0, 0.0, 0.0])], [torch.tensor([-1.0, 0.1, 0.0])], [torch.tensor([0.0, 0.0, 5.0])]]
    expected = None
    for seed in range(8):
        result = gk.surgery(grads, generator=torch.Generator().manual_seed(seed))
        rebuilt = sum(w * row[0] for w, row in zip(result.weights, grads, strict=True))
        assert torch.allclose(rebuilt.float(), result.merged[0], rtol=1e-5, atol=1e-6)
        assert float(result.weights[2]) == pytest.approx(1 / 3), "objective 2 conflicts with nobody"
        expected = result.weights if expected is None else expected
        assert torch.allclose(result.weights, expected), "with two conflicting gradients the order does not matter"


def test_trap_no_gradient_is_projected_against_itself():
    order = gk.projection_order(15)
    assert not (order == torch.arange(15)[:, None]).any()


def test_trap_sum_can_be_reached(setting):
    model, losses = setting
    results = {}
    for reduction in ("mean", "sum"):
        model.zero_grad()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        gmd.GMD(optimizer, reduction=reduction, generator=torch.Generator().manual_seed(0)).backward(losses())
        results[reduction] = [p.grad.clone() for p in model.shared.parameters()]
    for mean, total in zip(results["mean"], results["sum"], strict=True):
        assert torch.allclose(3 * mean, total, rtol=1e-5)


def test_trap_pythons_random_state_plays_no_part(setting):
    model, losses = setting
    weights = []
    for seed in (1, 2):
        random.seed(seed)
        surgeon = gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1), generator=torch.Generator().manual_seed(0))
        weights.append(surgeon.backward(losses()).weights)
    assert torch.equal(*weights)


def test_trap_a_zero_gradient_is_shared_and_none_is_private():
    """Published: a parameter whose gradient is zero counts as shared. Reaching is what counts, not the value."""
    one, two = torch.tensor([2.0]), torch.tensor([4.0])
    zero = torch.zeros(1)
    shared = gk.surgery([[one, zero], [two, zero]], generator=torch.Generator().manual_seed(0)).merged
    private = gk.surgery([[one, zero], [two, None]], generator=torch.Generator().manual_seed(0)).merged
    assert shared[0] == private[0] == 3.0
    assert float(gk.surgery([[one, one], [two, zero]]).merged[1]) == 1.0  # reached by both: the mean
    assert float(gk.surgery([[one, one], [two, None]]).merged[1]) == 2.0  # reached by one: the sum


def test_trap_it_runs_without_a_tensorboard_writer_or_a_process_group(setting):
    model, losses = setting
    assert not torch.distributed.is_initialized()
    gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses())
