"""A small multimodal network whose objectives disagree, and what its gradients should be, by autograd alone."""

import torch
from torch import nn

SUBSETS = (("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c"))


class Network(nn.Module):
    """Private layers for each modality, one layer that all share, and a head behind the fusion."""

    def __init__(self):
        super().__init__()
        self.stems = nn.ModuleDict({m: nn.Linear(5, 7) for m in "abc"})
        self.shared = nn.Linear(7, 4)
        self.head = nn.Linear(4, 1)

    def outputs(self, x):
        return {m: self.shared(torch.tanh(stem(x[m]))) for m, stem in self.stems.items() if m in x}


def problem(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    network = Network().to(dtype)
    return network, torch.optim.SGD(network.parameters(), lr=0.05)


def batch(step, dtype=torch.float64, size=6):
    generator = torch.Generator().manual_seed(step)
    x = {m: torch.randn(size, 5, generator=generator, dtype=dtype) for m in "abc"}
    return x, torch.randn(size, 1, generator=generator, dtype=dtype)


def losses_of(network, x, target, subsets=SUBSETS):
    """Returns name -> loss, of which neighbours disagree, and the outputs."""
    outputs = network.outputs(x)
    losses = {}
    for k, subset in enumerate(subsets):
        fused = torch.stack([outputs[m] for m in subset]).mean(dim=0)
        losses["+".join(subset)] = ((network.head(fused) - (-1) ** k * target) ** 2).mean()
    return losses, outputs


def combined(network, losses, weights, private_factor):
    """Returns what `.grad` should be: the combination of each loss's gradient, by autograd alone."""
    params = list(network.parameters())
    rows = [torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses.values()]
    merged = []
    for column in zip(*rows, strict=True):
        factor = 1 if all(g is not None for g in column) else private_factor
        merged.append(factor * sum(w * g for w, g in zip(weights, column, strict=True) if g is not None))
    return merged


def close(ours, theirs, tolerance=1e-12):
    return all((a - b).norm() <= tolerance * (1 + b.norm()) for a, b in zip(ours, theirs, strict=True))


def grads(network):
    return [param.grad.clone() for param in network.parameters()]
