"""Pickles of tuples, a sample each, in the layouts of MISA (Hazarika et al., 2020) and MAG-BERT (Rahman et al., 2020).

A sample is ((words, vision, audio), score, name) or ((words, vision, audio, actual words), score, name): words as text
or as numbers of a vocabulary [L], vision and audio [L, F], the score [1, 1] or a number. MAG-BERT has one pickle,
{"train": samples, "dev": samples, "test": samples}; MISA has a folder with `train.pkl`, `dev.pkl` and `test.pkl`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gmd.data import SPLITS
from gmd.data.sequences.gathered import Gathered
from gmd.data.sequences.hashed_words import WORDS_NOTE, word_vectors
from gmd.data.sequences.nested_lists import array_of
from gmd.data.sequences.not_read import NotRead, first_not_read, told
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, SequenceData
from gmd.errors import UserError

_PARTS = dict(zip(SPLITS, ("train", "dev", "test"), strict=True))
_OWN_NAMES = ("valid", "validation")  # of MAG-BERT's dev, which some call so


def is_misa_folder(folder: Path) -> bool:
    """Returns whether a folder has a pickle for each split."""
    return all((folder / f"{part}.pkl").is_file() for part in _PARTS.values())


def is_word_tuples(content: Any) -> bool:
    """Returns whether a pickle held a list of samples for each split."""
    return isinstance(content, dict) and all(isinstance(part, list) for part in _parts(content).values())


def read_misa_folder(folder: Path, reading: Reading) -> SequenceData:
    """Reads a folder of MISA. Raises UserError as `read_pickle` and `tuples_from`."""
    return tuples_from(folder, {part: read_pickle(folder / f"{part}.pkl") for part in _PARTS.values()}, reading)


def tuples_from(path: Path, content: dict, reading: Reading) -> SequenceData:
    """Makes lists of samples sequences. Text becomes vectors of its words, see `word_vectors`.

    path: the file or the folder, for error messages
    Raises UserError: samples that are no such tuples, what is no array of numbers, scores that are none, an empty
        split, a name that is there twice.
    """
    gathered = Gathered(path, SENTIMENT_MODALITIES)
    for split, samples in _parts(content).items():
        if not isinstance(samples, list):
            raise UserError(f"{path}: {split} is {told(samples)}, expected a list of samples")
        for number, sample in enumerate(samples):
            _add(gathered, split, f"{path}: sample {number} of {split}", f"{split}_{number}", sample)
    return gathered.data(reading, notes=(WORDS_NOTE,))


def _parts(content: dict) -> dict[str, Any]:
    """Returns what a pickle has for each split, None where it has nothing."""
    dev = next((content[name] for name in ("dev", *_OWN_NAMES) if name in content), None)
    return {"train": content.get("train"), "validation": dev, "test": content.get("test")}


def _add(gathered: Gathered, split: str, what: str, number: str, sample: Any) -> None:
    """Adds one sample. Raises UserError if it is no tuple of the kinds above.

    what: the sample, for error messages; number: its name if it has none
    """
    if not (isinstance(sample, tuple | list) and len(sample) in (2, 3, 4) and isinstance(sample[0], tuple | list)):
        raise UserError(f"{what} is {told(sample)}, expected ((words, vision, audio), score, name)")
    inputs, score, *rest = sample
    target = _array(f"{what} score", score)
    if target.size != 1 or target.dtype.kind not in "biuf":
        raise UserError(f"{what} score is {target.dtype} {list(target.shape)}, expected a number")
    name = rest[0] if rest and isinstance(rest[0], str) and rest[0] else number
    gathered.add(split, name, _values(what, inputs), target.reshape(-1)[0])


def _values(what: str, inputs: tuple | list) -> dict[str, np.ndarray]:
    """Returns the sequences of a sample, modality -> [L, F]. Raises UserError for what is none."""
    if len(inputs) not in (3, 4):
        raise UserError(f"{what} has {len(inputs)} inputs, expected words, vision and audio (and actual words)")
    words, vision, audio = (_array(f"{what} {name}", value) for name, value in zip(_INPUTS, inputs, strict=False))
    if len(inputs) == 4:
        words = _array(f"{what} actual words", inputs[3])
    if words.ndim != 1 or (words.size and words.dtype.kind not in "USOiu"):
        raise UserError(f"{what} words are {words.dtype} {list(words.shape)}, expected text or whole numbers [L]")
    return {"text": word_vectors(_words(what, words)), "audio": audio, "vision": vision}


_INPUTS = ("words", "vision", "audio")


def _array(what: str, value: Any) -> np.ndarray:
    """Makes an entry an array. Raises UserError for one that cannot be, or that was not read."""
    if isinstance(value, NotRead):
        raise UserError(f"{what}: refused, since it {value.asks}")
    array = array_of(what, value)
    if unread := first_not_read(array):
        raise UserError(f"{what}: refused, since it {unread.asks}")
    return array


def _words(what: str, words: np.ndarray) -> list[Any]:
    """Returns words as Python's values. Raises UserError for anything else among them."""
    found = words.tolist()
    if odd := [word for word in found if not isinstance(word, str | bytes | int)]:
        raise UserError(f"{what} has {told(odd[0])} among its words, expected text")
    return found
