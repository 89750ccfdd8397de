"""The pickle of IEMOCAP's dialogues that DialogueRNN (Majumder et al., AAAI 2019) and its followers train on.

A tuple of nine: the utterances of each dialogue, its speakers, labels, features of text, audio and vision, sentences,
all of them dictionaries from the dialogue's name to a list, then the dialogues that train and those that test. A
sequence is a dialogue, with one feature vector and one of six classes for each utterance.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gmd.data.sequences.gathered import Gathered
from gmd.data.sequences.held_out import hold_out
from gmd.data.sequences.nested_lists import array_of
from gmd.data.sequences.not_read import first_not_read, told
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, SequenceData
from gmd.errors import UserError, shown

CLASSES = ("happy", "sad", "neutral", "angry", "excited", "frustrated")  # the file's numbers 0 to 5
_ENTRIES = 9
_LABELS, _FEATURES = 2, dict(zip(SENTIMENT_MODALITIES, (3, 4, 5), strict=True))
_TRAIN, _TEST = 7, 8


def is_dialogues(content: Any) -> bool:
    """Returns whether a pickle held a tuple of so many dictionaries."""
    return isinstance(content, tuple | list) and len(content) > _LABELS and isinstance(content[_LABELS], dict)


def dialogues_from(path: Path, content: Any, reading: Reading) -> SequenceData:
    """Makes a pickle of dialogues sequences with a class for each utterance.

    path: the file, for error messages
    reading: its seed draws the dialogues that are held out for validation, about one in six of those that train
    Raises UserError: another number of entries, such as MELD's; dialogues that have no labels or features, in both
        lists or in none; labels that are no classes; other numbers of features or labels than utterances.
    """
    if len(content) != _ENTRIES or not all(isinstance(content[place], dict) for place in _FEATURES.values()):
        raise UserError(
            f"{path}: is a tuple of {len(content)}, expected IEMOCAP's nine, of which the third to the sixth are "
            "labels, text, audio and vision by dialogue; MELD's, without vision, are not read"
        )
    split = {name: "train" for name in _listed(path, content[_TRAIN])}
    for name in _listed(path, content[_TEST]):
        if split.setdefault(name, "test") == "train":
            raise UserError(f"{path}: {shown(name, 80)} trains and tests; what is known says nothing of what is new")
    chosen = hold_out(split, reading.seed)
    gathered = Gathered(path, SENTIMENT_MODALITIES)
    for part, names in chosen.items():
        for name in names:
            values = {m: _array(path, m, name, content[place], "biuf", 2) for m, place in _FEATURES.items()}
            gathered.add(part, name, values, _classes(path, name, content[_LABELS]))
    held_out = f"validation: {len(chosen['validation'])} of {len(chosen['validation']) + len(chosen['train'])}"
    notes = (f"{held_out} training dialogues, whole, drawn by seed {reading.seed}", "a sequence is a dialogue")
    return gathered.data(reading, CLASSES, notes)


def _listed(path: Path, names: Any) -> list[str]:
    """Returns the names of a list of dialogues, sorted, as sets have no order. Raises UserError for what is no list."""
    if not isinstance(names, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: has {told(names)} for the dialogues that train or test, expected a list of names")
    return sorted(set(names))


def _array(path: Path, what: str, name: str, entries: dict, kinds: str, axes: int) -> np.ndarray:
    """Returns what a dialogue has of one kind. Raises UserError if it is absent, or no such array."""
    place = f"{path}: {what} of {shown(name, 80)}"
    if name not in entries:
        raise UserError(f"{place} is not there")
    array = array_of(place, entries[name])
    if unread := first_not_read(array):
        raise UserError(f"{place}: refused, since it {unread.asks}")
    if array.dtype.kind not in kinds or array.ndim != axes:
        raise UserError(f"{place} is {array.dtype} {list(array.shape)}, expected numbers with {axes} axes")
    return array


def _classes(path: Path, name: str, labels: dict) -> np.ndarray:
    """Returns the class of each utterance of a dialogue. Raises UserError for a number that is none."""
    found = _array(path, "the labels", name, labels, "iu", 1)
    if len(wrong := found[(found < 0) | (found >= len(CLASSES))]):
        raise UserError(f"{path}: {shown(name, 80)} has class {wrong[0]}, expected 0 to {len(CLASSES) - 1}")
    return found
