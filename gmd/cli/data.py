"""The commands that make data: `gmd phantom` and `gmd convert`."""

import shlex
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from gmd.errors import UserError
from gmd.printing import say

SENTIMENT = ("text", "audio", "vision")  # as samples.py has them, which takes a while to import
Kind = Literal["plain", "hard"]  # of phantoms, as `write_phantoms` has it, whose module takes a while to import


def phantom(
    out: Positional[Path],
    task: Literal["brats", "sentiment"] = "brats",
    cases: int | None = None,
    shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    kind: Kind | None = None,
) -> None:
    """Write a synthetic data set: tumours in the layout of BraTS 2021, or sequences with a sentiment.

    Example: gmd phantom data/phantoms --cases 20 --shape 64 64 64

    Example: gmd phantom data/sentiment.npz --task sentiment

    Args:
        out: Folder to write the case folders into; of sentiment the file, .npz.
        task: What it is to be trained on.
        cases: How many cases, 20 by default; of sentiment 600 samples.
        shape: brats: of the volumes, in voxels of 1 mm, each at least 16; 64 64 64 by default.
        seed: Another seed, other cases.
        kind: brats: hard has modalities that contradict each other, one that dominates, and more noise.
    """
    if task == "brats":
        _write_phantoms(out, 20 if cases is None else cases, shape or (64, 64, 64), seed, kind or "plain")
    elif shape is not None or kind is not None:
        raise UserError("--shape and --kind belong to brats; sequences have neither, leave them out")
    else:
        _write_sentiment(out, 600 if cases is None else cases, seed)


def convert(
    source: Positional[Path],
    out: Positional[Path],
    task: Literal["sentiment", "sequences"] = "sentiment",
    clip_scores: bool = False,
    scale_scores: tuple[float, float] | None = None,
    fold: int | None = None,
    seed: int = 0,
) -> None:
    """Make sequences of any layout, in files that may hold programs, into one file that holds numbers only.

    Nothing is executed: of arrays, lists, dictionaries, strings and numbers the data are read, other objects are left
    out, and what asks for a program is refused. What is read: pickles of MMSA, MulT, LMF, MAG-BERT, MISA and
    DialogueRNN, tensors (.pt), HDF5 of MFN and MMIN, a folder of .csd, and tables (csv).

    Example: gmd convert mosi.pkl mosi.npz

    Example: gmd convert IEMOCAP_features_2021 iemocap.npz --fold 1

    Args:
        source: The file, or the folder.
        out: The file to write, .npz; for gmd train sentiment --data, or gmd train sequences --data.
        task: What scores are: sentiment, in [-3, 3] or [-1, 1]; or sequences, numbers of any range.
        clip_scores: Take scores beyond [-3, 3] for -3 or 3, and say how many, instead of refusing them.
        scale_scores: The ends of the scale that scores are on, which become -3 and 3: 0 6, 0 100, ...
        fold: Of a folder in the layout of MMIN: which of its folds, from 1 on.
        seed: Draws what validates, where the source does not say it.
    """
    from gmd.data.sequences.sequence_files import Reading, convert

    data = convert(source, out, Reading(seed, task == "sequences", clip_scores, scale_scores, fold))
    say(*data.notes)
    kind = "sequences" if data.classes or set(data.features) - set(SENTIMENT) else task
    say(f"written: {out}; next: gmd train {kind} --data {shlex.quote(str(out))}")


def _write_phantoms(out: Path, cases: int, shape: tuple[int, int, int], seed: int, kind: Kind) -> None:
    """Writes case folders with synthetic tumours, and prints what to do next."""
    from gmd.data.segmentation.phantom import write_phantoms

    write_phantoms(out, cases, shape, seed, kind)
    say(f"{cases} cases in {out}; next: gmd train brats --data {shlex.quote(str(out))}")


def _write_sentiment(out: Path, samples: int, seed: int) -> None:
    """Writes a file of synthetic sequences, and prints what to do next."""
    from gmd.data.sequences.phantom import write_sentiment_phantom

    write_sentiment_phantom(out, samples, seed)
    say(f"{samples} samples in {out}; next: gmd train sentiment --data {shlex.quote(str(out))}")
