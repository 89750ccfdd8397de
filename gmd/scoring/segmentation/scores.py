"""The scores of every subset of the modalities on labelled cases: those of the label maps that would be written.

HD95 is measured when a run is evaluated, not in the validation during training, which it would slow down.
"""

from collections.abc import Iterable, Sequence

from nibabel.affines import voxel_sizes
from torch import Tensor

from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.models.precision import Precision
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.metrics import hard_dice, hausdorff95
from gmd.scoring.segmentation.prediction import Patch, predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import Score


def score_case(case: dict, outputs: dict[str, Tensor], scheme: LabelScheme, hd95: bool = False) -> list[Score]:
    """Scores a case for each region and each subset of the modalities that its outputs are of.

    Args:
        case: a dictionary of `load_case`, with its target.
        outputs: of `predict_modalities`, for this case.
        scheme: that of the label map that would be written, which names the regions.
        hd95: whether to measure that too.
    """
    scores = []
    for subset, labels in predict_subsets(outputs, scheme):  # one by one: of a large volume 15 would not fit
        predicted = regions_of(labels, scheme)
        target = case["target"].to(predicted.device)
        dice = hard_dice(predicted, target)
        distances: Sequence[float | None] = [None] * len(dice)
        if hd95:
            distances = hausdorff95(predicted, target, voxel_sizes(case["affine"]))
        scores += [Score(case["name"], subset, *each) for each in zip(scheme.regions, dice, distances, strict=True)]
    return scores


def evaluate_cases(
    network: SegmentationNetwork,
    cases: Iterable[dict],
    scheme: LabelScheme,
    patch: Patch,
    precision: Precision = "fp32",
    hd95: bool = False,
) -> list[Score]:
    """Scores every case, for each region and each subset of the modalities that the case has.

    Args:
        network: put into eval mode meanwhile.
        cases: dictionaries of `load_case`, with their targets.
        scheme: that of the network's regions and of the label maps that it writes; those of the cases may have other
            values for the same regions.
        patch, precision: as in `predict_modalities`.
        hd95: whether to measure that too.

    Raises UserError if the network says NaN or infinity.
    """
    scores = []
    for case in cases:
        outputs = predict_modalities(network, present_volumes(network, case), patch, precision)
        scores += score_case(case, outputs, scheme, hd95)
    return scores
