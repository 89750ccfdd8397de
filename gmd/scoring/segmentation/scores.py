"""The scores of every subset of the modalities on labelled cases: those of the label maps that would be written.

HD95, ET after post-processing and what else was chosen are measured when a run is evaluated, not in the validation
during training, which they would slow down, and whose score is the mean over the regions themselves.
"""

from collections.abc import Iterable, Sequence

from nibabel.affines import voxel_sizes
from torch import Tensor

from gmd.config.metrics import Metrics
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.models.precision import Precision
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.names import POST_PROCESSED
from gmd.scoring.segmentation.further_metrics import further_numbers
from gmd.scoring.segmentation.metrics import hard_dice, hausdorff95
from gmd.scoring.segmentation.post_processing import OF, post_processed, with_post_processed
from gmd.scoring.segmentation.prediction import Patch, predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import Score

LEGACY_ONLY = Metrics()  # Dice and HD95


def score_case(
    case: dict,
    outputs: dict[str, Tensor],
    scheme: LabelScheme,
    hd95: bool = False,
    metrics: Metrics = LEGACY_ONLY,
) -> list[Score]:
    """Scores a case for each region and each subset of the modalities that its outputs are of.

    Args:
        case: a dictionary of `load_case`, with its target.
        outputs: of `predict_modalities`, for this case.
        scheme: that of the label map that would be written, which names the regions.
        hd95: whether to measure that too, and ET after post-processing if it is a region.
        metrics: what to measure beside them, with `hd95`, of the regions themselves.
    """
    scores = []
    for subset, labels in predict_subsets(outputs, scheme):  # one by one: of a large volume 15 would not fit
        predicted = regions_of(labels, scheme)
        target = case["target"].to(predicted.device)
        if not hd95:
            dice = hard_dice(predicted, target)
            scores += [Score(case["name"], subset, *each) for each in zip(scheme.regions, dice, strict=True)]
            continue
        spacing = voxel_sizes(case["affine"])
        measured = _measured(predicted, target, spacing, tuple(scheme.regions))
        numbers = further_numbers(metrics, predicted, target, spacing, scheme.name)
        further = {region: tuple(found.items()) for region, found in zip(scheme.regions, numbers, strict=True)}
        scores += [Score(case["name"], subset, name, *measured[name], further.get(name, ())) for name in measured]
    return scores


def _measured(
    predicted: Tensor, target: Tensor, spacing: Sequence[float], regions: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Returns Dice and HD95 of each column of an evaluation.

    predicted, target: bool or uint8 [R, X, Y, Z]; regions: [R] their names; spacing: as in `hausdorff95`
    """
    numbers = zip(hard_dice(predicted, target), hausdorff95(predicted, target, spacing), strict=True)
    found = dict(zip(regions, numbers, strict=True))
    if OF in found:
        place = slice(regions.index(OF), regions.index(OF) + 1)
        ours, truth = predicted[place], target[place]
        kept = post_processed(ours)
        found[POST_PROCESSED] = found[OF]  # HD95 takes its time, and what is kept was measured
        if kept is not ours:
            found[POST_PROCESSED] = hard_dice(kept, truth)[0], hausdorff95(kept, truth, spacing)[0]
    return {column: found[column] for column in with_post_processed(regions)}


def evaluate_cases(
    network: SegmentationNetwork,
    cases: Iterable[dict],
    scheme: LabelScheme,
    patch: Patch,
    precision: Precision = "fp32",
    hd95: bool = False,
    metrics: Metrics = LEGACY_ONLY,
) -> list[Score]:
    """Scores every case, for each region and each subset of the modalities that the case has.

    Args:
        network: put into eval mode meanwhile.
        cases: dictionaries of `load_case`, with their targets.
        scheme: that of the network's regions and of the label maps that it writes; those of the cases may have other
            values for the same regions.
        patch, precision: as in `predict_modalities`.
        hd95, metrics: as in `score_case`.

    Raises UserError if the network says NaN or infinity.
    """
    scores = []
    for case in cases:
        outputs = predict_modalities(network, present_volumes(network, case), patch, precision)
        scores += score_case(case, outputs, scheme, hd95, metrics)
    return scores
