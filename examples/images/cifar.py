"""CIFAR-10 and CIFAR-100 as their authors hand them out: pickles of Python 2, in a folder or a .tar.gz.

A pickle can execute code. These are read as data by `gmd.data.sequences.safe_pickle`, which executes nothing.
"""

import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.images.pictures import Pictures, PictureSet, hold_out_validation
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.errors import UserError
from gmd.memory_limit import check_claim

SIDE = 32  # pixels


class Layout(NamedTuple):
    """The files of one of the two, and the keys of their dictionaries."""

    folder: str
    about: str
    training: tuple[str, ...]
    test: str
    labels: str
    names: str


LAYOUTS = (
    Layout("cifar-100-python", "meta", ("train",), "test", "fine_labels", "fine_label_names"),
    Layout(
        "cifar-10-batches-py",
        "batches.meta",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "labels",
        "label_names",
    ),
)
OFFERED = {name for layout in LAYOUTS for name in (layout.about, *layout.training, layout.test)}


def layout_of(folder: Path) -> tuple[Path, Layout] | None:
    """Returns the folder that holds CIFAR's files, itself or the one in it, and whose they are. None: no CIFAR."""
    for layout in LAYOUTS:
        for place in (folder, folder / layout.folder):
            if all((place / name).is_file() for name in (layout.about, *layout.training, layout.test)):
                return place, layout
    return None


def read_archive(path: Path) -> PictureSet:
    """Reads CIFAR out of its .tar.gz, of which only the files that are known are unpacked, into a temporary folder.

    Raises UserError if it is no such archive, or damaged.
    """
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = Path(member.name).name
                    if member.isfile() and name in OFFERED:
                        check_claim(path, member.size, f"its file {name}")
                        source = archive.extractfile(member)
                        assert source is not None  # of a regular file
                        with source, open(Path(temporary) / name, "wb") as target:
                            shutil.copyfileobj(source, target)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be unpacked ({error}); expected CIFAR's .tar.gz, or a folder") from error
        found = layout_of(Path(temporary))
        if found is None:
            raise UserError(f"{path}: lacks files of CIFAR; expected cifar-100-python.tar.gz or cifar-10-python.tar.gz")
        return read_cifar(*found)


def read_cifar(folder: Path, layout: Layout) -> PictureSet:
    """Reads CIFAR's files. The test pictures are its own; 10 % of each class's training pictures are for validation.

    Raises UserError for a file that holds something else.
    """
    classes = _content(folder / layout.about).get(layout.names)
    if not (isinstance(classes, list) and len(classes) > 1 and all(isinstance(name, str) for name in classes)):
        raise UserError(f"{folder / layout.about}: {layout.names}: expected a list of names")
    parts = [_pictures(folder / name, layout, len(classes)) for name in (*layout.training, layout.test)]
    *training, test = parts
    together = Pictures(
        np.concatenate([part.sources for part in training]), np.concatenate([part.labels for part in training])
    )
    names = tuple(classes)
    return PictureSet(names, *hold_out_validation(together, names), test, photographs=True)


def _content(path: Path) -> dict:
    """Returns the dictionary in a file, with str for keys: some have saved them again as bytes."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no dictionary; expected a file of CIFAR for Python")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _pictures(path: Path, layout: Layout, classes: int) -> Pictures:
    content = _content(path)
    data, labels = content.get("data"), content.get(layout.labels, ())
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3 * SIDE**2,)):
        raise UserError(f"{path}: data: expected an array of uint8, [n, {3 * SIDE**2}]")
    numbers = isinstance(labels, list) and all(isinstance(label, int) and 0 <= label < classes for label in labels)
    if not numbers or len(labels) != len(data):
        raise UserError(f"{path}: {layout.labels}: expected {len(data)} numbers from 0 to {classes - 1}")
    planes = np.asarray(data).reshape(-1, 3, SIDE, SIDE)  # a row is all of red, then green, then blue
    return Pictures(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64))
