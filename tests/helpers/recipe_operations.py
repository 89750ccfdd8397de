"""How many operations the trainings of docs/recipes.md take, validation left out.

Counted are the products and sums of convolutions, of products of matrices and of attention, as torch's FlopCounterMode
does; a backward pass counts as two forward passes, one for the gradients of the inputs, one for those of the weights.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gmd.config import TrainClassify
from gmd.config.recipes import PRESETS
from gmd.data.manifest.inputs import Input
from gmd.data.manifest.sound import sound_input
from gmd.data.padded import Padded
from gmd.models.classification.make import make_classifier
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.strip_mlp import VARIANTS, StripMLP
from gmd.models.unet3d import UNet3d

STEP = 3  # a pass forward, and one backward, which counts twice
PAIRS = 32  # of one of the 15 subsets of four modalities, and a modality in it


def counted(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return counter.get_total_flops()


def unet_path(side: int) -> int:
    """One modality of one crop, forward; convolutions take the same at every voxel."""
    network, small = UNet3d(("flair",), ("WT", "TC", "ET"), 0.5), 16
    return counted(lambda: network(torch.zeros(1, 1, small, small, small), 0)) * side**3 // small**3


def brats(side: int, backward: int) -> int:
    """Of a crop: four modalities forward, and `backward` passes through the path of one."""
    return (4 + 2 * backward) * unet_path(side)


def sequences(preset: str, steps: dict[str, tuple[int, int]]) -> int:
    """Of a sample. steps: modality -> steps, features of a step"""
    values = PRESETS[preset].values
    features = {m: size for m, (_, size) in steps.items()}
    network = LateFusionTransformer(features, 1, False, values["width"], values["layers"], values["heads"], 0.0)
    return STEP * counted(lambda: _paths(network, [torch.zeros(1, *sizes) for sizes in steps.values()]))


def classified(preset: str, inputs: dict[str, Input], classes: int) -> int:
    """Of a sample."""
    config = TrainClassify(data="m.csv", preset=preset, **PRESETS[preset].values)
    sizes = (config.network, config.pictures, config.width, config.layers, config.heads, 0.0)
    network = make_classifier(inputs, classes, *sizes).eval()
    return STEP * counted(lambda: _paths(network, [_one(given) for given in inputs.values()]))


def pictures(preset: str) -> Input:
    values = PRESETS[preset].values
    side = values["image_size"]
    return Input("image", {"frames": values.get("frames", 1), "height": side, "width": side})


def sound(preset: str) -> Input:
    return sound_input(TrainClassify(data="m.csv", preset=preset, **PRESETS[preset].values).preparation())


def strip_mlp(variant: str, classes: int) -> int:
    """Of a picture."""
    network = StripMLP(224, classes, *VARIANTS[variant]).eval()
    return STEP * counted(lambda: network(torch.zeros(1, 3, 224, 224)))


def _one(given: Input) -> torch.Tensor | Padded:
    """A sample of what a modality gives, as long as it may be."""
    sizes = given.sizes
    if given.kind == "image":
        return torch.zeros(1, sizes["frames"], 3, sizes["height"], sizes["width"])
    if given.kind == "audio":
        return torch.zeros(1, 1, sizes["steps"], sizes["mels"])
    lengths = torch.tensor([sizes["longest"]])
    if given.kind == "text":
        return Padded(torch.ones(1, sizes["longest"], dtype=torch.int64), lengths)
    return Padded(torch.zeros(1, sizes["longest"], sizes["features"]), lengths)


def _paths(network: nn.Module, values: list[torch.Tensor | Padded]) -> None:
    for place, value in enumerate(values):
        network(value, place)


def _hidden(longest: int) -> Input:
    return Input("features", {"features": 768, "longest": longest})


def _food101_of_cggm() -> int:
    return classified("cggm-food101", {"image": _hidden(197), "text": _hidden(50)}, 101)


def _crema_d() -> int:
    return classified("mla-cremad", {"audio": sound("mla-cremad"), "video": pictures("mla-cremad")}, 6)


def _food101_of_mla() -> int:
    tokens = Input("text", {"vocabulary": 30522, "longest": 256})
    return classified("mla-food101", {"image": pictures("mla-food101"), "text": tokens}, 101)


MOSI = {"text": (50, 300), "audio": (50, 5), "vision": (50, 20)}
IEMOCAP = {"text": (22, 1024), "audio": (350, 130), "vision": (50, 342)}

# recipe -> operations of one sample's step, samples that train, epochs
RECIPES: dict[str, tuple[Callable[[], int], int, int]] = {
    "GMD on BraTS 2018, `gmd`": (lambda: brats(128, PAIRS), 228, 600),
    "GMD on BraTS 2018, `joint` or `enumerate`": (lambda: brats(128, 4), 228, 600),
    "CGGM on CMU-MOSI": (lambda: sequences("cggm-mosi", MOSI), 1284, 30),
    "CGGM on IEMOCAP": (lambda: sequences("cggm-iemocap", IEMOCAP), 5531, 30),
    "CGGM on UPMC-Food101": (_food101_of_cggm, 62970, 60),
    "CGGM on BraTS 2021": (lambda: brats(96, 4), 813, 75),
    "MLA on CREMA-D": (_crema_d, 6698, 100),
    "MLA on UPMC-Food101": (_food101_of_mla, 62970, 100),
    "Strip-MLP T\\* on CIFAR-100": (lambda: strip_mlp("light", 100), 45000, 300),
    "Strip-MLP B on CIFAR-100": (lambda: strip_mlp("base", 100), 45000, 300),
}


def row(recipe: str) -> str:
    """The line of a recipe in the page's table."""
    operations, samples, epochs = RECIPES[recipe]
    one = operations()
    total = one * samples * epochs
    hours = [_hours(total / (rate * 1e12 * 3600)) for rate in (10, 50)]
    cells = [recipe, f"{samples:,}", str(epochs), _rounded(one / 1e9), _rounded(total / 1e15), *hours]
    return f"| {' | '.join(cells)} |"


def _hours(hours: float) -> str:
    return "< 0.1" if hours < 0.1 else _rounded(hours)


def _rounded(value: float) -> str:
    """Two digits that count, as 2,100 and 0.12."""
    return f"{float(f'{value:.2g}'):,.10g}"
