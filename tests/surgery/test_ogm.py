"""OGM-GE as its code has it: without noise, on convolutions alone, for some epochs only."""

import math

import pytest
import torch
from torch import nn

from gmd.surgery import OGMGE, MeanGradient

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES, ALPHA = ("audio", "image"), 0.5
SCORES = {"audio": 0.8, "image": 0.4}
FACTOR = 1 - math.tanh(ALPHA * 0.8 / 0.4)  # of audio, which is ahead


class Pictures(nn.Module):
    """A convolution and a layer for each modality, a convolution for both, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ModuleDict({m: nn.Conv2d(1, 4, 3) for m in NAMES})
        self.both = nn.Conv2d(4, 4, 3)
        self.last = nn.ModuleDict({m: nn.Linear(4, 4) for m in NAMES})
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, m: str) -> torch.Tensor:
        return self.last[m](self.both(self.first[m](x).relu()).mean(dim=(2, 3)))


def step(network: Pictures, method: OGMGE | MeanGradient, modalities=NAMES, **options):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(5, 1, 8, 8, generator=generator) for m in NAMES}
    outputs = {m: network(inputs[m], m) for m in modalities}
    loss = network.head(sum(outputs.values())).square().mean()
    network.zero_grad()
    if isinstance(method, MeanGradient):
        return method.backward([loss], outputs, **options)
    predictions = {m: torch.full((5, 1), SCORES[m]) for m in modalities}
    return method.backward([loss], outputs, predictions, {m: torch.zeros(5) for m in modalities}, **options)


def made(network: nn.Module, **options) -> OGMGE:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    return OGMGE(optimizer, ALPHA, lambda predictions, targets: predictions.mean(), generator, **options)


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: param.grad.clone() for name, param in network.named_parameters() if param.grad is not None}


@pytest.fixture
def network() -> Pictures:
    return Pictures()


@pytest.fixture
def plain(network: Pictures) -> dict[str, torch.Tensor]:
    """The gradients without any modulation."""
    step(network, MeanGradient(torch.optim.SGD(network.parameters(), lr=0.1)))
    return gradients(network)


def test_without_noise_it_is_the_factor_alone(network: Pictures):
    report = step(network, made(network, noise=False))
    got = gradients(network)
    factors = report.modality["factor"]
    assert factors.tolist() == pytest.approx([FACTOR, 1.0])
    step(network, MeanGradient(torch.optim.SGD(network.parameters(), lr=0.1)), factors=factors)
    expected = gradients(network)
    assert all(torch.equal(gradient, expected[name]) for name, gradient in got.items())


def test_convolutions_alone_get_the_factor(network: Pictures, plain: dict[str, torch.Tensor]):
    """Those of one modality; not what both share, no biases, no linear layers."""
    report = step(network, made(network, noise=False, convolutions=True))
    assert report.modality["factor"].tolist() == pytest.approx([FACTOR, 1.0])
    for name, gradient in gradients(network).items():
        factor = FACTOR if name == "first.audio.weight" else 1.0
        torch.testing.assert_close(gradient, factor * plain[name], rtol=1e-5, atol=1e-8)


def test_convolutions_alone_get_the_noise_of_their_own_gradient(network: Pictures, plain: dict[str, torch.Tensor]):
    """The published line: grad * coefficient + N(0, std of grad), before the coefficient."""
    method = made(network, convolutions=True)
    found = {name: [] for name in plain}
    for _ in range(200):
        step(network, method)
        for name, gradient in gradients(network).items():
            factor = FACTOR if name == "first.audio.weight" else 1.0
            found[name].append(gradient - factor * plain[name])
    for name, noise in found.items():
        deviation = torch.stack(noise).std() / plain[name].std(correction=0)
        noisy = name in ("first.audio.weight", "first.image.weight")
        assert float(deviation) == pytest.approx(1.0 if noisy else 0.0, abs=0.05), name


@pytest.mark.parametrize("options", [{}, {"convolutions": True}])
def test_a_step_that_is_not_to_be_modulated(network: Pictures, plain: dict[str, torch.Tensor], options: dict):
    """Nothing is drawn for it either: what comes later does not depend on how many such steps there were."""
    method, other = made(network, **options), made(network, **options)
    for _ in range(2):
        report = step(network, method, modulate=False)
        assert report.modality["factor"].tolist() == [1.0, 1.0]
        assert report.modality["score"].tolist() == pytest.approx([0.8, 0.4])
        assert all(torch.equal(gradient, plain[name]) for name, gradient in gradients(network).items())
    step(network, method)
    after = gradients(network)
    step(network, other)
    assert all(torch.equal(gradient, after[name]) for name, gradient in gradients(network).items())
    assert not torch.equal(after["first.audio.weight"], plain["first.audio.weight"])


def test_what_is_shared_is_learnt_from_steps_without_modulation_too(network: Pictures):
    """A convolution that only a later batch would show to be shared gets nothing from a batch of its own."""
    method = made(network, convolutions=True)
    step(network, method, modulate=False)
    owners = method.state_dict()["owners"]
    named = [name for name, _ in network.named_parameters()]
    assert {named[p]: owner for p, owner in owners.items()}["both.weight"] is None


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(ValueError, match="convolutions: expected a parameter of four dimensions in the optimizer"):
        made(nn.Linear(3, 2), convolutions=True)
