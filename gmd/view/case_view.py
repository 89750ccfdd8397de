"""What a page shows of a case: its images, its truth, and the network's prediction from each subset."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes
from torch import Tensor
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.metrics import hard_dice
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.subsets import Subset, all_subsets
from gmd.view.voxels import Box, brain_box, grey, region_bits


class SubsetView(NamedTuple):
    """The prediction from one subset.

    Attributes:
        subset: the modalities that it was made from.
        voxels: uint8 [X, Y, Z], of `region_bits`.
        dice: region -> Dice of the whole case.
    """

    subset: Subset
    voxels: np.ndarray
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Returns the mean Dice of the regions."""
        return fmean(self.dice.values())


class CaseView(NamedTuple):
    """A case as a page shows it, in RAS+ orientation, cropped to the brain.

    Attributes:
        name: of the case.
        full: voxels along each axis of the whole volume.
        origin: the first voxel along each axis that is shown.
        spacing: size of a voxel along each axis in mm.
        images: modality -> uint8 [X, Y, Z], of `grey`.
        truth: uint8 [X, Y, Z], of `region_bits`.
        predictions: one of each subset, by size, the worst of each size first.
        start: the place along each axis, from the origin on, with most tumour.
    """

    name: str
    full: tuple[int, ...]
    origin: tuple[int, ...]
    spacing: tuple[float, ...]
    images: dict[str, np.ndarray]
    truth: np.ndarray
    predictions: list[SubsetView]
    start: tuple[int, ...]


def see_case(network: SegmentationNetwork, case: dict, config: TrainBrats) -> CaseView:
    """Predicts a case from each subset of its modalities, as `gmd evaluate` does, and makes all ready to be shown.

    case: of `load_case`, with its target
    config: of the run, with the precision to predict in
    Bars on stderr tell how far it is. Raises UserError if the network says NaN or infinity.
    """
    volumes, box = present_volumes(network, case), brain_box(case)
    outputs = predict_modalities(network, volumes, config.patch, config.precision, progress=True)
    predictions = _predictions(outputs, config.label_scheme(), case["target"], box)
    images = {modality: grey(volume, box) for modality, volume in volumes.items()}
    truth = region_bits(case["target"], box)
    shown = [truth, max(predictions, key=lambda one: len(one.subset)).voxels, case["brain"][0].numpy()[box]]
    return CaseView(
        case["name"],
        tuple(case["brain"].shape[1:]),
        tuple(side.start for side in box),
        tuple(map(float, voxel_sizes(case["affine"]))),
        images,
        truth,
        worst_first(predictions),
        fullest_slices(next(voxels for voxels in shown if voxels.any())),
    )


def _predictions(outputs: dict[str, Tensor], scheme: LabelScheme, target: Tensor, box: Box) -> list[SubsetView]:
    """Returns the prediction from each subset and its Dice, in the order of `all_subsets`.

    outputs: of `predict_modalities`; scheme: of the label map that would be written
    target: uint8 [R, X, Y, Z]
    """
    made = []
    total = len(all_subsets(tuple(outputs)))
    truth = target.to(next(iter(outputs.values())).device)
    for subset, labels in tqdm(predict_subsets(outputs, scheme), "subsets", total, leave=False, unit="subset"):
        regions = regions_of(labels, scheme)
        dice = dict(zip(scheme.regions, hard_dice(regions, truth), strict=True))
        made.append(SubsetView(subset, region_bits(regions, box), dice))
    return made


def worst_first(predictions: Sequence[SubsetView]) -> list[SubsetView]:
    """Sorts predictions: those from few modalities first, and of as many the one of the lowest mean Dice first."""
    return sorted(predictions, key=lambda one: (len(one.subset), one.mean))


def fullest_slices(voxels: np.ndarray) -> tuple[int, ...]:
    """Returns the place along each axis of the slice with most voxels that are not 0. voxels: [X, Y, Z]"""
    there = voxels != 0
    return tuple(int(there.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1)))
