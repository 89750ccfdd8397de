"""QMF: the ranking loss and the history by hand in float64, its state, and what is refused."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gmd.surgery import QMF, MeanGradient
from gmd.surgery.qmf import ranking_loss

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES, SAMPLES, CLASSES = ("a", "b"), 9, 3


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({m: nn.Linear(4, 5) for m in NAMES})
        self.head = nn.Linear(5, CLASSES)
        self.double()

    def forward(self, x: torch.Tensor, m: str) -> torch.Tensor:
        return self.encoders[m](x).relu()


def batch(step: int, network: Branches, have=None):
    """What backward is given of a batch of five samples; b lacks the first of them."""
    generator = torch.Generator().manual_seed(step)
    numbers = torch.randperm(SAMPLES, generator=generator)[:5].tolist()
    have = {"a": [0, 1, 2, 3, 4], "b": [1, 2, 3, 4]} if have is None else have
    inputs = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (5,), generator=generator)
    outputs = {m: network(inputs[NAMES.index(m), rows], m) for m, rows in have.items()}
    logits = {m: network.head(x) for m, x in outputs.items()}
    of_each = {m: cross_entropy(logits[m], targets[rows], reduction="none") for m, rows in have.items()}
    losses = [each.mean() for each in of_each.values()]
    samples = {m: [numbers[row] for row in rows] for m, rows in have.items()}
    return losses, outputs, {m: x.logsumexp(-1) / 10 for m, x in logits.items()}, of_each, samples


def made(network: nn.Module, **options) -> QMF:
    return QMF(torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9), NAMES, SAMPLES, **options)


def train(network: Branches, method: QMF, steps: range) -> None:
    for step in steps:
        network.zero_grad()
        assert method.backward(*batch(step, network)).finite
        method.optimizer.step()


def by_hand(confidences: list[float], hardness: list[float]) -> float:
    """The loss of Moon et al., pair by pair."""
    total, n = 0.0, len(confidences)
    for i in range(n):
        j = (i + 1) % n
        sign = (hardness[i] > hardness[j]) - (hardness[i] < hardness[j])
        total += max(0.0, sign * (confidences[i] - confidences[j]) + abs(hardness[i] - hardness[j]))
    return total / n


def test_the_ranking_loss_by_hand():
    confidences, hardness = [0.3, 0.1, 0.25, 0.2], [0.0, 0.5, 0.5, 1.0]
    got = ranking_loss(torch.tensor(confidences, dtype=torch.float64), torch.tensor(hardness, dtype=torch.float64))
    assert float(got) == pytest.approx(by_hand(confidences, hardness))


def test_trap_a_pair_in_the_wrong_order_costs_something_however_close():
    """Published: the margin is subtracted, and the harder sample may be the surer one by as much for nothing."""
    surer_of_the_harder = torch.tensor([0.11, 0.10], dtype=torch.float64)
    assert float(ranking_loss(surer_of_the_harder, torch.tensor([1.0, 0.0]))) == pytest.approx(1.01)
    assert float(ranking_loss(torch.tensor([-0.5, 0.5]), torch.tensor([1.0, 0.0]))) == 0, "in order by the margin"


def test_one_sample_has_nobody_to_be_compared_to():
    assert float(ranking_loss(torch.tensor([0.3]), torch.tensor([1.0]))) == 0


def test_steps_by_hand():
    """History and gradient; losses add up sample by sample and are scaled over the whole training set."""
    network = Branches()
    method = made(network)
    history = {m: [0.0] * SAMPLES for m in NAMES}
    for step in range(4):
        losses, outputs, confidences, of_each, samples = batch(step, network)
        total = sum(losses)
        for m in NAMES:
            for number, loss in zip(samples[m], of_each[m].tolist(), strict=True):
                history[m][number] += loss
            low, high = min(history[m]), max(history[m])
            hardness = torch.tensor([(history[m][number] - low) / (high - low) for number in samples[m]])
            n = len(hardness)
            for i in range(n):
                j = (i + 1) % n
                apart = (confidences[m][i] - confidences[m][j]) * torch.sign(hardness[i] - hardness[j])
                total = total + (apart + (hardness[i] - hardness[j]).abs()).clamp(min=0) / n
        expected = torch.autograd.grad(total, list(network.parameters()), retain_graph=True)
        network.zero_grad()
        report = method.backward(losses, outputs, confidences, of_each, samples)
        for param, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(param.grad, gradient, rtol=1e-5, atol=1e-7)
        assert method.history.tolist() == [pytest.approx(history[m]) for m in NAMES]
        assert report.losses.tolist() == pytest.approx([loss.item() for loss in losses])
        assert report.modality["confidence"].tolist() == pytest.approx([confidences[m].mean().item() for m in NAMES])
        assert report.modality["ranking"].shape == report.modality["gradient norm"].shape == (2,)
        method.optimizer.step()


def confidences_after_training(ranking: bool) -> torch.Tensor:
    """[SAMPLES], of which the last four have a random class in each step and cannot be learnt."""
    draw = torch.Generator().manual_seed(0)
    x, right = torch.randn(SAMPLES, 4, generator=draw).double(), torch.randint(CLASSES, (SAMPLES,), generator=draw)
    network = Branches()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    method, plain = QMF(optimizer, ("a",), SAMPLES), MeanGradient(optimizer)
    for _ in range(200):
        targets = right.clone()
        targets[5:] = torch.randint(CLASSES, (SAMPLES - 5,), generator=draw)
        outputs = {"a": network(x, "a")}
        logits = network.head(outputs["a"])
        of_each = cross_entropy(logits, targets, reduction="none")
        optimizer.zero_grad()
        found = logits.logsumexp(-1) / 10
        given = ({"a": found}, {"a": of_each}, {"a": range(SAMPLES)}) if ranking else ()
        (method if ranking else plain).backward([of_each.mean()], outputs, *given)
        optimizer.step()
    return found.detach()


def test_surer_of_what_was_easy_after_training():
    """The purpose: more than cross-entropy alone makes it."""
    with_it, without = (found[:5].mean() - found[5:].mean() for found in map(confidences_after_training, (True, False)))
    assert with_it > without + 0.1


def test_a_modality_that_the_batch_lacks_stays_as_it_was():
    network = Branches()
    method = made(network)
    train(network, method, range(2))
    before = method.history.clone()
    assert method.backward(*batch(2, network, have={"a": [0, 1, 2]})).finite
    assert torch.equal(method.history[1], before[1])
    assert not torch.equal(method.history[0], before[0])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_the_history(value: float):
    network = Branches()
    method = made(network)
    train(network, method, range(2))
    before = method.history.clone()
    losses, *given = batch(2, network)
    assert not method.backward([losses[0] * value, losses[1]], *given).finite
    assert torch.equal(method.history, before)


def test_resume_is_bit_for_bit(tmp_path):
    network = Branches()
    method = made(network)
    train(network, method, range(3))
    torch.save([copy.deepcopy(part.state_dict()) for part in (network, method, method.optimizer)], tmp_path / "s.pt")
    train(network, method, range(3, 7))
    later = Branches()
    resumed = made(later)
    states = torch.load(tmp_path / "s.pt", weights_only=True)
    for part, state in zip((later, resumed, resumed.optimizer), states, strict=True):
        part.load_state_dict(state)
    train(later, resumed, range(3, 7))
    assert torch.equal(resumed.history, method.history)
    assert all(torch.equal(a, b) for a, b in zip(later.parameters(), network.parameters(), strict=True))


def test_bad_options_and_states_are_refused():
    network = Branches()
    one, other = (torch.optim.SGD(network.parameters(), lr=0.1) for _ in range(2))
    with pytest.raises(ValueError, match="samples: expected at least one, got 0"):
        QMF(one, NAMES, 0)
    with pytest.raises(ValueError, match="surgeon: expected one of the same optimizer"):
        QMF(one, NAMES, SAMPLES, MeanGradient(other))
    with pytest.raises(ValueError, match=r"history: expected \[2, 9\], got \[2, 8\]"):
        QMF(one, NAMES, SAMPLES).load_state_dict({"history": torch.zeros(2, 8)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given[3].update(a=[9, 0, 1, 2, 3]), r"samples\['a'\]: expected different numbers from 0 to 8"),
        (lambda given: given[3].update(a=[0, 0, 1, 2, 3]), r"samples\['a'\]: expected different numbers from 0 to 8"),
        (lambda given: given[3].update(b=[0]), r"samples\['b'\]: expected 4 rows, as outputs\['b'\] has, got 1"),
        (lambda given: given[1].update(a=given[1]["a"][:, None]), r"confidences\['a'\]: expected one number for each"),
        (lambda given: given[2].update(b=given[2]["b"][:, None]), r"sample_losses\['b'\]: expected one number for"),
        (lambda given: given[1].pop("b"), "confidences: expected those of 'b' too, got 'a'"),
        (lambda given: given[2].pop("a"), "sample_losses: expected those of 'a' too, got 'b'"),
        (lambda given: [of.update(c=of["a"]) for of in given], "outputs: expected some of a, b, got 'c'"),
    ],
)
def test_bad_input_changes_nothing(change, message: str):
    network = Branches()
    method = made(network)
    losses, *given = batch(0, network)
    change(given)
    with pytest.raises(ValueError, match=message):
        method.backward(losses, *given)
    assert not method.history.any()
    assert all(param.grad is None for param in network.parameters())
