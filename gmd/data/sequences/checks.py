"""What every reader of sequences checks and mends: numbers that are not finite, scores out of range, splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmd.data import SPLITS
from gmd.data.sequences.samples import LARGEST_SCORE, Sample, SequenceData
from gmd.errors import UserError, shown
from gmd.files import open_regular

LARGEST_FEATURE = 1e18  # what is beyond has no square in float32, and no network computes with it
MOST_FEATURES = 2**20  # of a step; a network would have a row of weights for each
LONGEST_NAME = 1024  # letters


def check_file(path: Path, expected: str) -> None:
    """Raises UserError if there is no file, or none that can be opened and read. expected: what it should be"""
    try:
        open_regular(path).close()
    except UserError:  # which is a ValueError
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: there is no such file; expected {expected}") from None
    except (OSError, ValueError) as error:  # no right to read it, or a name that no file can have
        raise UserError(f"{path}: cannot be opened ({error}); expected {expected}") from error


def check_features(features: dict[str, int], source: object) -> None:
    """Raises UserError for a modality whose steps have no features, or more than any network takes.

    features: modality -> F; source: what holds them, for the message
    """
    for m, size in features.items():
        if not 1 <= size <= MOST_FEATURES:
            raise UserError(
                f"{source}: {shown(m, 80)} has {size} features for each step, expected 1 to {MOST_FEATURES}"
            )


def finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns values as float32 with 0 for those that nothing can be computed with, and the number of these.

    They are NaN, infinite (MOSEI's audio has -inf), or beyond 1e18, whose squares are infinite in float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 is infinite, and counted as such
        values = values.astype(np.float32)
        bad = ~(np.abs(values) <= LARGEST_FEATURE)
    values[bad] = 0
    return values, int(bad.sum())


def checked_scores(
    scores: np.ndarray, names: Sequence[str], source: object, clip: bool = False
) -> tuple[np.ndarray, int]:
    """Returns scores as float32, and how many of them were beyond [-3, 3] and have been clipped.

    scores: numbers [n]; names: [n], of what they are the scores of; source: what holds them, for the message
    clip: whether to clip instead of to refuse

    Raises UserError for the first number that is no score: NaN, or beyond [-3, 3] without `clip`, or if the scores are
        clearly of another scale.
    """
    scores = scores.astype(np.float64)  # the least integer of its type has no absolute value in it
    beyond = np.abs(scores) > LARGEST_SCORE
    wrong = np.flatnonzero(np.isnan(scores) if clip else beyond | np.isnan(scores))
    advice = _of_another_scale(scores)
    if len(wrong) == 0 and not (advice and beyond.any()):
        return np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE).astype(np.float32), int(beyond.sum())
    first = wrong[0] if len(wrong) else int(np.argmax(beyond))
    count = max(len(wrong), int(beyond.sum())) - 1
    others = f" ({count} more labels are wrong)" if count > 0 else ""
    if not advice and np.isnan(scores[first]):
        advice = "leave samples without a label out"
    raise UserError(
        f"{source}: the label of {shown(names[first], 80)} is {scores[first]:g}, expected one in [-3, 3]{others}; "
        f"{advice or 'gmd convert --clip-scores takes what is beyond for -3 or 3'}"
    )


def _of_another_scale(scores: np.ndarray) -> str | None:
    """Returns what to do with scores that look like classes or per cent; None if they do not."""
    finite_scores = scores[np.isfinite(scores)]
    if not len(finite_scores) or np.abs(finite_scores).max() <= LARGEST_SCORE:
        return None
    if finite_scores.min() >= 0 and finite_scores.max() <= 6 and (finite_scores == np.round(finite_scores)).all():
        return "they look like the classes 0 to 6: take 3 off each"
    if 10 < np.abs(finite_scores).max() <= 100:
        return "they look like per cent: divide, so that the strongest sentiment is 3"
    return None


def score_scale_notes(data: SequenceData, source: object) -> list[str]:
    """Returns a note for the user if the scores of a data set are on CH-SIMS's scale.

    source: what holds them, for the message
    Raises UserError if no score is negative: the scores are classes from 0 on then, or go from 0 to 1.
    """
    scores = np.concatenate([np.ravel(sample.target) for samples in data.splits.values() for sample in samples])
    if len(np.unique(scores)) > 1 and scores.min() >= 0:
        raise UserError(
            f"{source}: no label is negative, they go from {scores.min():g} to {scores.max():g}; expected scores from "
            "-3 to 3, as MOSI's and MOSEI's, or from -1 to 1, as CH-SIMS's, of which 0 is neutral: shift them"
        )
    if data.largest_score == LARGEST_SCORE:
        return []
    return ["no score is beyond [-1, 1]: taken for CH-SIMS's scale, so scored with Acc-3 and Acc-5, not with Acc-7"]


def check_splits(splits: dict[str, list[Sample]], source: object) -> None:
    """Raises UserError for an empty split, and for names: of two samples, as one may be trained on and tested, or none.

    source: what holds them, for the message
    """
    owner: dict[str, str] = {}
    for split in SPLITS:
        if not splits[split]:
            sizes = ", ".join(f"{name}: {len(samples)}" for name, samples in splits.items())
            raise UserError(f"{source}: the {split} split is empty ({sizes} samples), expected at least one sample")
        for sample in splits[split]:
            check_name(sample.name, source)
            if sample.name in owner:
                raise UserError(
                    f"{source}: two samples are called {shown(sample.name, 80)}, in {owner[sample.name]} and in "
                    f"{split}; what is trained on must not be tested on, so names have to be unique"
                )
            owner[sample.name] = split


def check_name(name: str, source: object) -> None:
    """Raises UserError for a name that no table could hold: none, one without end, or one that is no text.

    source: what holds it, for the message
    """
    if not name or len(name) > LONGEST_NAME:
        raise UserError(f"{source}: the name {shown(name, 80)!r} has {len(name)} letters, expected 1 to {LONGEST_NAME}")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UserError(f"{source}: the name {shown(ascii(name), 80)} holds halves of letters, which are no text")


def replaced_notes(replaced: dict[str, int]) -> list[str]:
    """Returns notes for the user of what `finite` replaced. replaced: modality -> how many values were replaced"""
    return [
        f"{m}: {count} values that are NaN, infinite or beyond 1e18 are replaced by 0"
        for m, count in replaced.items()
        if count
    ]


def clipped_notes(clipped: int) -> list[str]:
    """Returns a note for the user if `checked_scores` clipped any. clipped: how many"""
    return [f"{clipped} scores beyond [-3, 3] are clipped to it"] if clipped else []
