"""A folder of computational sequences of CMU's MultimodalSDK (`.csd`): one of labels, and one for each modality.

A `.csd` is an HDF5 file with one group, of any name, in which `data` has a group for each video or segment, and in it
`features` [n, F] and `intervals` [n, 2], in seconds. The labels have an interval for each segment, or, once the SDK has
aligned the sequences, an entry VIDEO[i] for each, which the modalities have then as well.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmd.data.sequences.gathered import Gathered
from gmd.data.sequences.hashed_words import WORDS_NOTE, word_vectors
from gmd.data.sequences.hdf5 import Hdf5, open_hdf5
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SequenceData
from gmd.data.text_files import read_utf8
from gmd.errors import UserError, shown

# words in the names of the SDK's sequences that tell the modality; the first that fits, in this order
_WORDS = {
    "text": ("word", "glove", "bert", "text", "phone"),
    "audio": ("covarep", "opensmile", "audio", "acoustic", "mfcc", "compare"),
    "vision": ("facet", "openface", "visual", "vision", "video"),
}
_LABELS = ("label", "opinion", "sentiment")
_SPLITS = {"train": "train", "validation": "valid", "test": "test"}


class _Sequence:
    """One `.csd` that is open. Raises UserError if it has no entries.

    Attributes:
        path: of the file.
        entries: the names of what it has.
        words: whether words have been read, in the place of numbers.
    """

    def __init__(self, path: Path, file: Hdf5):
        self.path, self._file, self.words = path, file, False
        roots = [name for name in file.names() if file.names(f"{name}/data")]
        if len(roots) != 1:
            raise UserError(f"{path}: has {len(roots)} groups with data, expected one, with features and intervals")
        self._root = f"{roots[0]}/data"
        self.entries = set(file.names(self._root))
        self._last: tuple[str, np.ndarray] = ("", np.empty(0))  # segments of a video come one after the other

    def features(self, entry: str) -> np.ndarray:
        """Returns what an entry has, [n, F]; of words their vectors."""
        if entry != self._last[0]:
            found = self._file.array(f"{self._root}/{entry}/features", "biufS", (1, 2))
            self.words = self.words or found.dtype.kind == "S"
            found = word_vectors(found.reshape(-1).tolist()) if found.dtype.kind == "S" else found
            self._last = (entry, found[:, None] if found.ndim == 1 else found)
        return self._last[1]

    def intervals(self, entry: str) -> np.ndarray:
        """Returns when each step of an entry begins and ends, [n, 2]."""
        found = self._file.array(f"{self._root}/{entry}/intervals", "iuf", (2,))
        if found.shape[1:] != (2,):
            raise UserError(f"{self.path}: intervals of {shown(entry, 80)} are {list(found.shape)}, expected [n, 2]")
        return found


class _Segment(NamedTuple):
    """What is one sample: of an entry the steps between two times, or all of them if there are none."""

    name: str
    video: str
    entry: str
    times: tuple[float, float] | None
    score: float


def is_csd_folder(folder: Path) -> bool:
    """Returns whether a folder has computational sequences."""
    return any(folder.glob("*.csd"))


def read_csd_folder(folder: Path, reading: Reading) -> SequenceData:
    """Reads a sample for each segment of the labels, with the steps of each modality whose middle lies in it.

    The videos of the splits stand in `train.txt`, `valid.txt` and `test.txt` beside the files, a name a line, as the
    SDK's standard folds have them. Of labels with several numbers the first is the score: MOSEI's sentiment.
    Raises UserError: two files for one modality, none for the labels or for any modality; no lists of videos, or a
        video that is in two; what is no computational sequence.
    """
    splits = _splits(folder)
    files = _files(folder)
    with ExitStack() as stack:
        opened = {what: _Sequence(path, stack.enter_context(open_hdf5(path))) for what, path in files.items()}
        labels = opened.pop("labels")
        gathered = Gathered(folder, list(opened))
        found, unlisted = set(), set()
        for segment in _segments(labels):
            if segment.video not in splits:
                unlisted.add(segment.video)
                continue
            found.add(segment.video)
            values = {m: part for m, sequence in opened.items() if (part := _steps(sequence, segment)) is not None}
            gathered.add(splits[segment.video], segment.name, values, segment.score)
    notes = [f"{what}: {path.name}" for what, path in files.items()]
    notes += [WORDS_NOTE] if any(sequence.words for sequence in opened.values()) else []
    notes += [f"{len(unlisted)} videos with labels are in no list and are left out"] if unlisted else []
    lost = splits.keys() - found
    notes += [f"{len(lost)} of the listed videos have no labels"] if lost else []
    return gathered.data(reading, notes=notes)


def _files(folder: Path) -> dict[str, Path]:
    """Returns the file of each modality and that of the labels, in this order.

    Raises UserError for two of a kind, for one of no kind, and if there are no labels, or nothing beside them.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.csd")):
        what = _kind(path)
        if what in found:
            raise UserError(f"{path}: is {what}, as {found[what].name} is; leave one of the two in {folder}")
        found[what] = path
    if "labels" not in found or len(found) < 2:
        there = ", ".join(f"{path.name} ({what})" for what, path in found.items())
        raise UserError(f"{folder}: has {there}; expected a .csd with Label in its name, and one for each modality")
    return {what: found[what] for what in (*_WORDS, "labels") if what in found}


