"""The folder that the results of an evaluation go to: those of one data set never over those of another."""

import os
from itertools import count
from pathlib import Path

from gmd.data.text_files import read_utf8
from gmd.errors import UserError
from gmd.files import real_path, replacing
from gmd.training.run_files import DATA_RECORD, EVALUATION
from gmd.training.run_lock import LOCK

MOST_PATH = 10_000  # bytes


def results_folder(run: Path, data: Path | None) -> Path:
    """Returns the folder for the results on `data`, or on the run's own test split if that is None.

    That of the run's own is its `evaluation/`; other data get a folder in it that bears their name, and a number behind
    the name if the results of yet other data have it.

    Raises UserError if something that is no folder has the name of the run's own.
    """
    folder = Path(run) / EVALUATION
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder}: is a file or a link to nothing, expected the folder of results; move it away")
    if data is None:
        return folder
    data = real_path(data)
    name = data.stem if data.is_file() else data.name
    numbered = (folder / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(place for place in numbered if _is_free(place) or _is_about(place, data))


def recorded_data(results: Path) -> str:
    """Returns the path of the data that results are about; empty if they are about the run's own test split.

    Raises UserError if the record of it cannot be read, or holds more than a path.
    """
    record = results / DATA_RECORD
    return read_utf8(record, MOST_PATH, "surrogateescape").removesuffix("\n") if record.exists() else ""


def write_texts(folder: Path, texts: dict[str, str], data: Path | None = None) -> list[Path]:
    """Writes text files into the folder, each whole or not at all, and returns their paths.

    They are UTF-8, but for bytes in names of cases that are in no encoding, which stay what they are.

    texts: name of the file -> content
    data: what the results are about, recorded in DATA_RECORD; None: the run's own test split, without a record
    """
    texts = texts if data is None else {DATA_RECORD: f"{real_path(data)}\n"} | texts
    for name, text in texts.items():
        with replacing(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="surrogateescape")
    return [folder / name for name in texts]


def _is_free(folder: Path) -> bool:
    """Returns whether there is nothing, or only what an evaluation that was killed before its first score has left."""
    return not folder.exists() or (folder.is_dir() and os.listdir(folder) == [LOCK])


def _is_about(folder: Path, data: Path) -> bool:
    """Returns whether the results in the folder are about these data, a resolved path."""
    return (folder / DATA_RECORD).is_file() and recorded_data(folder) == str(data)
