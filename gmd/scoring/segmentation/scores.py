"""The scores of every subset of the modalities on labelled cases.

HD95 is measured when a run is evaluated, not in the validation during training, which it would slow down.
"""

from collections.abc import Iterable, Sequence

from nibabel.affines import voxel_sizes
from torch import Tensor

from gmd.models.precision import Precision
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.metrics import hard_dice, hausdorff95
from gmd.scoring.segmentation.prediction import Patch, predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import Score


def score_case(network: SegmentationNetwork, case: dict, outputs: dict[str, Tensor], hd95: bool = False) -> list[Score]:
    """Scores a case for each region and each subset of the modalities that its outputs are of.

    Args:
        network: the one that predicted, for the names of its regions.
        case: a dictionary of `load_case`, with its target.
        outputs: of `predict_modalities`, for this case.
        hd95: whether to measure that too.
    """
    scores = []
    for subset, predicted in predict_subsets(outputs):  # one by one: of a large volume 15 would not fit
        target = case["target"].to(predicted.device)
        dice = hard_dice(predicted, target)
        distances: Sequence[float | None] = [None] * len(dice)
        if hd95:
            distances = hausdorff95(predicted, target, voxel_sizes(case["affine"]))
        scores += [Score(case["name"], subset, *each) for each in zip(network.regions, dice, distances, strict=True)]
    return scores


def evaluate_cases(
    network: SegmentationNetwork, cases: Iterable[dict], patch: Patch, precision: Precision = "fp32", hd95: bool = False
) -> list[Score]:
    """Scores every case, for each region and each subset of the modalities that the case has.

    Args:
        network: put into eval mode meanwhile.
        cases: dictionaries of `load_case`, with their targets.
        patch, precision: as in `predict_modalities`.
        hd95: whether to measure that too.

    Raises UserError if the network says NaN or infinity.
    """
    scores = []
    for case in cases:
        outputs = predict_modalities(network, present_volumes(network, case), patch, precision)
        scores += score_case(network, case, outputs, hd95)
    return scores
