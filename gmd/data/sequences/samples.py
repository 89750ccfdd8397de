"""What every reader of sequences returns, and the checks that all of them need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gmd.errors import UserError

SPLITS = ("train", "validation", "test")
SENTIMENT_MODALITIES = ("text", "audio", "vision")
LARGEST_SCORE = 3.0  # MOSI and MOSEI: from strongly negative, -3, to strongly positive, 3
SIGNS = ("negative", "non-negative")


class Sample(NamedTuple):
    """One sample, with the modalities that it has.

    Attributes:
        name: no other sample of the set is called so.
        values: modality -> float32 [L_m, F_m], in canonical order; at least one, each of at least one step.
        target: float32 score, or int64 class: [], or [L] with one for each step.
    """

    name: str
    values: dict[str, Tensor]
    target: Tensor


@dataclass(frozen=True)
class SequenceData:
    """A set of sequences, split.

    Attributes:
        features: modality -> F_m, in canonical order.
        classes: their names, or None where the targets are scores in [-3, 3].
        per_step: whether each step has a target; then all modalities of a sample are as long as its target.
        splits: "train", "validation" and "test", none of them empty.
        notes: what was replaced, left out or held out, with counts, in sentences for the user.
    """

    features: dict[str, int]
    classes: tuple[str, ...] | None
    per_step: bool
    splits: dict[str, list[Sample]]
    notes: tuple[str, ...]


def as_classes(data: SequenceData) -> SequenceData:
    """The same with the sign of each score as its target: class 0 negative, class 1 non-negative. Raises UserError."""
    if data.classes is not None:
        raise UserError(f"the targets are classes already ({', '.join(data.classes)}); scores have signs")
    splits = {
        split: [sample._replace(target=(sample.target >= 0).long()) for sample in samples]
        for split, samples in data.splits.items()
    }
    return replace(data, classes=SIGNS, splits=splits)


def finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """As float32 with 0 for NaN and infinity (MOSEI's audio has -inf), and how many these were."""
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 is infinite, and counted as such
        values = values.astype(np.float32)
    bad = ~np.isfinite(values)
    values[bad] = 0
    return values, int(bad.sum())


def check_scores(scores: np.ndarray, names: Sequence[str], source: object) -> None:
    """scores: float [n] of whatever `names` calls. Raises UserError for the first that is no score."""
    wrong = np.flatnonzero(~(np.abs(scores) <= LARGEST_SCORE))  # so that NaN is wrong too
    if len(wrong):
        first = wrong[0]
        others = f" ({len(wrong) - 1} more labels are wrong)" if len(wrong) > 1 else ""
        raise UserError(f"{source}: the label of {names[first]} is {scores[first]:g}, expected one in [-3, 3]{others}")


def check_splits(splits: dict[str, list[Sample]], source: object) -> None:
    """Raises UserError for an empty split, and for a name that two samples have: one may be in training and in test."""
    owner: dict[str, str] = {}
    for split in SPLITS:
        if not splits[split]:
            sizes = ", ".join(f"{name}: {len(samples)}" for name, samples in splits.items())
            raise UserError(f"{source}: the {split} split is empty ({sizes} samples), expected at least one sample")
        for sample in splits[split]:
            if sample.name in owner:
                raise UserError(
                    f"{source}: two samples are called {sample.name}, in {owner[sample.name]} and in {split}; "
                    "what is trained on must not be tested on, so names have to be unique"
                )
            owner[sample.name] = split


def replaced_notes(replaced: dict[str, int]) -> list[str]:
    """modality -> how many values `finite` replaced"""
    return [f"{m}: {count} values that are NaN or infinite are replaced by 0" for m, count in replaced.items() if count]
