"""The HDF5 files of MFN (Zadeh et al., AAAI 2018), each with one data set `data`: a folder of them, or all in one file.

`X_train.h5`, `X_valid.h5`, `X_test.h5` [N, L, 325], of which the first 300 features are text (GloVe), 5 audio and 20
vision, with `y_train.h5` and so on [N]; or a file for each modality, `text_train_emb.h5` (or without `_emb`),
`audio_train.h5` and `video_train.h5`. One file that has all splits has data sets `X_train`, `y_train` and so on.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gmd.data.sequences.hdf5 import Hdf5, open_hdf5
from gmd.data.sequences.padded_splits import data_from_splits
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SequenceData
from gmd.errors import UserError, shown

_SPLITS = ("train", "valid", "test")
_COLUMNS = {"text": 300, "audio": 5, "vision": 20}  # of X, in this order: MFN's input_dims
_FILES = {"text": ("text_{}_emb", "text_{}"), "audio": ("audio_{}",), "vision": ("video_{}", "vision_{}")}
_KINDS = "biuf"


def is_mfn_folder(folder: Path) -> bool:
    """Returns whether a folder has files of MFN."""
    return any((folder / f"{name}.h5").is_file() for name in ("X_train", "text_train_emb", "text_train", "audio_train"))


def read_mfn_folder(folder: Path, reading: Reading) -> SequenceData:
    """Reads a folder of MFN. Raises UserError as `data_from_splits`, and for files that are absent or no HDF5."""

    def array(name: str) -> np.ndarray | None:
        path = folder / f"{name}.h5"
        if not path.exists():
            return None
        with open_hdf5(path) as file:
            return file.array("data", _KINDS, (1, 2, 3))

    return data_from_splits(folder, {split: _split(folder, split, array) for split in _SPLITS}, reading)


def read_mfn_file(path: Path, reading: Reading) -> SequenceData:
    """Reads one file with the data sets of all splits.

    Raises UserError as `data_from_splits`; for a file that is a part of something else it says what to give instead.
    """
    with open_hdf5(path) as file:
        there = file.names()
        if not {f"y_{split}" for split in _SPLITS} <= set(there):
            raise UserError(
                f"{path}: holds {_listed(there)}, expected X_train, y_train and so on; {_advice(path, there)}"
            )

        def array(name: str) -> np.ndarray | None:
            return _either(file, name) if name in there else None

        return data_from_splits(path, {split: _split(path, split, array) for split in _SPLITS}, reading)


def _either(file: Hdf5, name: str) -> np.ndarray:
    """Reads a data set, or the one called `data` in a group of that name."""
    return file.array(f"{name}/data" if file.names(name) else name, _KINDS, (1, 2, 3))


def _split(source: Path, split: str, array: Callable[[str], np.ndarray | None]) -> dict[str, np.ndarray]:
    """Returns the arrays of a split, by their names here.

    array: gets a name such as X_train, and returns what the files have under it, or None
    """
    labels, features = array(f"y_{split}"), array(f"X_{split}")
    if labels is None:
        raise UserError(f"{source}: has no y_{split}, expected scores for each of {', '.join(_SPLITS)}")
    if features is not None:
        return _columns(f"{source}: X_{split}", features) | {"labels": labels}
    found = {
        m: next((a for name in names if (a := array(name.format(split))) is not None), None)
        for m, names in _FILES.items()
    }
    return {m: value for m, value in found.items() if value is not None} | {"labels": labels}


def _columns(what: str, features: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts the features of all modalities apart. Raises UserError for another number of them."""
    total = sum(_COLUMNS.values())
    if features.ndim != 3 or features.shape[2] != total:
        listed = ", ".join(f"{m} {size}" for m, size in _COLUMNS.items())
        raise UserError(
            f"{what} is {list(features.shape)}, expected [N, L, {total}] ({listed}); save the modalities in files of "
            "their own, text_train.h5, audio_train.h5, video_train.h5 and so on"
        )
    ends = np.cumsum(list(_COLUMNS.values()))
    return dict(zip(_COLUMNS, np.split(features, ends[:-1], axis=2), strict=True))


def _advice(path: Path, there: list[str]) -> str:
    """Returns what to give in the place of a file that is only a part of its data set."""
    if path.suffix.lower() == ".csd":
        return "give the folder of the .csd, with that of the labels"
    if there == ["data"]:
        return "give the folder of X_train.h5, y_train.h5 and so on"
    return "of MMIN's layout give the folder that holds A, V, L and target"


def _listed(names: list[str]) -> str:
    return ", ".join(shown(name, 40) for name in names[:12]) or "nothing"
