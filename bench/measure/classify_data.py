"""The manifests of bench.measure.classify: digits as PNG and WAV, MOSI's transcripts and audio features, and mfeat.

Features stay in the files that they came in: a cell names the array and the row.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.measure.digits_manifest import MANIFEST, write_digits_manifest
from gmd.files import replacing

TRAINED_DIGITS = 500  # pairs of a recording and an image, of the 2133 that there are
MFEAT = ("fou", "fac", "kar", "pix", "zer", "mor")
MFEAT_SPLITS = {"train": 300, "validation": 200, "test": 1000}  # of 2000, drawn by the seed as in bench.measure.mfeat
SIGNS = ("negative", "non-negative")


@dataclass(frozen=True)
class Written:
    """A manifest, and the folder that its paths begin in."""

    manifest: Path
    root: Path


def digits(source: Path, folder: Path, seed: int) -> Written:
    """Writes pictures and sound of digits, and a manifest with a draw of the training pairs; all others stay.

    source: fsdd.npz, see `write_digits_manifest`
    """
    whole = folder / MANIFEST
    if not whole.exists():  # it is written last, behind thousands of files
        write_digits_manifest(source, folder, seed)
    with whole.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    split = header.index("split")
    training = [number for number, row in enumerate(rows) if row[split] == "train"]
    kept = {training[i] for i in np.random.default_rng(seed).permutation(len(training))[:TRAINED_DIGITS]}
    some = [row for number, row in enumerate(rows) if row[split] != "train" or number in kept]
    return Written(_write(folder / "some.csv", header, some), folder)


def mosi(source: Path, folder: Path, seed: int) -> Written:
    """Writes a manifest of MOSI's utterances: what was said, as text, and features of the sound; the standard splits.

    In these splits nothing else is free of leakage: the extractors of the other features had seen some of the test.
    source: mosi_utterances.npz; the class is the sign of the score
    """
    with np.load(source, allow_pickle=False) as arrays:
        names, splits, labels, words = (arrays[key] for key in ("id", "split", "label", "transcript"))
    signs = [SIGNS[int(label >= 0)] for label in labels]
    rows = (
        [name, split, sign, said, f"{source.name}#audio[{row}]"]
        for row, (name, split, sign, said) in enumerate(zip(names, splits, signs, words, strict=True))
    )
    header = ["id", "split", "label", "text:text", "features:audio"]
    return Written(_write(folder / "mosi.csv", header, rows), source.parent)


def mfeat(source: Path, folder: Path, seed: int) -> Written:
    """Writes a manifest of digits seen by six modalities, the splits drawn by the seed.

    source: mfeat.npz
    """
    with np.load(source, allow_pickle=False) as arrays:
        digit = arrays["digit"]
    drawn = np.random.default_rng(seed).permutation(len(digit))
    parts = np.split(drawn, np.cumsum([*MFEAT_SPLITS.values()]))[: len(MFEAT_SPLITS)]
    rows = (
        [str(row), split, digit[row], *(f"{source.name}#{m}[{row}]" for m in MFEAT)]
        for split, members in zip(MFEAT_SPLITS, parts, strict=True)
        for row in members
    )
    header = ["id", "split", "label", *(f"features:{m}" for m in MFEAT)]
    return Written(_write(folder / "mfeat.csv", header, rows), source.parent)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
