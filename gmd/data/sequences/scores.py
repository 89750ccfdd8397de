"""What scores have to be: sentiment in [-3, 3], brought there if that is asked for, or numbers of any range."""

from collections.abc import Sequence

import numpy as np

from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import LARGEST_SCORE, SequenceData
from gmd.errors import UserError, shown

LARGEST_NUMBER = 1e18  # what is beyond has no square in float32
_ADVICE = (
    "--clip-scores takes what is beyond for -3 or 3, --scale-scores LOW HIGH the ends of another scale for -3 and 3"
)


def checked_scores(
    scores: np.ndarray, names: Sequence[str], source: object, reading: Reading
) -> tuple[np.ndarray, int]:
    """Returns scores as float32, and how many of them were beyond [-3, 3] and have been clipped.

    scores: numbers [n]; names: [n], of what they are the scores of; source: what holds them, for the message
    reading: whether they are sentiment, and whether they are brought to its scale first, and clipped to it

    Raises UserError for the first number that is no score: NaN, or beyond [-3, 3] where nothing is clipped, or if the
        scores are clearly of another scale. Of numbers that are no sentiment: NaN, or beyond 1e18.
    """
    scores = scores.astype(np.float64)  # the least integer of its type has no absolute value in it
    if reading.numbers:
        _check_numbers(scores, names, source)
        return scores.astype(np.float32), 0
    advice = _of_another_scale(scores) if reading.scale_scores is None else None
    scores = _scaled(scores, reading)
    beyond = np.abs(scores) > LARGEST_SCORE
    wrong = np.isnan(scores) if reading.clip_scores and not advice else beyond | np.isnan(scores)
    if not wrong.any():
        return np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE).astype(np.float32), int(beyond.sum())
    first = int(np.argmax(wrong))
    others = f" ({wrong.sum() - 1} more labels are wrong)" if wrong.sum() > 1 else ""
    if not advice and np.isnan(scores[first]):
        advice = "leave samples without a label out"
    scaled = "" if reading.scale_scores is None else " on the scale of --scale-scores"
    raise UserError(
        f"{source}: the label of {shown(names[first], 80)} is {scores[first]:g}{scaled}, expected one in [-3, 3]"
        f"{others}; {advice or _ADVICE}. If it is no sentiment: gmd train sequences, and gmd convert --task sequences"
    )


def _scaled(scores: np.ndarray, reading: Reading) -> np.ndarray:
    """Returns scores with the ends of the scale that they are on at -3 and 3; as they are if none is said."""
    if reading.scale_scores is None:
        return scores
    low, high = reading.scale_scores
    with np.errstate(over="ignore"):
        return LARGEST_SCORE * (2 * (scores - low) / (high - low) - 1)


def _check_numbers(scores: np.ndarray, names: Sequence[str], source: object) -> None:
    """Raises UserError for a number that nothing can be computed with."""
    wrong = np.flatnonzero(~(np.abs(scores) <= LARGEST_NUMBER))
    if len(wrong):
        others = f" ({len(wrong) - 1} more labels are wrong)" if len(wrong) > 1 else ""
        raise UserError(
            f"{source}: the label of {shown(names[wrong[0]], 80)} is {scores[wrong[0]]:g}, expected a number of at "
            f"most 1e18{others}; leave samples without a label out"
        )


def _of_another_scale(scores: np.ndarray) -> str | None:
    """Returns what to do with scores that look like classes or per cent; None if they do not."""
    finite_scores = scores[np.isfinite(scores)]
    if not len(finite_scores) or np.abs(finite_scores).max() <= LARGEST_SCORE:
        return None
    if finite_scores.min() >= 0 and finite_scores.max() <= 6 and (finite_scores == np.round(finite_scores)).all():
        return "they look like the classes 0 to 6, which --scale-scores 0 6 takes for -3 to 3"
    if 10 < np.abs(finite_scores).max() <= 100:
        low = 0 if finite_scores.min() >= 0 else -100
        return f"they look like per cent, which --scale-scores {low} 100 takes for -3 to 3"
    return None


def score_notes(data: SequenceData, source: object) -> list[str]:
    """Returns a note for the user if the sentiment of a data set is on CH-SIMS's scale.

    source: what holds them, for the message
    Raises UserError if no score is negative: the scores are classes from 0 on then, or go from 0 to 1.
    """
    scores = np.concatenate([np.ravel(sample.target) for samples in data.splits.values() for sample in samples])
    if len(np.unique(scores)) > 1 and scores.min() >= 0:
        raise UserError(
            f"{source}: no label is negative, they go from {scores.min():g} to {scores.max():g}; expected scores from "
            "-3 to 3, as MOSI's and MOSEI's, or from -1 to 1, as CH-SIMS's, of which 0 is neutral; --scale-scores LOW "
            "HIGH takes the ends of another scale for -3 and 3"
        )
    if data.largest_score == LARGEST_SCORE:
        return []
    return ["no score is beyond [-1, 1]: taken for CH-SIMS's scale, so scored with Acc-3 and Acc-5, not with Acc-7"]


def changed_notes(clipped: int, reading: Reading) -> list[str]:
    """Returns notes for the user of what was done to scores. clipped: how many of them were clipped"""
    notes = [f"{clipped} scores beyond [-3, 3] are clipped to it"] if clipped else []
    if reading.scale_scores is not None:
        low, high = reading.scale_scores
        notes.append(f"scores from {low:g} to {high:g} are taken for -3 to 3")
    return notes
