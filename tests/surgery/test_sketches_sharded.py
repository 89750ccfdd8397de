"""keep="sketches" under fully_shard: each process folds its own pieces, and Gramians of sketches add up."""

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import gmd
from helpers.several_processes import in_processes

pytestmark = pytest.mark.slow
SHARES = (slice(0, 5), slice(5, 8))
NAMES = ("first", "second", "third")
STEPS = 24  # at each of which sketches have another seed


def network_of() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3)).double()


def losses_of(network: nn.Module, rows: slice) -> dict[str, torch.Tensor]:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[rows]
    out = network(x)
    goals = {name: (-1) ** k * (1 + k) for k, name in enumerate(NAMES)}
    return {name: (out[:, k] - goals[name]).square().mean() + out.mean() * k for k, name in enumerate(NAMES)}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def sketched(rank: int) -> list[dict]:
    """Of each step the report, and what is in .grad."""
    network = network_of()
    for module in (network[0], network[2], network):
        fully_shard(module)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, reduction="sum", model=network, scope="global", keep="sketches", sketch_size=32)
    found = []
    for _ in range(STEPS):
        losses = losses_of(network, SHARES[rank])
        optimizer.zero_grad()
        report = surgeon.backward(losses, counts=dict.fromkeys(losses, 5 - 2 * rank))
        grads = [whole(param.grad) for param in network.parameters()]
        found.append({"gram": report.gram, "error": report.gram_error, "weights": report.weights, "grads": grads})
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict]]:
    return in_processes(2, sketched, tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def gradients() -> list[list[torch.Tensor]]:
    """The whole batch's, of each objective."""
    network = network_of()
    losses = losses_of(network, slice(0, 8)).values()
    return [torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for loss in losses]


def test_the_gramian_is_right_on_average_and_as_far_off_as_it_says(found, gradients):
    rows = torch.stack([torch.cat([g.flatten() for g in row]) for row in gradients])
    exact = rows @ rows.T
    off = torch.stack([(step["gram"] - exact) / step["error"] for step in found[0]])
    assert off.abs().max() < 5
    assert off.abs().max() > 0.05, "sketches of this size are not exact"
    assert (off.mean(dim=0).abs() < 4 / STEPS**0.5).all()


def test_what_is_merged_is_exact_for_the_weights(found, gradients):
    for step in found[0]:
        for p, grad in enumerate(step["grads"]):
            expected = sum(w * row[p] for w, row in zip(step["weights"], gradients, strict=True))
            torch.testing.assert_close(grad, expected, rtol=1e-10, atol=1e-12)


def test_all_processes_have_the_same(found):
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours["gram"], theirs["gram"])
        assert torch.equal(ours["weights"], theirs["weights"])
