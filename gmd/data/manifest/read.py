"""Reading a manifest: its rows as samples whose files are checked, and loaded later."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmd.data import SPLITS
from gmd.data.manifest.cells import Cell, Table
from gmd.data.manifest.check import OnUnreadable, check_files
from gmd.data.manifest.inputs import Input, Output, Preparation
from gmd.data.manifest.splits import members_of_splits
from gmd.data.manifest.table import Row, read_table
from gmd.data.manifest.targets import Target, are_numbers, read_targets
from gmd.data.sequences.samples import Sample
from gmd.errors import UserError
from gmd.files import real_path


@dataclass(frozen=True)
class ManifestData:
    """A data set of files.

    Attributes:
        inputs: modality -> what it gives a network, in the order of the columns.
        outputs: what the labels are.
        splits: "train", "validation" and "test", none of them empty; `values` of a sample are modality -> Cell, and its
            `target` is int64 [] (a class) or float32 [] (a number) for one output, float32 [O] for several: the class
            as a number, or the number, NaN where the label is not known.
        notes: what was left out, held out, resampled, with counts, in sentences for the user.
    """

    inputs: dict[str, Input]
    outputs: tuple[Output, ...]
    splits: dict[str, list[Sample]]
    notes: tuple[str, ...]

    def checksum(self) -> str:
        """Returns a checksum of names, targets, and what stands in the cells with the sizes of their files."""
        digest = hashlib.blake2b(digest_size=8)
        for split in SPLITS:
            for sample in self.splits[split]:
                cells = [(modality, cell.text, cell.size) for modality, cell in sample.values.items()]
                digest.update(repr((split, sample.name, sample.target.tolist(), cells)).encode("utf-8", "replace"))
        return digest.hexdigest()


def read_manifest(
    path: str | Path,
    root: Path | None,
    preparation: Preparation,
    unreadable: OnUnreadable = "refuse",
    target: Target = "auto",
    seed: int = 0,
) -> ManifestData:
    """Reads a manifest, and looks at every file that it names, of which nothing is kept in memory.

    root: the folder that paths in it are relative to; None: the manifest's own
    preparation: how files will be prepared, of which the sizes of the inputs follow
    unreadable: whether cells whose files are missing or cannot be read are refused, or count as missing
    target: what labels are, see `are_numbers`
    seed: draws the rows that validate, a tenth of the training rows, where the manifest names none
    Raises UserError as `read_table`, `check_files`, `members_of_splits` and `read_targets` say, if `root` is no folder,
        and if no training row has one of the modalities.
    """
    path = Path(path)
    columns, rows, notes = read_table(path)
    root = real_path(path.parent if root is None else root)
    if not root.is_dir():
        raise UserError(f"--root: {root} is no folder; expected the one that the paths in {path} are relative to")
    found = check_files(Table(path, root), columns.modalities, rows, preparation, unreadable)
    kept = [(row, cells) for row, cells in zip(rows, found.rows, strict=True) if cells]
    modalities = [column.modality for column in columns.modalities]
    notes += found.notes + _missing_notes(len(rows), [cells for _, cells in kept], modalities)
    outputs, splits, of_labels = _samples(path, list(columns.labels), kept, target, seed)
    for modality in modalities:
        if not any(modality in sample.values for sample in splits["train"]):
            raise UserError(f"{path}: no training row has {modality}; take its column out, or give training some")
    return ManifestData(found.inputs, outputs, splits, (*notes, *of_labels, *_shared_notes(splits)))


def _samples(
    path: Path, names: list[str], rows: Sequence[tuple[Row, dict[str, Cell]]], target: Target, seed: int
) -> tuple[tuple[Output, ...], dict[str, list[Sample]], list[str]]:
    """Returns the outputs, the samples of each split, and notes for the user. names: of the outputs"""
    own = [row for row, _ in rows]
    numbers = [are_numbers(path, name, [row.labels[i] for row in own], target) for i, name in enumerate(names)]
    members, held_out = members_of_splits(path, own, numbers, seed)
    in_splits = {split: [own[i] for i in some] for split, some in members.items()}
    outputs, targets, notes = read_targets(path, names, in_splits, numbers)
    splits = {
        split: [Sample(rows[i][0].name, rows[i][1], value) for i, value in zip(some, targets[split], strict=True)]
        for split, some in members.items()
    }
    return outputs, splits, held_out + notes


def _missing_notes(rows: int, cells: Sequence[dict[str, Cell]], modalities: Sequence[str]) -> list[str]:
    """Returns notes on rows that are left out, since they have no modality, and on those that lack some."""
    notes = [f"{rows - len(cells)} rows have no modality and are left out"] if len(cells) < rows else []
    for modality in modalities:
        if lacking := sum(modality not in each for each in cells):
            notes.append(f"{lacking} of {len(cells)} rows lack {modality}")
    return notes


def _shared_notes(splits: dict[str, list[Sample]]) -> list[str]:
    """Returns notes on files that are trained on and tested: their scores say little of others."""
    notes = []
    files = {split: _files(samples) for split, samples in splits.items()}
    for split in ("validation", "test"):
        for modality, own in files[split].items():
            if shared := len(own & files["train"].get(modality, set())):
                notes.append(f"{shared} files of {modality} are in training and in {split}: their scores are too good")
    return notes


def _files(samples: Sequence[Sample]) -> dict[str, set[str]]:
    """Returns what stands in the cells of files of each modality, once each."""
    files: dict[str, set[str]] = {}
    for sample in samples:
        for modality, cell in sample.values.items():
            if not cell.column.startswith("text:"):
                files.setdefault(modality, set()).add(cell.text)
    return files
