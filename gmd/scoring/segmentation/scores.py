"""Scores of every subset of the modalities on labelled cases.

Hard Dice is 3-D, per case and region, as in BraTS: 1 if truth and prediction are both empty, 0 if only one of them is.
HD95 is that of `hausdorff95`, with BraTS's rule for empty masks; it is measured when a run is evaluated, not in the
validation during training, which it would slow down.
"""

from collections.abc import Iterable

from monai.metrics import compute_dice
from nibabel.affines import voxel_sizes
from torch import Tensor, nn

from gmd.models.precision import Precision
from gmd.scoring.segmentation.metrics import hausdorff95
from gmd.scoring.segmentation.prediction import Patch, predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import Score


def score_case(network: nn.Module, case: dict, outputs: dict[str, Tensor], hd95: bool = False) -> list[Score]:
    """Of each subset of `outputs` and each region, against `case["target"]` (uint8 [R, X, Y, Z])."""
    scores = []
    for subset, predicted in predict_subsets(outputs):  # one by one: of a large volume 15 would not fit
        target = case["target"].to(predicted.device)
        dice = compute_dice(predicted[None], target[None], ignore_empty=False)[0].tolist()
        distances = hausdorff95(predicted, target, voxel_sizes(case["affine"])) if hd95 else [None] * len(dice)
        scores += [Score(case["name"], subset, *each) for each in zip(network.regions, dice, distances, strict=True)]
    return scores


def evaluate_cases(
    network: nn.Module, cases: Iterable[dict], patch: Patch, precision: Precision = "fp32", hd95: bool = False
) -> list[Score]:
    """Scores of every case, for each region and each subset of the modalities that the case has.

    cases: dictionaries of `load_case`, with targets
    hd95: measure it too
    """
    scores = []
    for case in cases:
        outputs = predict_modalities(network, present_volumes(network, case), patch, precision)
        scores += score_case(network, case, outputs, hd95)
    return scores
