"""What every reader of sequences checks and mends: numbers that are not finite, splits, names."""

from pathlib import Path

import numpy as np

from gmd.data import SPLITS
from gmd.data.sequences.samples import Sample
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
