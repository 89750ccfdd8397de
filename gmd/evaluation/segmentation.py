"""What the network says of a whole volume, and of every subset of the modalities, from one pass per modality.

A subset's prediction is where the mean of its modalities' logits is above 0 (probability above 0.5).
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from monai.inferers import sliding_window_inference
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor, nn
from tqdm import tqdm

from gmd.precision import Precision, autocast
from gmd.subsets import Subset, all_subsets

Patch = int | Sequence[int]
OVERLAP = 0.25  # of neighbouring windows


@torch.no_grad()
def predict_modalities(
    network: nn.Module,
    volumes: dict[str, Tensor],
    patch: Patch,
    precision: Precision = "fp32",
    progress: bool = False,
) -> dict[str, Tensor]:
    """Each modality's logits over the whole volume, without gradients.

    Args:
        network: such as UNet3d; put into eval mode meanwhile.
        volumes: the modalities that are present -> float tensor [1, X, Y, Z], 0 outside the brain.
        patch: size of the windows in voxels, multiples of `network.stride`. Windows overlap by a quarter and
            are blended; a brain smaller than the patch is padded with 0.
        precision: what the network computes in; its logits are float32 before they are blended.
        progress: a bar over the windows of all modalities, which goes when it is full.

    returns modality -> float tensor [R, X, Y, Z], on the network's device, -inf outside the brain's bounding
    box. Each modality goes through the network once.
    """
    device = next(network.parameters()).device
    # a GPU takes as many windows at once as there are modalities; a CPU gains nothing by that (measured, windows of 32
    # to 96), and holds less if they come one after the other
    together = len(volumes) if device.type == "cuda" else 1
    box = _brain_box(volumes)
    present = list(volumes)
    was_training = network.training
    network.eval()
    outputs = {}
    sides = next(iter(volumes.values()))[box].shape[1:]
    total = len(present) * num_windows(sides, patch)
    bar = tqdm(total=total, desc="windows", unit="window", leave=False, disable=not progress)
    try:
        for first in range(0, len(present), together):
            group = present[first : first + together]
            brains = torch.stack([volumes[modality][box] for modality in group]).to(device)
            logits = _predict_brains(network, brains, group, patch, precision, bar)
            for modality, brain in zip(group, logits, strict=True):
                outputs[modality] = brain.new_full((len(brain), *volumes[modality].shape[1:]), -torch.inf)
                outputs[modality][box] = brain
    finally:
        bar.close()
        network.train(was_training)
    return outputs


def num_windows(sides: Sequence[int], patch: Patch) -> int:
    """In how many windows MONAI goes through a volume of these sides. Their last one is moved back to end with it."""
    patch = (patch,) * len(sides) if isinstance(patch, int) else patch
    beyond = (max(0, side - size) for side, size in zip(sides, patch, strict=True))
    return math.prod(1 + -(-more // int(size * (1 - OVERLAP))) for more, size in zip(beyond, patch, strict=True))


def _predict_brains(
    network: nn.Module,
    brains: Tensor,
    group: Sequence[str],
    patch: Patch,
    precision: Precision,
    bar: tqdm | None = None,
) -> Tensor:
    """n windows in each batch: brains [n, 1, X, Y, Z], one of each modality -> [n, R, X, Y, Z]"""
    indices = [network.modalities.index(modality) for modality in group]

    def predictor(windows: Tensor, places: Sequence[Sequence[slice]]) -> Tensor:
        modalities = [indices[place[0].start] for place in places]
        with autocast(precision, windows.device):
            logits = network(windows.to(memory_format=torch.channels_last_3d), modalities)
        if bar is not None:
            bar.update(len(windows))
        return logits.float()

    return sliding_window_inference(
        brains, patch, len(group), predictor, overlap=OVERLAP, mode="gaussian", with_coord=True
    )


def _brain_box(volumes: dict[str, Tensor]) -> tuple[slice, ...]:
    """As training crops: windows of nothing but background cost time, and the network has never seen any."""
    start, end = generate_spatial_bounding_box(torch.cat([*volumes.values()]), select_fn=lambda x: x != 0)
    sides = [slice(low, high) if high > low else slice(None) for low, high in zip(start, end, strict=True)]
    return (slice(None), *sides)


def predict_subsets(outputs: dict[str, Tensor]) -> Iterator[tuple[Subset, Tensor]]:
    """From the logits of each modality present, one by one: (subset of them, bool tensor [R, X, Y, Z])."""
    for subset in all_subsets(tuple(outputs)):
        yield subset, reduce(torch.add, [outputs[modality] for modality in subset]) > 0  # as their mean is


def present_volumes(network: nn.Module, case: dict) -> dict[str, Tensor]:
    """The volumes of a loaded case that the network knows, in the network's order."""
    return {modality: case[modality] for modality in network.modalities if modality in case}
