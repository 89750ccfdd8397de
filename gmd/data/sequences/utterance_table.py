"""The utterance table: one feature vector for each utterance and modality; a sequence is a video.

Made for the features of bc-LSTM (Poria et al., ACL 2017; declare-lab/multimodal-deep-learning), for which see
`read_utterances`. Not to be compared with results on MOSI's words: say "MOSI, utterance features".
"""

from pathlib import Path

import numpy as np
import torch

from gmd.data.sequences.checks import (
    check_features,
    check_splits,
    finite,
    replaced_notes,
)
from gmd.data.sequences.held_out import hold_out
from gmd.data.sequences.npz import Arrays, check_arrays
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, Sample, SequenceData
from gmd.data.sequences.scores import changed_notes, checked_scores
from gmd.errors import UserError

SPLIT = "bclstm_split"
_EXPECTED = {
    **{"video": ("U", 1), "utt": ("iu", 1), "label": ("f", 1), SPLIT: ("U", 1)},
    **{modality: ("f", 2) for modality in SENTIMENT_MODALITIES},
}


def is_utterances(arrays: Arrays) -> bool:
    """Returns whether these are the arrays of an utterance table."""
    return "video" in arrays and "utt" in arrays


def read_utterances(path: Path, arrays: Arrays, reading: Reading) -> SequenceData:
    """Reads an utterance table as videos, with a target for each utterance.

    arrays: `video` str [n] and `utt` int [n], whose utterance, and its number in the video; `text`, `audio` and
        `vision` float [n, F]; `label` float [n] in [-3, 3]; `bclstm_split` str [n], "train" or "test". Others are not
        looked at, such as `split`, the standard split: the extractors of text and vision were trained on the training
        part of `bclstm_split`, and a good part of that is tested on in the other.
    reading: its seed draws the training videos that are held out for validation, about one in six; whole videos, since
        the utterances of one person in one room tell of each other
    Raises UserError: arrays that are missing, of another kind or of different lengths, labels that are no scores,
        an unknown or empty split, a video in both splits, without a name, or with two utterances of one number.
    """
    check_arrays(path, arrays, _EXPECTED, tuple(_EXPECTED))
    videos, numbers, split = arrays["video"], arrays["utt"], arrays[SPLIT]
    names = [f"utterance {number} of video {video}" for video, number in zip(videos, numbers, strict=True)]
    labels, clipped = checked_scores(arrays["label"], names, path, reading)
    _check_videos(path, videos, numbers, split, names)

    check_features({m: arrays[m].shape[1] for m in SENTIMENT_MODALITIES}, path)
    values, replaced = {}, {}
    for m in SENTIMENT_MODALITIES:
        values[m], replaced[m] = finite(arrays[m])
    # utterance 10 comes after 9: the file's order is that of the names, in which it comes after 1
    order = np.lexsort((numbers, videos))
    rows = {str(video): order[videos[order] == video] for video in np.unique(videos)}
    chosen = hold_out({video: str(split[members[0]]) for video, members in rows.items()}, reading.seed)
    splits = {
        name: [_sample(video, rows[video], values, labels) for video in members] for name, members in chosen.items()
    }
    check_splits(splits, path)
    held_out, kept = len(splits["validation"]), len(splits["train"])
    notes = [
        f"validation: {held_out} of the {held_out + kept} training videos, whole, drawn by seed {reading.seed}",
        f"split: {SPLIT}, the only one in which no feature extractor was trained on what is tested; "
        "results are for utterance features, not to be set beside those for MOSI's words",
        *replaced_notes(replaced),
        *changed_notes(clipped, reading),
    ]
    return SequenceData({m: values[m].shape[1] for m in values}, None, True, splits, tuple(notes))


def _check_videos(path: Path, videos: np.ndarray, numbers: np.ndarray, split: np.ndarray, names: list[str]) -> None:
    """Raises UserError for a video without a name, of an unknown split or of two, or with a number twice."""
    owner: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    for video, number, part, name in zip(videos, numbers, split, names, strict=True):
        if not video:
            raise UserError(f"{path}: utterance {number} belongs to a video without a name")
        if part not in ("train", "test"):
            raise UserError(f"{path}: {name} is in {SPLIT} {str(part)!r}, expected 'train' or 'test'")
        if owner.setdefault(video, part) != part:
            raise UserError(f"{path}: video {video} is in train and in test; an utterance gives the others away")
        if (video, number) in seen:
            raise UserError(f"{path}: two rows are {name}; their order would be anyone's guess")
        seen.add((video, number))


def _sample(video: str, rows: np.ndarray, values: Arrays, labels: np.ndarray) -> Sample:
    """Returns the sample of one video, of whose utterances `rows` are the rows in the table, in order."""
    return Sample(video, {m: torch.from_numpy(values[m][rows]) for m in values}, torch.from_numpy(labels[rows]))
