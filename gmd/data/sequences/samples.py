"""What every reader of sequences returns: samples with the modalities they have, in three splits."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from gmd.errors import UserError

SENTIMENT_MODALITIES = ("text", "audio", "vision")
LARGEST_SCORE = 3.0  # MOSI and MOSEI: from strongly negative, -3, to strongly positive, 3
CH_SIMS_LARGEST = 1.0  # CH-SIMS: from -1 to 1 in steps of 0.2
Unit = tuple[float, float]  # mean and standard deviation
SIGNS = ("negative", "non-negative")  # the classes of `as_classes`


class Sample(NamedTuple):
    """One sample, with the modalities that it has.

    Attributes:
        name: no other sample of the set is called so.
        values: modality -> float32 [L_m, F_m], in canonical order; at least one modality, each of at least one step.
            Of a manifest's samples, whose files are read later, modality -> Cell.
        target: a float32 score or an int64 class: [] for the whole sample, or [L] with one for each step.
    """

    name: str
    values: dict[str, Any]
    target: Tensor


@dataclass(frozen=True)
class SequenceData:
    """A data set of sequences, in its splits.

    Attributes:
        features: modality -> F_m, in canonical order.
        classes: the names of the classes, or None where the targets are scores: sentiment in [-3, 3], or numbers.
        per_step: whether each step has a target; then all modalities of a sample are as long as its target.
        splits: "train", "validation" and "test", none of them empty.
        notes: what was replaced, left out or held out, with counts, in sentences for the user.
        unit: where scores are numbers of any range, the mean and the standard deviation of the training split's, in
            which a network learns them; None for sentiment and classes.
    """

    features: dict[str, int]
    classes: tuple[str, ...] | None
    per_step: bool
    splits: dict[str, list[Sample]]
    notes: tuple[str, ...]
    unit: Unit | None = None

    @cached_property
    def largest_score(self) -> float | None:
        """The end of the scale that the scores of all splits are on: 1 if none is beyond [-1, 1], else 3.

        None for numbers, which are on no scale.
        """
        if self.unit is not None:
            return None
        targets = (sample.target for samples in self.splits.values() for sample in samples)
        within = all(target.abs().max() <= CH_SIMS_LARGEST for target in targets)
        return CH_SIMS_LARGEST if self.classes is None and within else LARGEST_SCORE


def as_classes(data: SequenceData) -> SequenceData:
    """Returns the same data with the sign of each score as its target: class 0 is negative, class 1 non-negative.

    Raises UserError for data whose targets are classes already.
    """
    if data.classes is not None:
        raise UserError(f"the targets are classes already ({', '.join(data.classes)}); scores have signs")
    splits = {
        split: [sample._replace(target=(sample.target >= 0).long()) for sample in samples]
        for split, samples in data.splits.items()
    }
    return replace(data, classes=SIGNS, splits=splits)


def as_numbers(data: SequenceData) -> SequenceData:
    """Returns the same data with scores that are numbers of any range, and the unit in which a network learns them."""
    scores = np.concatenate([sample.target.reshape(-1).numpy() for sample in data.splits["train"]]).astype(np.float64)
    return replace(data, unit=(float(scores.mean()), float(scores.std()) or 1.0))
