"""Predictions of whole volumes from every subset of the modalities, with one network pass for each modality.

A region is predicted where the mean of a subset's logits is above 0 (probability above 0.5), and the label map that is
painted from the regions is the subset's prediction: `gmd predict` writes it, and its regions are what is scored. A
modality takes part in the mean inside its own bounding box alone. So what it says does not depend on which others the
case has, and a subset scores in an evaluation as it does where its modalities are all there is.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from monai.inferers import sliding_window_inference
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor
from tqdm import tqdm

from gmd.data.segmentation.label_map import paint
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.errors import UserError
from gmd.models.precision import Precision, autocast
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.subsets import Subset, all_subsets

Patch = int | Sequence[int]
OVERLAP = 0.25  # of neighbouring windows
# windows at once on a GPU; a CPU gains no time by more than one, and needs less memory for one
WINDOWS_ON_GPU = 4


@torch.no_grad()
def predict_modalities(
    network: SegmentationNetwork,
    volumes: dict[str, Tensor],
    patch: Patch,
    precision: Precision = "fp32",
    progress: bool = False,
) -> dict[str, Tensor]:
    """Predicts each modality's logits over the whole volume, without gradients.

    Args:
        network: put into eval mode meanwhile.
        volumes: the modalities that are present -> float tensor [1, X, Y, Z], 0 outside the brain.
        patch: size of the windows in voxels, multiples of `network.stride`. Windows overlap by a quarter and
            are blended; a brain smaller than the patch is padded with 0.
        precision: what the network computes in; its logits are float32 before they are blended.
        progress: a bar over the windows of all modalities, which goes when it is full.

    returns modality -> float tensor [R, X, Y, Z], on the network's device, 0 outside the bounding box of what the
    modality itself shows: there it adds nothing to a sum. Each modality goes through the network once.
    Raises UserError if the network says NaN or infinity.
    """
    boxes = {modality: _box(volume) for modality, volume in volumes.items()}
    total = sum(num_windows(volume[boxes[modality]].shape[1:], patch) for modality, volume in volumes.items())
    bar = tqdm(total=total, desc="windows", unit="window", leave=False, disable=not progress)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    outputs = {}
    try:
        for modality, volume in volumes.items():
            box = boxes[modality]
            logits = _predict_brain(network, volume[box].to(device), modality, patch, precision, bar)
            _check_finite(logits, modality, precision)
            outputs[modality] = logits.new_zeros(len(logits), *volume.shape[1:])
            outputs[modality][box] = logits
    finally:
        bar.close()
        network.train(was_training)
    return outputs


def num_windows(sides: Sequence[int], patch: Patch) -> int:
    """Returns in how many windows MONAI goes through a volume of these sides; the last is moved back to end with it."""
    patch = (patch,) * len(sides) if isinstance(patch, int) else patch
    beyond = (max(0, side - size) for side, size in zip(sides, patch, strict=True))
    return math.prod(1 + -(-more // int(size * (1 - OVERLAP))) for more, size in zip(beyond, patch, strict=True))


def _predict_brain(
    network: SegmentationNetwork, brain: Tensor, modality: str, patch: Patch, precision: Precision, bar: tqdm
) -> Tensor:
    """Slides the window over one modality: [1, X, Y, Z] -> logits, float32 [R, X, Y, Z]."""
    index = network.modalities.index(modality)

    def predictor(windows: Tensor) -> Tensor:
        with autocast(precision, windows.device):
            logits = network(windows.to(memory_format=torch.channels_last_3d), [index] * len(windows))
        bar.update(len(windows))
        return logits.float()

    together = WINDOWS_ON_GPU if brain.device.type == "cuda" else 1
    return sliding_window_inference(brain[None], patch, together, predictor, overlap=OVERLAP, mode="gaussian")[0]


def _check_finite(logits: Tensor, modality: str, precision: Precision) -> None:
    """Raises UserError for logits that are not finite.

    NaN is not above 0, so a network that has diverged would find nothing in anybody.
    """
    if bad := int((~logits.isfinite()).any(dim=0).sum()):
        mend = "train anew with a lower --lr" if precision == "fp32" else "try --precision fp32, or train anew"
        voxels = logits[0].numel()
        raise UserError(f"the network's output is NaN or infinite in {bad} of {voxels} voxels with {modality}; {mend}")


def _box(volume: Tensor) -> tuple[slice, ...]:
    """Returns the bounding box of what a modality [1, X, Y, Z] shows, which training crops to as well.

    Windows of nothing but background would cost time, and the network has never seen any.
    """
    start, end = generate_spatial_bounding_box(volume, select_fn=lambda x: x != 0)
    sides = [slice(low, high) if high > low else slice(None) for low, high in zip(start, end, strict=True)]
    return (slice(None), *sides)


def fuse(outputs: dict[str, Tensor], volumes: dict[str, Tensor]) -> Tensor:
    """Returns the mean of the logits, at each voxel over the modalities that take part there, and -inf where none does.

    It is what probabilities are of; `predict_label_map` decides without it.

    outputs: of `predict_modalities`, for these volumes; returns [R, X, Y, Z] on their device
    """
    total = reduce(torch.add, outputs.values())
    count = total.new_zeros(1, *total.shape[1:])
    for volume in volumes.values():
        count[_box(volume)] += 1
    return (total / count).masked_fill_(count == 0, -torch.inf)


def predict_label_map(outputs: dict[str, Tensor], scheme: LabelScheme) -> Tensor:
    """Returns the label map of one case, the only one there is: written by `gmd predict`, scored, and drawn.

    outputs: of `predict_modalities`, of the modalities that are to take part
    returns uint8 [X, Y, Z] with the values of the scheme, on their device
    """
    # their mean is above 0 where their sum is, but for means so small that they are rounded to 0
    return paint(reduce(torch.add, outputs.values()) > 0, scheme)


def predict_subsets(outputs: dict[str, Tensor], scheme: LabelScheme) -> Iterator[tuple[Subset, Tensor]]:
    """Makes, one by one, each subset of the modalities present and its label map, see `predict_label_map`.

    outputs: of `predict_modalities`
    """
    for subset in all_subsets(tuple(outputs)):
        yield subset, predict_label_map({modality: outputs[modality] for modality in subset}, scheme)


def present_volumes(network: SegmentationNetwork, case: dict) -> dict[str, Tensor]:
    """Returns the volumes of a loaded case that the network knows, in the network's order."""
    return {modality: case[modality] for modality in network.modalities if modality in case}
