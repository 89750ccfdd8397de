"""What every reader of sequences checks and mends: numbers that are not finite, scores out of range, splits."""

from collections.abc import Sequence

import numpy as np

from gmd.data.sequences.samples import LARGEST_SCORE, SPLITS, Sample
from gmd.errors import UserError


def finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the values as float32 with 0 for NaN and infinity (MOSEI's audio has -inf), and the number of these."""
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 is infinite, and counted as such
        values = values.astype(np.float32)
    bad = ~np.isfinite(values)
    values[bad] = 0
    return values, int(bad.sum())


def check_scores(scores: np.ndarray, names: Sequence[str], source: object) -> None:
    """Raises UserError for the first number that is no score in [-3, 3].

    scores: float [n]; names: [n], of what they are the scores of; source: what holds them, for the message
    """
    wrong = np.flatnonzero(~(np.abs(scores) <= LARGEST_SCORE))  # so that NaN is wrong too
    if len(wrong):
        first = wrong[0]
        others = f" ({len(wrong) - 1} more labels are wrong)" if len(wrong) > 1 else ""
        raise UserError(f"{source}: the label of {names[first]} is {scores[first]:g}, expected one in [-3, 3]{others}")


def check_splits(splits: dict[str, list[Sample]], source: object) -> None:
    """Raises UserError for an empty split, and for a name of two samples: one may be in training and in test.

    source: what holds them, for the message
    """
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
    """Returns notes for the user of what `finite` replaced. replaced: modality -> how many values were replaced"""
    return [f"{m}: {count} values that are NaN or infinite are replaced by 0" for m, count in replaced.items() if count]
