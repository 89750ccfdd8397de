"""CGGM with classifiers of one's own, which look at something else than the outputs: the sequences before these."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from gmd.surgery import CGGM
from gmd.surgery._direction_loss import gradient_losses
from helpers.cggm_cases import NAMES, late_fusion, loss_of, negative_error, sequences, squared_error, targets_of

pytestmark = pytest.mark.usefixtures("one_thread")


class OfSteps(nn.Module):
    """Judges the steps of a modality, [n, L, d]."""

    def __init__(self, d: int = 8):
        super().__init__()
        self.mix = nn.Linear(d, d)
        self.head = nn.Linear(d, 1)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(steps).relu().amax(dim=1))


class Judged:
    """A late fusion, and what its encoders make of each step."""

    def __init__(self, **options):
        self.network = late_fusion()
        torch.manual_seed(1)
        classifiers = {m: OfSteps().double() for m in NAMES}
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.05)
        head = self.network.head
        self.method = CGGM(
            self.optimizer, head, squared_error, negative_error, NAMES, classifiers=classifiers, **options, lr=0.01
        )

    def forward(self, seed: int = 0, absent=()):
        inputs, scores = sequences(seed, absent=absent)
        steps = {m: self.network.encoded(x, NAMES.index(m)) for m, x in inputs.values.items()}
        outputs = deepcopy(inputs)
        outputs.values = {m: self.network.pool(of_one) for m, of_one in steps.items()}
        seen = {m: of_one.detach() for m, of_one in steps.items()}
        loss = loss_of(self.network, outputs, scores)
        return [loss], outputs.values, targets_of(outputs, scores), seen

    def step(self, seed: int, absent=()):
        self.network.zero_grad()
        losses, outputs, targets, seen = self.forward(seed, absent)
        report = self.method.backward(losses, outputs, targets, seen=seen)
        self.optimizer.step()
        return report

    def state(self):
        return self.network.state_dict(), self.method.state_dict(), self.optimizer.state_dict()


def test_the_metric_is_that_of_what_they_see():
    run = Judged()
    _, _, targets, seen = run.forward()
    with torch.no_grad():
        expected = [negative_error(run.method.classifiers.models[m](seen[m]), targets[m]) for m in NAMES]
    assert run.step(0).modality["metric"].tolist() == pytest.approx([float(each) for each in expected])


def test_they_learn_with_adam_and_teach_the_network_nothing():
    """One step by hand; and the network's gradient is that without classifiers, with neither rho nor lam."""
    run = Judged(rho=None, lam=None)
    losses, outputs, targets, seen = run.forward()
    by_hand = {m: deepcopy(model) for m, model in run.method.classifiers.models.items()}
    optimizer = torch.optim.Adam([p for model in by_hand.values() for p in model.parameters()], lr=0.01)
    sum(squared_error(by_hand[m](seen[m]), targets[m]) for m in NAMES).backward()
    optimizer.step()
    plain = torch.autograd.grad(losses[0], list(run.network.parameters()), retain_graph=True)
    run.network.zero_grad()
    run.method.backward(losses, outputs, targets, seen=seen)
    for m in NAMES:
        for ours, theirs in zip(run.method.classifiers.models[m].parameters(), by_hand[m].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for param, gradient in zip(run.network.parameters(), plain, strict=True):
        torch.testing.assert_close(param.grad, gradient, rtol=1e-9, atol=1e-12)


def test_the_direction_is_that_of_their_heads_alone():
    """phi_m are the parameters of the classifier that correspond to the head's, not all that it has."""
    run = Judged(rho=None, lam=0.5)
    losses, outputs, targets, seen = run.forward()
    guides = []
    for m in NAMES:
        model = run.method.classifiers.models[m]
        guides.append(torch.autograd.grad(squared_error(model(seen[m]), targets[m]), list(model.head.parameters())))
    balance = torch.full((3,), 2 / 3, dtype=torch.float64)  # of the first step, with nothing to compare to
    [term] = gradient_losses(losses, run.network.head, guides, balance)
    expected = torch.autograd.grad(losses[0] + 0.5 * term, list(run.network.parameters()), retain_graph=True)
    run.network.zero_grad()
    run.method.backward(losses, outputs, targets, seen=seen)
    for param, gradient in zip(run.network.parameters(), expected, strict=True):
        torch.testing.assert_close(param.grad, gradient, rtol=1e-7, atol=1e-10)


def test_resume_is_bit_for_bit(tmp_path):
    whole, first, second = Judged(direction="weights"), Judged(direction="weights"), Judged(direction="weights")
    for seed in range(6):
        whole.step(seed)
    for seed in range(3):
        first.step(seed)
    torch.save(first.state(), tmp_path / "state.pt")
    network, method, optimizer = torch.load(tmp_path / "state.pt", weights_only=True)
    second.network.load_state_dict(network)
    second.method.load_state_dict(method)
    second.optimizer.load_state_dict(optimizer)
    for seed in range(3, 6):
        second.step(seed)
    for ours, theirs in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for m in NAMES:
        ours, theirs = (run.method.classifiers.models[m].state_dict() for run in (whole, second))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_modality_that_a_batch_lacks_is_not_judged():
    run = Judged()
    before = deepcopy(run.method.classifiers.models["b"].state_dict())
    assert run.step(0, absent=("b",)).finite
    assert all(
        torch.equal(value, before[name]) for name, value in run.method.classifiers.models["b"].state_dict().items()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.pop("c"), "classifiers: expected one of each of a, b, c, got a, b"),
        (lambda given: given.update(d=OfSteps()), "classifiers: expected one of each of a, b, c, got a, b, c, d"),
        (lambda given: given.update(b=nn.Linear(8, 1)), r"classifiers\['b'\]: expected a `head` with parameters of"),
        (lambda given: given.update(b=OfSteps(4)), r"of the network's shapes, \[\[1, 8\], \[1\]\]"),
    ],
)
def test_classifiers_that_cannot_be_are_refused(change, message: str):
    network = late_fusion()
    given = {m: OfSteps() for m in NAMES}
    change(given)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message):
        CGGM(optimizer, network.head, squared_error, negative_error, NAMES, classifiers=given)


def test_what_they_see_is_asked_for():
    run = Judged()
    losses, outputs, targets, seen = run.forward()
    with pytest.raises(ValueError, match="seen: expected that of 'b' too, got 'a', 'c'"):
        run.method.backward(losses, outputs, targets, seen={m: seen[m] for m in ("a", "c")})
    assert all(param.grad is None for param in run.network.parameters())
