"""keep="sketches" in two processes: sketches of the whole batch are sums of sketches."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import gmd
from helpers.every_cases import Network, close, losses_of
from helpers.several_processes import in_processes

pytestmark = pytest.mark.slow
SHARES = {0: slice(0, 4), 1: slice(4, 10)}  # of a batch of 10
STEPS = 4
CASES = {
    "gmd": {},
    "now and then": {"every": 2},
    "an objective on one process": {"lacking": True},
    "outputs": {"with_outputs": True},
}


class Losses(Network):
    """Everything inside forward, as a DistributedDataParallel needs it.

    Attributes:
        made: the outputs of the last call; a DistributedDataParallel with unused parameters returns copies.
    """

    def forward(self, x, target):
        losses, self.made = losses_of(self, x, target)
        return losses


def train(rows: slice, wrapped: bool, lacking: bool = False, with_outputs: bool = False, every: int = 1) -> list:
    """Reports and gradients of some steps on some rows of each batch; the second half lacks an objective."""
    torch.manual_seed(0)
    network = Losses().double()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    forward = DistributedDataParallel(network, find_unused_parameters=True) if wrapped else network
    scope = {"scope": "global"} if wrapped else {}
    generator = torch.Generator().manual_seed(3)
    surgeon = gmd.GMD(optimizer, generator=generator, keep="sketches", sketch_size=64, every=every, **scope)
    found = []
    for step in range(STEPS):
        drawn = torch.Generator().manual_seed(step)
        x = {m: torch.randn(10, 5, generator=drawn, dtype=torch.float64)[rows] for m in "abc"}
        losses = forward(x, torch.randn(10, 1, generator=drawn, dtype=torch.float64)[rows])
        count = rows.stop - rows.start
        counts = dict.fromkeys(losses, count)
        if lacking and wrapped and rows.start == 4:
            losses["a"], counts["a"] = 0 * losses["a"], 0
        if lacking and not wrapped:  # the objective's samples are those of the first process
            losses["a"] = losses_of(network, {m: v[:4] for m, v in x.items()}, target_of(step)[:4])[0]["a"]
        optimizer.zero_grad()
        report = surgeon.backward(losses, network.made if with_outputs else None, counts=counts if wrapped else None)
        optimizer.step()
        found.append([report.losses, report.gram, report.weights, report.gram_error, *map(torch.clone, grads(network))])
    return [*found, [param.detach() for param in network.parameters()]]


def target_of(step: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(step)
    for _ in "abc":
        torch.randn(10, 5, generator=drawn, dtype=torch.float64)
    return torch.randn(10, 1, generator=drawn, dtype=torch.float64)


def grads(network) -> list:
    return [param.grad for param in network.parameters()]


def work(rank: int) -> dict:
    return {name: train(SHARES[rank], wrapped=True, **options) for name, options in CASES.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    return in_processes(2, work, tmp_path_factory.mktemp("sketches"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_as_one_on_the_whole_batch(both, name):
    expected = train(slice(0, 10), wrapped=False, **CASES[name])
    for found in both:
        for step, (ours, theirs) in enumerate(zip(found[name], expected, strict=True)):
            assert close(ours, theirs), f"step {step}"
