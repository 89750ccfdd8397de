"""The networks that a step of each method is measured on, each with a batch and the loss of every subset.

gmd's own U-Net and the transformer of Dynamic Sharing, and two of MONAI's networks as they come, shared by all
modalities in a loop of one's own.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bench.measure.sequences import FEATURES, make_batch, predict
from bench.measure.step import MODALITIES, PUBLISHED, REGIONS, Step, region_loss
from gmd.data.pairs import Pairs, samples_having
from gmd.models.multimodal import MultimodalNetwork, mean_fusion, run_modalities
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import Subset, all_subsets
from gmd.surgery import Criterion
from gmd.training.objectives import Predict
from gmd.training.tasks.criteria import cross_entropy

CLASSES = 7  # of the sentiment, as in MOSI's 7-class accuracy: rounded scores from -3 to 3
WARM_STEPS = 8  # on the batch itself: gradients of an untrained network are more alike than they ever are again

Objectives = Callable[[Pairs[Tensor], Tensor, Criterion, Predict], dict[Subset, Tensor]]


def _fused(network: MultimodalNetwork, outputs: Pairs[Tensor], subset: Subset | None) -> tuple[Tensor, list[int]]:
    return mean_fusion(outputs, subset)


@dataclass(frozen=True)
class Setup:
    """A network and what it is trained on. Steps run on copies of the network, so that this one stays as it is.

    Attributes:
        case: what the rows of the results call it.
        network: takes one modality at a time.
        inputs: the batch's pairs of sample and modality; every sample has all modalities.
        targets: [n, ...].
        criterion: the loss of predictions and targets.
        predict: (network, outputs, subset) -> predictions, and the samples that have all of the subset.
        bfloat16: whether the network runs under autocast.
        by_sample: as in `gmd.GMD`.
        published: a step of the same network as published, to be measured beside it.
    """

    case: str
    network: MultimodalNetwork
    inputs: Pairs
    targets: Tensor
    criterion: Criterion
    predict: Callable[..., tuple[Tensor, list[int]]] = _fused
    bfloat16: bool = False
    by_sample: bool = False
    published: Step | None = None

    def losses(
        self, network: MultimodalNetwork, inputs: Pairs, objectives: Objectives
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Returns the modalities' outputs and the losses, in float32, of a copy of the network."""
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            outputs = run_modalities(network, inputs)
        values = {m: value.float() for m, value in outputs.values.items()}
        pairs = Pairs(inputs.num_samples, inputs.samples, values)
        found = objectives(pairs, self.targets, self.criterion, lambda *given: self.predict(network, *given))
        return values, list(found.values())

    def dropped(self, turn: int) -> Pairs:
        """Returns the inputs of one subset of the modalities for each sample; T turns give each of them every one."""
        subsets = all_subsets(self.network.modalities)
        chosen = [subsets[(turn + sample) % len(subsets)] for sample in range(self.inputs.num_samples)]
        return self.inputs.only(samples_having(chosen, self.network.modalities))


def unet(width: float, size: int, bfloat16: bool = False) -> Setup:
    """Returns gmd's U-Net, trained for a while, on one case of size³ voxels: T = 15."""
    step = Step("exact float32", width, size)
    setup = Setup("U-Net, float32", step.network, _pairs(step.volumes), step.target, region_loss)
    if bfloat16:
        return replace(setup, case="U-Net, bfloat16", bfloat16=True)
    return replace(setup, published=Step(PUBLISHED, width, size))


def transformer(width: int, layers: int) -> Setup:
    """Returns the transformer of `gmd train sentiment` on a batch of sequences with one of 7 classes each: T = 7."""
    inputs, scores = make_batch(seed=1)
    classes = scores.round().clamp(-(CLASSES // 2), CLASSES // 2).long() + CLASSES // 2
    torch.manual_seed(0)
    network = SharedTransformer(FEATURES, CLASSES, per_step=False, width=width, layers=layers, dropout=0.0)
    return _warmed(Setup("transformer", network, inputs, classes, cross_entropy, _predicted, by_sample=True))


def _predicted(network: SequenceNetwork, outputs: Pairs[Tensor], subset: Subset | None) -> tuple[Tensor, list[int]]:
    return predict(network, outputs, subset)


def segresnet(size: int) -> Setup:
    """Returns MONAI's SegResNet (Myronenko, BrainLes 2018) on one case of size³ voxels: T = 15."""
    from monai.networks.nets.segresnet import SegResNet  # MONAI may be missing where a GPU is

    torch.manual_seed(0)
    return _of_monai("SegResNet", SegResNet(in_channels=1, out_channels=len(REGIONS)), size)


def dynunet(size: int) -> Setup:
    """Returns MONAI's DynUNet (nnU-Net's network, Isensee et al., 2021), of 4 levels, on one case: T = 15."""
    from monai.networks.nets.dynunet import DynUNet

    torch.manual_seed(0)
    network = DynUNet(3, 1, len(REGIONS), [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[16, 32, 64, 128])
    return _of_monai("DynUNet", network, size)


def _of_monai(name: str, network: nn.Module, size: int) -> Setup:
    step = Step("exact float32", width=1 / 32, size=size, trained_steps=0)  # for its case
    volumes, shared = step.volumes.contiguous(), OneForAll(network)
    return _warmed(Setup(f"MONAI's {name}", shared, _pairs(volumes), step.target, region_loss))


class OneForAll(MultimodalNetwork):
    """Any network of single-channel volumes, shared by all modalities whole."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.modalities = MODALITIES
        self.network = network

    def forward(self, volumes: Tensor, modality: int) -> Tensor:
        return self.network(volumes)


def _pairs(volumes: Tensor) -> Pairs:
    """Returns the pairs of one sample, of its volumes [M, 1, X, Y, Z]."""
    return Pairs(1, {m: [0] for m in MODALITIES}, {m: volumes[i : i + 1] for i, m in enumerate(MODALITIES)})


def _warmed(setup: Setup) -> Setup:
    """Trains the network for a few steps on the loss of all modalities, and returns the setup."""
    optimizer = torch.optim.AdamW(setup.network.parameters(), lr=1e-3)
    for _ in range(WARM_STEPS):
        outputs = run_modalities(setup.network, setup.inputs)
        predictions, _ = setup.predict(setup.network, outputs, None)
        optimizer.zero_grad()
        setup.criterion(predictions, setup.targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return setup
