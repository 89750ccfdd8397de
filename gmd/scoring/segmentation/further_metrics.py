"""What an evaluation measures beside Dice and HD95, of one prediction: the numbers of the metrics that were chosen."""

from collections.abc import Callable, Sequence

from torch import Tensor

from gmd.config.metrics import LESION_WISE, LESION_WISE_2023, SURFACE_DICE, VOLUME, Metrics
from gmd.scoring.segmentation.lesion_wise import lesion_scores
from gmd.scoring.segmentation.lesion_wise_2023 import lesion_scores_2023
from gmd.scoring.segmentation.metrics import surface_dice, volumes

Numbers = dict[str, float | None]  # column -> number, None where it is not defined


def further_numbers(
    metrics: Metrics, predicted: Tensor, target: Tensor, spacing: Sequence[float], scheme: str
) -> list[Numbers]:
    """Returns the numbers of the chosen metrics for each region, in the order in which they were asked for.

    Args:
        metrics: those that were chosen.
        predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on any device.
        spacing: size of a voxel along X, Y and Z in mm.
        scheme: name of the label scheme of the prediction.

    Raises ImportError if lesion-wise scores are wanted and their packages are not installed.
    """
    measured: dict[str, Callable[[], list[Numbers]]] = {
        LESION_WISE: lambda: lesion_scores(predicted, target, spacing, scheme),
        LESION_WISE_2023: lambda: lesion_scores_2023(predicted, target, spacing, scheme),
        SURFACE_DICE: lambda: _surface(metrics, predicted, target, spacing),
        VOLUME: lambda: volumes(predicted, target, spacing),
    }
    numbers: list[Numbers] = [{} for _ in predicted]
    for metric in metrics.further:
        for found, of_region in zip(numbers, measured[metric](), strict=True):
            found |= {column: of_region[column] for column in metrics.columns_of(metric)}
    return numbers


def _surface(metrics: Metrics, predicted: Tensor, target: Tensor, spacing: Sequence[float]) -> list[Numbers]:
    """Returns the surface Dice of each region, under a name that says its tolerance."""
    [column] = metrics.columns_of(SURFACE_DICE)
    return [{column: dice} for dice in surface_dice(predicted, target, spacing, metrics.tolerance)]
