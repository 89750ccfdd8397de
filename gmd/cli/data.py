"""The commands that make data: `gmd phantom` and `gmd convert`."""

import shlex
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from gmd.errors import UserError
from gmd.printing import say

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


def convert(source: Positional[Path], out: Positional[Path], clip_scores: bool = False) -> None:
    """Make a pickle of MOSI, MOSEI or CH-SIMS, which may hold programs, into a file that holds numbers only.

    Nothing in the pickle is executed: of arrays, lists, dictionaries, strings and numbers the data are read, other
    objects are left out, and what asks for a program is refused.

    Example: gmd convert mosi.pkl mosi.npz

    Args:
        source: The pickle, in the layout of MMSA and Self-MM or of MulT and CGGM.
        out: The file to write, .npz; for gmd train sentiment --data.
        clip_scores: Take labels beyond [-3, 3] for -3 or 3, and say how many, instead of refusing them.
    """
    from gmd.data.sequences.sequence_files import convert

    say(*convert(source, out, clip_scores))  # notes
    say(f"written: {out}; next: gmd train sentiment --data {shlex.quote(str(out))}")


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
