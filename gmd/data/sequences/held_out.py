"""Holding training data out for validation, where a file says only what is trained and what is tested on."""

from collections.abc import Mapping

import numpy as np

HELD_OUT = 6  # one of so many is held out


def hold_out(split: Mapping[str, str], seed: int) -> dict[str, list[str]]:
    """Chooses the members of each split: those of test as they are, and of the others about a sixth to validate.

    What is drawn is whole: of a video whose utterances tell of each other, all or nothing.

    split: name -> train or test; returns train, validation and test -> names, in the given order
    """
    training = [name for name, part in split.items() if part == "train"]
    count = min(max(1, round(len(training) / HELD_OUT)), len(training))
    drawn = {str(name) for name in np.random.default_rng(seed).permutation(training)[:count]}
    return {
        "train": [name for name in training if name not in drawn],
        "validation": [name for name in training if name in drawn],
        "test": [name for name, part in split.items() if part == "test"],
    }
