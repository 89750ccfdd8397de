"""Networks and batches that the tests of CGGM and OGM-GE share: small, and in float64."""

from copy import deepcopy

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.models.unet3d import UNet3d
from gmd.surgery import CGGM
from gmd.training.tasks.criteria import accuracy

FEATURES = {"a": 5, "b": 4, "c": 3}
NAMES = tuple(FEATURES)


def late_fusion(outputs=1, seed=0, kind=LateFusionTransformer):
    torch.manual_seed(seed)
    return kind(FEATURES, outputs, per_step=False, width=8, layers=1, heads=2, dropout=0.0).double()


def shared(outputs=1, seed=0):
    return late_fusion(outputs, seed, SharedTransformer)


def sequences(seed=0, samples=6, absent=()):
    """Inputs and scores; `absent` modalities are those that no sample has."""
    draw = torch.Generator().manual_seed(seed)
    values = {
        m: torch.randn(samples, 4, f, generator=draw, dtype=torch.float64)
        for m, f in FEATURES.items()
        if m not in absent
    }
    scores = torch.randn(samples, generator=draw, dtype=torch.float64)
    return Pairs(samples, {m: list(range(samples)) for m in values}, values), scores


def squared_error(predictions, scores):
    return mse_loss(predictions.squeeze(-1), scores)


def negative_error(predictions, scores):
    return -squared_error(predictions, scores)


def unet():
    torch.manual_seed(0)
    return UNet3d(NAMES, ("whole", "core"), width=0.125).double()


def volumes(seed=0):
    draw = torch.Generator().manual_seed(seed)
    values = {m: torch.randn(1, 1, 16, 16, 16, generator=draw, dtype=torch.float64) for m in NAMES}
    targets = (torch.rand(1, 2, 16, 16, 16, generator=draw, dtype=torch.float64) < 0.3).double()
    return Pairs(1, {m: [0] for m in NAMES}, values), targets


def voxel_error(logits, targets):
    return binary_cross_entropy_with_logits(logits, targets)


def voxel_accuracy(logits, targets):
    """By probabilities: a head that starts from its prior finds no region for many steps."""
    return 1 - (logits.sigmoid() - targets).abs().mean()


def outputs_of(network, inputs):
    return run_modalities(network, inputs, getattr(network, "features", None))


def loss_of(network, outputs, targets, criterion=squared_error, subset=None):
    fused, samples = network.fuse(outputs, subset)
    return criterion(network.head(fused), targets[samples])


def targets_of(outputs, targets):
    return {m: targets[samples] for m, samples in outputs.samples.items()}


def gradients(network):
    return {name: param.grad for name, param in network.named_parameters()}


def classes(seed=0, **options):
    inputs, scores = sequences(seed, **options)
    return inputs, (scores > 0).long() + (scores > 0.7)


CASES = {
    "late-fusion": (late_fusion, sequences, squared_error, negative_error),
    "shared": (shared, sequences, squared_error, negative_error),
    "classes": (lambda: late_fusion(3), classes, cross_entropy, accuracy),
    "unet": (unet, volumes, voxel_error, voxel_accuracy),
}


class Run:
    """A network that CGGM trains, one batch for each number."""

    def __init__(self, name="late-fusion", make_surgeon=None, lr=0.05, **options):
        make, self.batch, self.criterion, metric = CASES[name]
        self.network = make()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr)
        surgeon = None if make_surgeon is None else make_surgeon(self.optimizer)
        torch.manual_seed(7)
        self.method = CGGM(self.optimizer, self.network.head, self.criterion, metric, NAMES, surgeon=surgeon, **options)

    def backward(self, seed=0, **options):
        return self.method.backward(*self.forward(seed, **options))

    def forward(self, seed, spoil=lambda inputs: None, order=None, **options):
        """What backward is given."""
        inputs, targets = self.batch(seed, **options)
        spoil(inputs)
        self.optimizer.zero_grad()
        outputs = outputs_of(self.network, inputs)
        losses = [loss_of(self.network, outputs, targets, self.criterion)]
        return losses, {m: outputs.values[m] for m in order or outputs.values}, targets_of(outputs, targets)

    def step(self, seed=0, **options):
        report = self.backward(seed, **options)
        if report.finite:
            self.optimizer.step()
        return report

    def state(self):
        return deepcopy([self.network.state_dict(), self.optimizer.state_dict(), self.method.state_dict()])
