"""IEMOCAP in the layout of MMIN (Zhao et al., ACL 2021) and CGGM: features by utterance, and lists for ten folds.

`A/comparE.h5` (130 features), `V/denseface.h5` (342) and `L/bert_large.h5` (1024) have a data set [L, F] for each
utterance. `A/comparE_mean_std.h5` has, for each fold, `mean` and `std` of audio over what trains in it.
`target/FOLD/trn_int2name.npy` lists the utterances of a split as bytes, [N] or [N, 1], and `trn_label.npy` their
classes, [N] or one-hot [N, C]; `val` and `tst` are the others. A fold tests on one speaker.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gmd.data import SPLITS
from gmd.data.sequences.gathered import Gathered
from gmd.data.sequences.hdf5 import Hdf5, open_hdf5
from gmd.data.sequences.npz import read_npy
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SequenceData
from gmd.errors import UserError, shown

_FILES = {"text": "L/bert_large.h5", "audio": "A/comparE.h5", "vision": "V/denseface.h5"}
_STATISTICS = "A/comparE_mean_std.h5"
_PARTS = dict(zip(SPLITS, ("trn", "val", "tst"), strict=True))
CLASSES = ("angry", "happy", "neutral", "sad")  # MMIN's numbers 0 to 3; excited counts as happy there


def is_mmin_folder(folder: Path) -> bool:
    """Returns whether a folder has features and lists of MMIN."""
    return (folder / "target").is_dir() and any((folder / name).exists() for name in _FILES.values())


def read_mmin_folder(folder: Path, reading: Reading) -> SequenceData:
    """Reads one fold as four classes (or as many as the labels have), audio brought to the fold's mean and deviation.

    reading: its fold is needed
    Raises UserError: no fold, or one that is not there; lists that are absent, of another kind or of different lengths;
        files that are no HDF5; an utterance in two splits.
    """
    lists = _lists(folder, reading)
    labels = {split: _labels(lists / f"{part}_label.npy") for split, part in _PARTS.items()}
    count = 1 + max(int(each.max(initial=0)) for each in labels.values())
    classes = CLASSES if count <= len(CLASSES) else tuple(map(str, range(count)))
    with ExitStack() as stack:
        paths = {m: folder / name for m, name in _FILES.items() if (folder / name).exists()}
        files = {m: stack.enter_context(open_hdf5(path)) for m, path in paths.items()}
        mean, deviation = _statistics(folder, lists.name)
        gathered = Gathered(folder, list(files))
        for split, part in _PARTS.items():
            names = _names(lists / f"{part}_int2name.npy")
            if len(names) != len(labels[split]):
                raise UserError(f"{lists}: {part} lists {len(names)} names and {len(labels[split])} labels")
            for name, label in zip(names, labels[split].tolist(), strict=True):
                gathered.add(split, name, _values(files, name, mean, deviation), label)
    return gathered.data(reading, classes, (f"fold {lists.name} of {folder.name}/target", *_notes(folder, files)))


def _lists(folder: Path, reading: Reading) -> Path:
    """Returns the folder of a fold's lists. Raises UserError if none is asked for, or one that is not there."""
    lists = folder / "target" / str(reading.fold)
    if reading.fold is None or not lists.is_dir():
        there = ", ".join(sorted((each.name for each in lists.parent.iterdir() if each.name.isdigit()), key=int))
        got = "nothing" if reading.fold is None else reading.fold
        raise UserError(f"--fold: got {got}, expected one of {there or 'none'}, the folds in {folder}/target")
    return lists


def _notes(folder: Path, files: Mapping[str, Hdf5]) -> list[str]:
    absent = [name for m, name in _FILES.items() if m not in files]
    raw = "audio" in files and not (folder / _STATISTICS).exists()
    notes = [f"there is no {_STATISTICS}: audio is read as it is"] if raw else []
    return notes + [f"there is no {name}" for name in absent]


def _values(files: Mapping[str, Hdf5], name: str, mean: np.ndarray, deviation: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what the files have of an utterance, which may be absent from any of them."""
    values = {m: file.array(name, "biuf", (2,)) for m, file in files.items() if file.has(name)}
    if "audio" in values and mean.size:
        if values["audio"].shape[1:] != mean.shape:
            raise UserError(
                f"{_FILES['audio']}: {shown(name, 80)} has {values['audio'].shape[1]} features, expected {mean.size}, "
                f"as {_STATISTICS} has"
            )
        values["audio"] = (values["audio"] - mean) / deviation
    return values


def _statistics(folder: Path, fold: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of audio in a fold, float64 [F]; without the file nothing, [0]."""
    path = folder / _STATISTICS
    if not path.exists():
        return np.empty(0), np.empty(0)
    with open_hdf5(path) as file:
        mean, deviation = (file.array(f"{fold}/{key}", "f", (1,)).astype(np.float64) for key in ("mean", "std"))
    if mean.shape != deviation.shape or not np.isfinite([mean, deviation]).all():
        raise UserError(f"{path}: mean and std of fold {fold} are not finite, or not of one length")
    return mean, np.where(deviation > 0, deviation, 1)


def _labels(path: Path) -> np.ndarray:
    """Returns the classes of a split, int64 [N]. Raises UserError for an array of another kind."""
    labels = read_npy(path)
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf":
        return labels.argmax(axis=1)
    labels = labels.reshape(len(labels)) if labels.shape[1:] == (1,) else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < 1000)).all():
        raise UserError(f"{path}: is {labels.dtype} {list(labels.shape)}, expected classes [N], or one-hot [N, C]")
    return labels.astype(np.int64)


def _names(path: Path) -> list[str]:
    """Returns the names of a split's utterances. Raises UserError for an array of another kind."""
    names = read_npy(path)
    names = names.reshape(len(names)) if names.shape[1:] == (1,) else names
    if names.ndim != 1 or names.dtype.kind not in "SU":
        raise UserError(f"{path}: is {names.dtype} {list(names.shape)}, expected names, bytes or str [N] or [N, 1]")
    return [name.decode("latin1") if isinstance(name, bytes) else name for name in names.tolist()]
