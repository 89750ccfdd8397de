"""Reading any file or folder of sequences: its content tells which of the known layouts it has."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmd.data.file_kind import CSD, kind_of
from gmd.data.sequences.checks import check_file
from gmd.data.sequences.converted_file import check_new, is_converted, read_converted, write_converted
from gmd.data.sequences.csd_folder import is_csd_folder, read_csd_folder
from gmd.data.sequences.csv_table import read_csv_table
from gmd.data.sequences.dialogues import dialogues_from, is_dialogues
from gmd.data.sequences.mfn import is_mfn_folder, read_mfn_file, read_mfn_folder
from gmd.data.sequences.mmin_folder import is_mmin_folder, read_mmin_folder
from gmd.data.sequences.npz import open_npz
from gmd.data.sequences.padded_splits import data_from_splits
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.data.sequences.samples import Sample, SequenceData, as_classes, as_numbers
from gmd.data.sequences.scores import score_notes
from gmd.data.sequences.tensor_file import read_tensors
from gmd.data.sequences.utterance_table import is_utterances, read_utterances
from gmd.data.sequences.word_tuples import is_misa_folder, is_word_tuples, read_misa_folder, tuples_from
from gmd.errors import UserError, shown
from gmd.files import open_regular

__all__ = ["Reading", "Sample", "SequenceData", "as_classes", "convert", "read_sequences"]

_ZIP = b"PK"  # how a .npz begins, and what torch.save writes, and no pickle
_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, Reading], SequenceData]], ...] = (
    (is_mmin_folder, read_mmin_folder),
    (is_mfn_folder, read_mfn_folder),
    (is_misa_folder, read_misa_folder),
    (is_csd_folder, read_csd_folder),
)
_PLAIN_READING = Reading()


def read_sequences(path: str | Path, reading: Reading = _PLAIN_READING) -> SequenceData:
    """Reads sequences in any of the layouts of docs/data.md: .npz, pickle, .pt, HDF5, csv, or a folder.

    reading: what the file does not say itself
    Raises UserError: nothing there, no regular file, none of these, a fold where there are none, sentiment of which
        none is negative, or as the readers of the layouts say.
    """
    path = Path(path)
    folder = _folder_reader(path)
    if reading.fold is not None and folder is not read_mmin_folder:
        raise UserError(f"--fold: got {reading.fold}, but {path} has no folds; leave it out")
    data = folder(path, reading) if folder else _read_file(path, reading)
    if data.classes is not None:
        return data
    if reading.numbers:
        return as_numbers(data)
    notes = [note for note in score_notes(data, path) if note not in data.notes]  # a converted file has it
    return replace(data, notes=(*data.notes, *notes))


def _folder_reader(path: Path) -> Callable[[Path, Reading], SequenceData] | None:
    """Returns what reads a folder; None if this is none. Raises UserError for one of no known layout."""
    if not os.path.isdir(path):  # not the path's own, which raises for a name that no file can have
        return None
    for is_one, read in _FOLDERS:
        if is_one(path):
            return read
    there = ", ".join(sorted(shown(each.name, 40) for each in path.iterdir())[:12]) or "nothing"
    raise UserError(
        f"{path}: is a folder with {there}; expected a file, or a folder with *.csd, with A, V, L and target (MMIN), "
        "with X_train.h5 or text_train.h5 (MFN), or with train.pkl, dev.pkl and test.pkl (MISA)"
    )


def _read_file(path: Path, reading: Reading) -> SequenceData:
    """Reads a file by the reader of its kind. Arguments and errors are those of `read_sequences`."""
    check_file(path, "a .npz, a pickle, a .pt, an HDF5 file or a table")
    with open_regular(path) as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    kind = kind_of(path)
    if zipped and kind != "what torch.save writes":
        return _read_npz(path, reading)
    if zipped:
        return data_from_splits(path, read_tensors(path), reading)
    if kind in ("an HDF5 file", CSD):
        return read_mfn_file(path, reading)
    if path.suffix.lower() in (".csv", ".tsv") or kind == "a table of text (CSV)":
        return read_csv_table(path, reading)
    return _from_pickle(path, read_pickle(path), reading)


def _from_pickle(path: Path, content: Any, reading: Reading) -> SequenceData:
    """Makes what a pickle held sequences, by the reader of its layout."""
    if is_word_tuples(content):
        return tuples_from(path, content, reading)
    if is_dialogues(content):
        return dialogues_from(path, content, reading)
    return data_from_splits(path, content, reading)


def _read_npz(path: Path, reading: Reading) -> SequenceData:
    """Reads an archive of arrays by the reader of its kind."""
    with open_npz(path) as arrays:
        if is_converted(arrays):
            return read_converted(path, arrays, reading)
        if is_utterances(arrays):
            return read_utterances(path, arrays, reading)
        there = ", ".join(shown(key, 40) for key in list(arrays)[:12]) or "nothing"
    raise UserError(
        f"{path}: holds {there}, expected an utterance table (video, utt, label, ...) or what `gmd convert` writes"
    )


def convert(source: str | Path, out: str | Path, reading: Reading = _PLAIN_READING) -> SequenceData:
    """Writes whatever `read_sequences` reads as a `.npz` without pickles, which reads as the same data.

    reading: what the file does not say itself
    returns the data, whose notes tell what was replaced, clipped, left out or held out. Raises UserError, also for an
    `out` that exists or does not end in .npz; then nothing is written.
    """
    check_new(Path(out))
    data = read_sequences(source, reading)
    write_converted(data, Path(out))
    return data
