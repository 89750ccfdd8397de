# What the blocks of README.md take for granted, as small as it can be: run before them, in their namespace.
import torch
from torch import nn

torch.manual_seed(0)
modalities = ("flair", "t1")
subsets = [("flair",), ("t1",), ("flair", "t1")]


class Network(nn.Module):
    """A layer of its own for each modality, and a head for all."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Linear(3, 4) for m in modalities})
        self.head = nn.Linear(4, 1)

    def forward(self, x, modality):
        return self.encoders[modality](x)


def fuse(outputs, subset):
    return network.head(torch.stack([outputs[m] for m in subset]).mean(dim=0))


def model(batch, subset):
    return fuse({m: network(batch[m], m) for m in subset}, subset)


def squares(prediction, target=0.0):
    return (prediction - target).square().mean()


def criterion(prediction, target):
    return nn.functional.mse_loss(prediction, target)


def metric(prediction, target):
    return -criterion(prediction, target)


network, loss = Network(), squares
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
loader = [{m: torch.randn(8, 3) for m in modalities}]
batch, target = loader[0], torch.randn(8, 1)
targets = dict.fromkeys(modalities, target)
scale = 0.5
grads = [[torch.randn(3), torch.randn(2, 2), torch.randn(1), torch.randn(1), torch.randn(4)] for _ in range(3)]
