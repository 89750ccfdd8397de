"""Reading any file of sequences: its content tells which of the known layouts it has."""

from dataclasses import replace
from pathlib import Path

from gmd.data.sequences.checks import check_file, score_scale_notes
from gmd.data.sequences.converted_file import check_new, is_converted, read_converted, write_converted
from gmd.data.sequences.npz import open_npz
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.data.sequences.samples import Sample, SequenceData, as_classes
from gmd.data.sequences.sentiment_pickles import sentiment_from
from gmd.data.sequences.utterance_table import is_utterances, read_utterances
from gmd.errors import UserError, shown
from gmd.files import open_regular

__all__ = ["Sample", "SequenceData", "as_classes", "convert", "read_sequences"]

_ZIP = b"PK"  # how a .npz begins, and no pickle


def read_sequences(path: str | Path, seed: int = 0, clip_scores: bool = False) -> SequenceData:
    """Reads an utterance table, a file of `gmd convert` or `gmd phantom` (.npz), or a pickle of MOSI or MOSEI (.pkl).

    seed: draws what is held out for validation, where the file has no such split (utterance tables)
    clip_scores: whether to clip labels beyond [-3, 3] instead of to refuse them
    Raises UserError: no such file, no regular one, none of these, scores of which none is negative, or as
        `read_utterances`, `read_converted`, `read_pickle` and `sentiment_from` say.
    """
    path = Path(path)
    check_file(path, "a .npz or a pickle")
    data = _read(path, seed, clip_scores)
    if data.classes is not None:
        return data
    notes = [note for note in score_scale_notes(data, path) if note not in data.notes]  # a converted file has it
    return replace(data, notes=(*data.notes, *notes))


def _read(path: Path, seed: int, clip_scores: bool) -> SequenceData:
    """Reads a file by the reader of its kind. Arguments and errors are those of `read_sequences`."""
    with open_regular(path) as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    if not zipped:
        return sentiment_from(path, read_pickle(path), clip_scores)
    with open_npz(path) as arrays:
        if is_converted(arrays):
            return read_converted(path, arrays)
        if is_utterances(arrays):
            return read_utterances(path, arrays, seed, clip_scores)
        there = ", ".join(shown(key, 40) for key in list(arrays)[:12]) or "nothing"
    raise UserError(
        f"{path}: holds {there}, expected an utterance table (video, utt, label, ...) or what `gmd convert` writes"
    )


def convert(source: str | Path, out: str | Path, clip_scores: bool = False) -> tuple[str, ...]:
    """Writes any file that `read_sequences` reads as a `.npz` without pickles, which reads as the same data.

    clip_scores: whether to clip labels beyond [-3, 3] instead of to refuse them
    returns the notes: what was replaced, clipped, left out or held out. Raises UserError, also for an `out` that exists
    or does not end in .npz; then nothing is written.
    """
    check_new(Path(out))
    data = read_sequences(source, clip_scores=clip_scores)
    write_converted(data, Path(out))
    return data.notes
