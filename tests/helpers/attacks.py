"""What the tests of robustness share: what a folder held before and after, and what every command owes its user."""

import csv
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load

from helpers.forked_gmd import Outcome

ENDS = (0, 1, 2, 130, 141)  # what gmd says by its exit status: done, in part, an error, interrupted, reader gone
ACTED_ON = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # by terminals
BAR_MOVES = "\x1b[A"  # a bar within a bar goes up a line
BRATS = "--width 0.125 --patch 16 16 16 --epochs 1 --steps-per-epoch 2 --modalities flair t1 --device cpu".split()  # noqa: SIM905
SENTIMENT = "--width 16 --layers 1 --heads 2 --batch 16 --epochs 2 --device cpu".split()  # noqa: SIM905


def ended_well(outcome: Outcome) -> Outcome:
    """Returns the outcome of a command that has not crashed and said nothing that a terminal acts on."""
    what = f"gmd {' '.join(outcome.words)[:300]}\n{outcome.out[-1000:]}\n{outcome.err[-3000:]}"
    assert "Traceback" not in outcome.err + outcome.out, what
    assert outcome.status in ENDS, f"status {outcome.status}: {what}"
    for text in (outcome.out, outcome.err):
        assert not (found := ACTED_ON.findall(text.replace(BAR_MOVES, ""))), f"{found!r}: {what}"
    return outcome


def done(outcome: Outcome) -> Outcome:
    assert ended_well(outcome).status == 0, outcome.told
    return outcome


def refused(outcome: Outcome, *parts: str) -> Outcome:
    """Returns the outcome of a command that ended with an error in a line, in which these parts stand."""
    assert ended_well(outcome).status == 2, f"gmd {' '.join(outcome.words)[:300]}: {outcome.told}"
    assert "gmd: error: " in outcome.err
    missing = [part for part in parts if part not in outcome.err]
    assert not missing, f"{missing} not in {outcome.err[-2000:]}"
    return outcome


def content(folder: Path) -> dict[str, str]:
    """Returns what lies in a folder: of each path its kind, and a digest of what it holds, or where its link leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"link to {os.readlink(path)}"
        else:
            what = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else f"kind {stat.S_IFMT(mode)}"
        found[os.fsdecode(path.relative_to(folder))] = what
    return found


def huge(path: Path) -> None:
    """Makes a file of 16 GB that takes no place on the disk."""
    path.touch()
    os.truncate(path, 2**34)


def commands(made: Path, run: Path, other: Path, task: str) -> dict[str, tuple[object, ...]]:
    """Returns the words of each command that reads a run; `other` is one of the same kind to compare it with."""
    data, small = ("cases", BRATS) if task == "brats" else ("sequences.npz", SENTIMENT)
    found: dict[str, tuple[object, ...]] = {
        "report": ("report", run),
        "compare": ("compare", other, run, "--out", run.parent / "compared"),
        "resume": ("train", task, "--data", made / data, "--out", run, *small, "--resume"),
        "evaluate": ("evaluate", run),
    }
    if task == "brats":
        found["predict"] = ("predict", run, made / "cases", "-o", run.parent / "o")
    return found


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    """Changes what a checkpoint holds."""
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def left_over(*folders: Path) -> list[str]:
    """Returns what only a process that runs has in a folder: unfinished files, locks, whatever is hidden."""
    paths = (path for folder in folders for path in folder.rglob("*"))
    return [str(path) for path in paths if path.name.startswith(".") or path.name.endswith((".tmp", ".part"))]


def half_written(*folders: Path) -> dict[str, str]:
    """Returns the files under folders that no program can read to their end: path -> why."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        if path.name.startswith(".") or path.name.endswith(".tmp"):
            continue
        try:
            _READ.get("".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix, bytes)(path)
        except Exception as error:
            found[str(path)] = f"{type(error).__name__}: {error}"
    return found


def _csv(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    assert text.endswith("\n"), "the last line is cut"
    assert len(widths := {len(row) for row in csv.reader(text.splitlines())}) == 1, widths


def _lines(path: Path) -> None:
    """All but the last line, which a process that was killed may have begun."""
    for line in path.read_text(encoding="utf-8").splitlines()[:-1]:
        json.loads(line)


def _page(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays:
            assert arrays[name].size >= 0


_READ: dict[str, Callable[[Path], object]] = {
    ".csv": _csv,
    ".html": _page,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": _lines,
    ".nii.gz": lambda path: nibabel.load(path).get_fdata(),
    ".npz": _arrays,
    ".png": _picture,
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": lambda path: load(path.read_bytes()),
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    "": lambda path: None,
}
