"""Lesion-wise Dice and HD95 by the rule of the BraTS challenges of 2023, for which no package was found on PyPI.

From the organisers' announcement (https://www.synapse.org/Synapse:syn51156910/discussion/threadId=10357). Lesions of
the truth that touch once they are dilated count as one. Every component of the prediction that meets a dilated lesion
belongs to it, and Dice and HD95 are those of the lesion and these components. A lesion that nothing meets and a
component that meets none count as Dice 0 and HD95 374 mm; the scores are means over lesions and such components.
Lesions that are not larger than a threshold are not scored, but what meets them is no error. docs/metrics.md has the
rule beside the others.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label
from torch import Tensor

from gmd.scoring.segmentation.metrics import surface_hd95

PENALTY = 374.0  # mm
_NEIGHBOURS_18 = generate_binary_structure(3, 2)  # of a dilation
_NEIGHBOURS_26 = generate_binary_structure(3, 3)  # of a component


class Rule(NamedTuple):
    """What differs between the challenges.

    Attributes:
        dilation: of a lesion of the truth, in voxels.
        smallest: lesions of this volume in mm³, or less, are not scored.
    """

    dilation: int
    smallest: float


# label scheme -> rule; the others are gliomas, those of Africa and of children included
RULES = {
    "brats2023-men": Rule(1, 50),
    "brats2024-men-rt": Rule(1, 50),
    "brats2023-met": Rule(1, 2),
    "brats2025-met": Rule(1, 2),
}
OF_GLIOMA = Rule(3, 50)


def lesion_scores_2023(
    predicted: Tensor, target: Tensor, spacing: Sequence[float], scheme: str
) -> list[dict[str, float | None]]:
    """Returns Dice, HD95 in mm, and the numbers of lesions found (tp), invented (fp) and missed (fn), of each region.

    Dice is 1 and HD95 0 where there is no lesion to score and none was invented.

    Args:
        predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on any device.
        spacing: size of a voxel along X, Y and Z in mm.
        scheme: name of the label scheme, which the dilation and the threshold follow from.
    """
    rule = RULES.get(scheme, OF_GLIOMA)
    pairs = zip(predicted.bool().cpu().numpy(), target.bool().cpu().numpy(), strict=True)
    return [_of_region(*pair, spacing, rule) for pair in pairs]


def _of_region(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float], rule: Rule
) -> dict[str, float | None]:
    """Returns the numbers of one region, bool [X, Y, Z] both."""
    grown, _ = label(binary_dilation(target, _NEIGHBOURS_18, iterations=rule.dilation), _NEIGHBOURS_26)
    components, count = label(predicted, _NEIGHBOURS_26)
    met: set[int] = set()
    pairs: list[tuple[float, float]] = []  # Dice and HD95 of each lesion that is scored
    missed = 0
    for number, box in enumerate(find_objects(grown), start=1):
        lesion = np.zeros_like(target)  # the box of a dilated lesion has all of it
        lesion[box] = target[box] & (grown[box] == number)
        near = binary_dilation(lesion[box], _NEIGHBOURS_18, iterations=rule.dilation)
        meeting = np.unique(components[box][near & predicted[box]])
        met.update(meeting.tolist())
        if lesion[box].sum() * np.prod(spacing) <= rule.smallest:
            continue
        missed += not meeting.size
        ours = np.isin(components, meeting) & predicted
        dice = 2 * (ours & lesion).sum() / (ours.sum() + lesion.sum())
        pairs.append((float(dice), surface_hd95(ours, lesion, spacing, PENALTY)))
    found, invented = len(pairs) - missed, count - len(met)
    pairs += [(0.0, PENALTY)] * invented
    dice, hd95 = (fmean(values) for values in zip(*pairs, strict=True)) if pairs else (1.0, 0.0)
    counts = {"lesion2023_tp": found, "lesion2023_fp": invented, "lesion2023_fn": missed}
    return {"lesion2023_dice": dice, "lesion2023_hd95": hd95, **{name: float(n) for name, n in counts.items()}}
