"""MLA's alpha in the course of an epoch, and the normalised projector: by hand in float64, and resumed."""

import copy

import pytest
import torch
from torch import nn

from gmd.surgery.mla import MLA

pytestmark = pytest.mark.usefixtures("one_thread")

D, STEPS = 6, 5


def made(**options) -> tuple[nn.Linear, MLA]:
    torch.manual_seed(0)
    head = nn.Linear(D, 3).double()
    return head, MLA(torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9), head, **options)


def rows_of(step: int, modality: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10 * step + "ab".index(modality))
    return torch.randn(4, D, generator=generator, dtype=torch.float64, requires_grad=True)


def train(head: nn.Linear, mla: MLA, steps: range) -> list[torch.Tensor]:
    """Steps of an epoch of STEPS, two turns each; returns the projector after each turn."""
    found = []
    for step in steps:
        for m in "ab":
            rows = rows_of(step, m)
            head.zero_grad()
            mla.backward([head(rows).square().mean()], outputs={m: rows}, progress=step % STEPS / STEPS)
            mla.optimizer.step()
            found.append(mla.projector.clone())
    return found


def test_alpha_falls_in_each_epoch_as_published():
    """0.1^(1 + i / n) at batch i of n, for each of its turns, and anew in the next epoch; by hand in float64."""
    head, mla = made(alpha=0.1, alpha_end=0.01)
    projector = torch.eye(D, dtype=torch.float64)
    found = iter(train(head, mla, range(2 * STEPS)))
    for step in range(2 * STEPS):
        for m in "ab":
            h = rows_of(step, m).detach().mean(dim=0)
            k = projector @ h
            projector = projector - torch.outer(k, k) / (0.1 ** (1 + step % STEPS / STEPS) + h @ k)
            torch.testing.assert_close(next(found), projector, rtol=1e-9, atol=1e-12)


def test_alpha_may_rise_and_has_its_default_at_the_beginning():
    head, mla = made(alpha_end=4.0 * D)
    assert mla._alpha_at(0.0) == D
    assert mla._alpha_at(0.5) == pytest.approx(2 * D)
    assert mla._alpha_at(1.0) == pytest.approx(4 * D)
    train(head, mla, range(1))


def test_the_normalised_projector_by_hand():
    """Divided by its Frobenius norm after each update, before the gradient is multiplied by it."""
    head, mla = made(alpha=0.1, normalised=True)
    projector = torch.eye(D, dtype=torch.float64)
    for step in range(4):
        rows = rows_of(step, "a")
        loss = head(rows).square().mean()
        [plain] = torch.autograd.grad(loss, [head.weight], retain_graph=True)
        head.zero_grad()
        mla.backward([loss], outputs={"a": rows})
        h = rows.detach().mean(dim=0)
        k = projector @ h
        projector = projector - torch.outer(k, k) / (0.1 + h @ k)
        projector = projector / projector.square().sum().sqrt()
        torch.testing.assert_close(mla.projector, projector, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(head.weight.grad, plain @ projector, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("before", [0, 2])
def test_a_turn_that_is_not_finite_leaves_the_normalised_projector(before: int):
    """The first one would make it I / sqrt(d) otherwise."""
    head, mla = made(alpha=0.1, normalised=True)
    train(head, mla, range(before))
    projector, rows = mla.projector.clone(), rows_of(7, "a")
    report = mla.backward([head(rows).square().mean() * torch.nan], outputs={"a": rows})
    assert not report.finite
    assert torch.equal(mla.projector, projector)
    assert head.weight.grad.isnan().all()


@pytest.mark.parametrize("normalised", [False, True])
def test_resume_in_the_midst_of_an_epoch_is_bit_for_bit(normalised: bool):
    options = {"alpha": 0.1, "alpha_end": 0.01, "normalised": normalised}
    head, mla = made(**options)
    train(head, mla, range(3))
    state, weights, moved = (copy.deepcopy(part.state_dict()) for part in (mla, head, mla.optimizer))
    train(head, mla, range(3, 8))
    later, resumed = made(**options)
    later.load_state_dict(weights)
    resumed.load_state_dict(state)
    resumed.optimizer.load_state_dict(moved)
    train(later, resumed, range(3, 8))
    assert torch.equal(resumed.projector, mla.projector)
    assert torch.equal(later.weight, head.weight)


@pytest.mark.parametrize("progress", [None, -0.1, 1.1, float("nan")])
def test_progress_is_asked_for(progress: float | None):
    head, mla = made(alpha=0.1, alpha_end=0.01)
    rows = rows_of(0, "a")
    with pytest.raises(ValueError, match=r"progress: expected how much of the epoch is done, in \[0, 1\]"):
        mla.backward([head(rows).square().mean()], outputs={"a": rows}, progress=progress)
    assert torch.equal(mla.projector, torch.eye(D, dtype=torch.float64))
    assert head.weight.grad is None


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_that_cannot_be_is_refused(value: float):
    with pytest.raises(ValueError, match=r"alpha_end: expected a finite number above 0"):
        made(alpha_end=value)
