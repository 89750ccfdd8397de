"""Spoken and written digits: recordings and images of the same digit, paired.

The recordings are the Free Spoken Digit Dataset's (Jackson et al., 2018), the images scikit-learn's (the test part of
UCI's optical digits, Alpaydin and Kaynak, 1998). Nobody wrote what they said here: the pairing is synthetic.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmd.data import SPLITS
from gmd.data.log_mel import log_mel
from gmd.data.sequences.checks import check_file, check_splits
from gmd.data.sequences.npz import Arrays, check_arrays, open_npz
from gmd.data.sequences.samples import Sample, SequenceData
from gmd.errors import UserError

RATE = 8000  # samples per second
MELS = 32
CLASSES = tuple("0123456789")
TESTED = 5  # recordings 0 to 4 of each speaker and digit are tested on: the data set's own split
HELD_OUT = 9  # one of so many training recordings is held out for validation
_ARRAYS = {"waveform": ("i", 1), "offset": ("iu", 1), "digit": ("iu", 1), "speaker": ("U", 1), "index": ("iu", 1)}
_PARTS = 4  # test and validation get at most a quarter of a digit's images each


def read_digits(path: str | Path, seed: int = 0) -> SequenceData:
    """Pairs every recording with an image of its digit: ten classes, one target for a sample.

    audio: log-mel features [frames, 32]; image: its 8 rows of 8 pixels, in [0, 1].
    path: a .npz with `waveform` int16, all recordings end to end at 8 kHz; `offset` [n + 1], where each begins;
        `digit`, `index` int [n]; `speaker` str [n]
    seed: draws the recordings that validate (a ninth of the training part, stratified by digit), the images of each
        split, and the pairs
    No image is in two splits. Where a split has fewer images of a digit than recordings, images are used again.
    Raises UserError: no such file, arrays that are missing, of another kind, or that do not belong together.
    """
    from sklearn.datasets import load_digits

    path = Path(path)
    check_file(path, "a .npz of spoken digits")
    with open_npz(path) as arrays:
        check_recordings(path, arrays)
        return _paired(path, arrays, load_digits(), seed)


def _paired(path: Path, arrays: Arrays, images: Any, seed: int) -> SequenceData:
    """Pairs recordings that are checked with scikit-learn's images."""
    rng = np.random.default_rng(seed)
    parts = split_recordings(arrays["digit"], arrays["index"], rng)
    chosen = choose_images(arrays["digit"], parts, images.target, rng)

    rows = torch.from_numpy(images.images.astype(np.float32) / 16)
    samples = [
        Sample(name, {"audio": features, "image": rows[image]}, torch.tensor(int(digit)))
        for name, features, image, digit in zip(
            recording_names(arrays), _features(arrays), chosen, arrays["digit"], strict=True
        )
    ]
    splits = {split: [samples[i] for i in members] for split, members in parts.items()}
    check_splits(splits, path)
    return SequenceData({"audio": MELS, "image": 8}, CLASSES, False, splits, _notes(parts, chosen))


def check_recordings(path: Path, arrays: Arrays) -> None:
    """Raises UserError for arrays that are missing, of another kind, or that do not belong together."""
    check_arrays(path, arrays, _ARRAYS, ("digit", "speaker", "index"))
    offset, waveform = arrays["offset"], arrays["waveform"]
    if waveform.dtype != np.int16:
        raise UserError(f"{path}: waveform is {waveform.dtype}, expected int16")
    if len(offset) != len(arrays["digit"]) + 1 or offset[0] != 0 or offset[-1] != len(waveform):
        raise UserError(
            f"{path}: offset has {len(offset)} entries for {len(arrays['digit'])} recordings and {len(waveform)} "
            "samples of sound, expected one more than recordings, from 0 to the end of the sound"
        )
    # before any is made an int64 or taken from another, by which it could wrap
    if (offset < 0).any() or (offset > len(waveform)).any():
        raise UserError(f"{path}: offset goes from {offset.min()} to {offset.max()}, expected 0 to {len(waveform)}")
    if (arrays["index"] < 0).any():
        raise UserError(f"{path}: index has {arrays['index'].min()}, expected 0 or more")
    offset, names = offset.astype(np.int64), recording_names(arrays)
    if len(short := np.flatnonzero(np.diff(offset) < 1)):
        raise UserError(f"{path}: recording {names[short[0]]} has no sound, its length is {np.diff(offset)[short[0]]}")
    if len(wrong := np.flatnonzero((arrays["digit"] < 0) | (arrays["digit"] > 9))):
        raise UserError(f"{path}: recording {names[wrong[0]]} is of digit {arrays['digit'][wrong[0]]}, expected 0 to 9")


def recording_names(arrays: Arrays) -> list[str]:
    """Returns the names of the recordings, as the data set calls its files: digit_speaker_index."""
    each = zip(arrays["digit"], arrays["speaker"], arrays["index"], strict=True)
    return [f"{digit}_{speaker}_{index}" for digit, speaker, index in each]


def split_recordings(digits: np.ndarray, index: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Splits the recordings, drawing those that validate: split -> the numbers of its recordings, ascending."""
    held_out = []
    for digit in range(10):
        training = np.flatnonzero((digits == digit) & (index >= TESTED))
        held_out.append(rng.permutation(training)[: round(len(training) / HELD_OUT)])
    validation = np.sort(np.concatenate(held_out))
    train = np.setdiff1d(np.flatnonzero(index >= TESTED), validation)
    return {"train": train, "validation": validation, "test": np.flatnonzero(index < TESTED)}


def choose_images(
    digits: np.ndarray, parts: dict[str, np.ndarray], written: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Chooses an image of its digit for each recording; test and validation have their own images, training the rest.

    digits: int [n], of the recordings; parts: split -> the numbers of its recordings; written: int, of the images
    returns int64 [n], the number of each recording's image
    """
    chosen = np.empty(len(digits), np.int64)
    for digit in range(10):
        free = rng.permutation(np.flatnonzero(written == digit))
        most = len(free) // _PARTS
        for split in reversed(SPLITS):
            members = parts[split][digits[parts[split]] == digit]
            own = free if split == "train" else free[: min(len(members), most)]
            free = free[len(own) :]
            chosen[members] = rng.permutation(np.resize(own, len(members)))
    return chosen


def _features(arrays: Arrays) -> list[Tensor]:
    """Returns the log-mel features of each recording, float32 [frames, 32]."""
    sound = torch.from_numpy(arrays["waveform"].astype(np.float32) / 2**15)
    lengths = np.diff(arrays["offset"].astype(np.int64)).tolist()
    return [log_mel(recording, RATE, MELS) for recording in sound.split(lengths)]


def _notes(parts: dict[str, np.ndarray], chosen: np.ndarray) -> tuple[str, ...]:
    """Returns what the user should know of the data. chosen: the number of each recording's image"""
    images = {split: len(set(chosen[members])) for split, members in parts.items()}
    used = ", ".join(f"{split} {len(parts[split])} recordings with {images[split]} images" for split in SPLITS)
    return (
        "the pairing of recordings with images is synthetic: by digit, at random",
        f"images are used again where they are fewer than the recordings, never in another split: {used}",
        "the test recordings are the data set's own; all splits share its speakers, and perhaps writers of the images",
    )
