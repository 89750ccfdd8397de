"""Small networks for pictures, sound, text and features, and a batch in which every sample misses something else."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from gmd.data.manifest.inputs import Input
from gmd.data.padded import Padded, pad
from gmd.data.pairs import Pairs
from gmd.models.classification.make import NETWORKS
from gmd.models.classification.network import ClassifierNetwork
from gmd.models.classification.picture_networks import PictureNetwork, resnet_network, strip_network
from gmd.models.modality_norms import ModalityLayerNorm
from gmd.models.strip_mlp import Variant

VOCABULARY = 11
INPUTS = {
    "photo": Input("image", {"frames": 2, "height": 32, "width": 32}),
    "voice": Input("audio", {"steps": 40, "mels": 20}),
    "words": Input("text", {"vocabulary": VOCABULARY, "longest": 6}),
    "numbers": Input("features", {"features": 3, "longest": 6}),
}
MODALITIES = tuple(INPUTS)
WIDTH, OUTPUTS = 12, 5
SMALL_STRIP = strip_network(Variant(16, (1, 1, 1, 1)))
PICTURES = {"strip": SMALL_STRIP, "resnet": resnet_network(0.125)}
# every sample misses something else, the last one nothing
HAVE = [("photo",), ("voice", "words"), ("photo", "numbers"), MODALITIES]

every_network = pytest.mark.parametrize("network", NETWORKS)
every_picture_network = pytest.mark.parametrize("pictures", PICTURES)


def make(network: str, pictures: PictureNetwork = SMALL_STRIP, inputs: dict = INPUTS) -> ClassifierNetwork:
    """Of the project's default precision, in training mode."""
    torch.manual_seed(0)
    return NETWORKS[network](inputs, OUTPUTS, pictures, WIDTH, 2, 3, 0.1, shared=network == "ds")


@cache
def network_of(network: str, pictures: str = "strip") -> ClassifierNetwork:
    """In float64, evaluating, with affines and statistics that differ (they start alike). Nobody may change it."""
    made = make(network, PICTURES[pictures]).double().eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, ModalityLayerNorm):
                for parameter in (*module.weight, *module.bias):
                    parameter.add_(0.3 * torch.randn_like(parameter))
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.add_(0.1 * torch.randn_like(tensor))
                module.running_var.mul_(0.5 + torch.rand_like(module.running_var))
    made.set_input_statistics(
        {m: (noise(f), noise(f).abs() + 0.5) for m, f in (("photo", 3), ("voice", 20), ("numbers", 3))}
    )
    return made


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def values_of(modality: str, samples: list[int]) -> Tensor | Padded:
    """What these samples have of a modality; sample s has 1 + s steps."""
    kind, sizes = INPUTS[modality]
    if kind == "image":
        return torch.stack([noise(sizes["frames"], 3, sizes["height"], sizes["width"], seed=s) for s in samples])
    if kind == "audio":
        return torch.stack([noise(1, sizes["steps"], sizes["mels"], seed=s) for s in samples])
    if kind == "text":
        return pad([1 + (7 * torch.arange(1 + s) + s) % (VOCABULARY - 1) for s in samples])
    return pad([noise(1 + s, sizes["features"], seed=s) for s in samples])


def batch(have: list = HAVE) -> Pairs:
    samples = {m: [s for s, some in enumerate(have) if m in some] for m in MODALITIES}
    samples = {m: some for m, some in samples.items() if some}
    return Pairs(len(have), samples, {m: values_of(m, some) for m, some in samples.items()})


def alone(sample: int) -> Pairs:
    """One sample of `batch()`, by itself."""
    have = HAVE[sample]
    return Pairs(1, {m: [0] for m in have}, {m: values_of(m, [sample]) for m in have})


def floats(pairs: Pairs) -> Pairs:
    """The same values in float32."""
    values = {}
    for m, value in pairs.values.items():
        if INPUTS[m].kind == "text":
            values[m] = value
        else:
            values[m] = Padded(value.values.float(), value.lengths) if isinstance(value, Padded) else value.float()
    return Pairs(pairs.num_samples, pairs.samples, values)