def _kind(path: Path) -> str:
    """Returns whether a file has the labels, or which modality. Raises UserError if its name does not tell."""
    name = path.stem.lower()
    if any(word in name for word in _LABELS):
        return "labels"
    if kind := next((m for m, words in _WORDS.items() if any(word in name for word in words)), None):
        return kind
    listed = "; ".join(f"{m}: {', '.join(words)}" for m, words in _WORDS.items())
    raise UserError(f"{path}: its name does not tell its modality; rename it to something with one of {listed}")


def _segments(labels: _Sequence) -> Iterator[_Segment]:
    """Yields the segments of the labels: the entries VIDEO[i], or each interval of a video."""
    for entry in sorted(labels.entries):
        scores = labels.features(entry)
        if not scores.size:
            continue
        if entry.endswith("]") and "[" in entry:
            yield _Segment(entry, entry.rpartition("[")[0], entry, None, float(scores[0, 0]))
            continue
        times = labels.intervals(entry)
        if len(times) != len(scores):
            raise UserError(f"{labels.path}: {shown(entry, 80)} has {len(times)} intervals and {len(scores)} labels")
        for i, ((start, end), score) in enumerate(zip(times.tolist(), scores[:, 0].tolist(), strict=True)):
            yield _Segment(f"{entry}[{i}]", entry, entry, (start, end), score)


def _steps(sequence: _Sequence, segment: _Segment) -> np.ndarray | None:
    """Returns the steps of a modality in a segment, [L, F]; None if it has nothing of it."""
    if segment.times is None or segment.name in sequence.entries:
        entry = segment.name if segment.name in sequence.entries else None
        return sequence.features(entry) if entry else None
    if segment.video not in sequence.entries:
        return None
    values, times = sequence.features(segment.video), sequence.intervals(segment.video)
    if len(times) != len(values):
        what = f"{sequence.path}: {shown(segment.video, 80)}"
        raise UserError(f"{what} has {len(times)} intervals and {len(values)} steps")
    middle = times.astype(np.float64).mean(axis=1)
    return values[(middle >= segment.times[0]) & (middle < segment.times[1])]


def _splits(folder: Path) -> dict[str, str]:
    """Returns the split of each video. Raises UserError for lists that are absent or empty, and for a video in two."""
    splits: dict[str, str] = {}
    for split, name in _SPLITS.items():
        path = folder / f"{name}.txt"
        if not path.exists():
            raise UserError(
                f"{path}: there is no such list; expected train.txt, valid.txt and test.txt, with the names of their "
                "videos, a line each: the standard folds of the SDK"
            )
        for line in filter(None, map(str.strip, read_utf8(path).splitlines())):
            if line in splits:
                raise UserError(f"{path}: {shown(line, 80)} is in {splits[line]} too; what trains must not be tested")
            splits[line] = split
    return splits
