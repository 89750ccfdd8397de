"""How much a run's subsets tell of test data, on a scale where 0 is who looks at nothing, and 1 is perfect."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from gmd.evaluation.compare.paired import Difference, paired_difference
from gmd.evaluation.compare.run_scores import Column, RunScores, read_run_scores
from gmd.subsets import all_subsets, subset_name

DICE, ACCURACY, MAE = "Dice", "accuracy", "MAE"


class Skill(NamedTuple):
    """How much the subsets of a run's modalities tell of its test data.

    Attributes:
        what: the scale, in words.
        of: subset's name -> skill; subsets that no sample has are not there.
        alone: modality -> skill.
        gap: all modalities' skill less the mean of the subsets', over the items that have all, with its interval.
        unit_noun: what the interval resamples, and is counted in `gap.units`: "patient" or "sample".
    """

    what: str
    of: Mapping[str, float]
    alone: Mapping[str, float]
    gap: Difference
    unit_noun: str

    @property
    def mean(self) -> float:
        """Returns the mean over the subsets."""
        return fmean(self.of.values())

    @property
    def full(self) -> float:
        """Returns that of the largest subset."""
        return self.of[max(self.of, key=lambda name: name.count("+"))]

    @property
    def worst(self) -> str:
        """Returns the name of the subset that tells least."""
        return min(self.of, key=self.of.__getitem__)


def read_skill(run: Path) -> Skill | None:
    """Returns the skill of an evaluated run; None where no item has all modalities, or with several outcomes.

    Of segmentation it is Dice, mean over the regions. Of classes it is (accuracy - c) / (1 - c), where c is the share
    of the most frequent class in the test data, and of numbers 1 - MAE / m, where m is the MAE of saying their median.
    Raises UserError if the evaluation's file is damaged.
    """
    scores = read_run_scores(run)
    subsets = all_subsets(scores.modalities)
    scale = _scale(scores)
    if scale is None:
        return None
    place = scores.columns.index(scale.column)
    whole = {i: v for i, v in scores.values.items() if all(s in v and math.isfinite(v[s][place]) for s in subsets)}
    if not whole:
        return None
    each = {subset_name(s): np.array([scale.part(v[s][place]) for v in whole.values()]) for s in subsets}
    units = [scores.units[item] for item in whole]
    gap = paired_difference(np.mean(list(each.values()), axis=0), each[subset_name(tuple(scores.modalities))], units)
    of = {name: float(parts.mean()) for name, parts in each.items()}
    return Skill(scale.what, of, {m: of[m] for m in scores.modalities}, gap, scores.unit_noun)


class _Scale(NamedTuple):
    """How an item's number becomes its part of the skill, which is their mean.

    Attributes:
        column: the metric.
        what: the scale, in words.
        part: the number -> the part.
    """

    column: Column
    what: str
    part: Callable[[float], float]


def _scale(scores: RunScores) -> _Scale | None:
    """Returns the scale of a run; None where outcomes are several, or all targets are the same."""
    if (DICE, "mean") in scores.columns:
        return _Scale((DICE, "mean"), "Dice", float)
    targets = [target for target in scores.targets.values() if target]
    if not targets:
        return None
    if (ACCURACY, "") in scores.columns:
        return _of_classes(Counter(targets).most_common(1)[0][1] / len(targets))
    return _of_numbers([float(target) for target in targets]) if (MAE, "") in scores.columns else None


def _of_classes(often: float) -> _Scale | None:
    """Returns the scale of accuracies. often: share of the most frequent class"""
    what = f"accuracy above the {often:.3g} of who says the most frequent class"
    return _Scale((ACCURACY, ""), what, lambda right: (right - often) / (1 - often)) if often < 1 else None


def _of_numbers(targets: list[float]) -> _Scale | None:
    """Returns the scale of absolute errors."""
    middle = median(targets)
    error = fmean(abs(target - middle) for target in targets)
    what = f"MAE below the {error:.3g} of who says the median"
    return _Scale((MAE, ""), what, lambda wrong: 1 - wrong / error) if error > 0 else None
