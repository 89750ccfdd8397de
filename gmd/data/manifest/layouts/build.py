"""From a folder in one of the layouts to a manifest."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gmd.data import SPLITS
from gmd.data.manifest.layouts import crema_d, food101, iemocap, kinetics_sounds, mvsa, splits, told
from gmd.data.manifest.layouts.layout import Layout, Lists
from gmd.data.manifest.layouts.listed import Listed, Part, without_doubles
from gmd.data.manifest.layouts.places import Found, Tree, find
from gmd.data.manifest.layouts.table import Table
from gmd.data.spreadsheet_cells import guarded
from gmd.errors import UserError, shown
from gmd.files import replacing
from gmd.output_paths import check_file

DataSet = Literal["crema-d", "food101", "mvsa", "kinetics-sounds", "iemocap"]
Split = Literal["published", "speaker", "dialogue"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (crema_d.LAYOUT, food101.LAYOUT, mvsa.LAYOUT, kinetics_sounds.LAYOUT, iemocap.LAYOUT)
}


def write_manifest(
    data_set: DataSet,
    folder: Path,
    out: Path,
    split: Split = "published",
    whose: str | None = None,
    seed: int = 0,
) -> list[str]:
    """Makes a manifest of a data set that lies in a folder; returns lines that say what is in it and what is not.

    out: a csv that is not there yet; the paths in it are relative to `folder`
    split: as published, or such that no speaker (IEMOCAP: no session) or no dialogue is in two splits
    whose: the name of the lists to take, such as "mla"; by default the first that are there
    seed: of what is drawn, 0 or more
    Raises UserError, before anything is written, for whatever stands in the way; OSError if it cannot be written.
    """
    layout = LAYOUTS[data_set]
    _check_request(layout, folder, out, split, seed)
    tree = Tree(folder)
    lists, paths, others = _lists(layout, folder, whose)
    samples, again = without_doubles(
        sample for part, path in paths.items() for sample in lists.read(folder / path, part)
    )
    # drawn before files are looked for: the same on every machine
    split_of = _splits(layout, samples, split, seed)
    table, left_out = Table(layout, samples, split_of, _found(layout, samples, tree)).parted()
    if empty := [name for name in SPLITS if name not in table.splits]:
        raise UserError(f"{folder}: no sample of {' and '.join(empty)} has a file there; are they elsewhere?")
    with replacing(out) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(map(guarded, table.lines()))
    return [
        *told.lists(lists.name, list(paths.values()), others, again),
        *told.split(table, split, seed, drawn=not any(sample.part == "dev" for sample in samples)),
        *told.files(table, tree),
        *told.samples(table, left_out),
    ]


def _check_request(layout: Layout, folder: Path, out: Path, split: Split, seed: int) -> None:
    """Raises UserError for what cannot be asked for."""
    if split != "published" and split not in layout.splits:
        known = " or ".join(["published", *layout.splits])
        raise UserError(f"--split {split}: {layout.name} has no {split}s that could leak; expected {known}")
    if seed < 0:
        raise UserError(f"--seed: got {seed}, expected 0 or more")
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected the one that {layout.name} lies in")
    if out.suffix.lower() != ".csv":
        raise UserError(f"-o: got {out}, expected a name that ends in .csv")
    check_file(out, "-o")
    if out.exists():
        raise UserError(f"-o: {out} is there already; give another name, or take it away")


def _lists(layout: Layout, folder: Path, whose: str | None) -> tuple[Lists, dict[Part, str], list[str]]:
    """Returns the lists to take, their paths, and the names of others that are there. Raises UserError for none."""
    if whose is not None and whose not in (known := [lists.name for lists in layout.lists]):
        raise UserError(f"--list: {layout.name} has no lists of {shown(whose, 40)}; expected {', '.join(known)}")
    there = [(lists, paths) for lists in layout.lists if (paths := lists.found(folder))]
    for lists, paths in there:
        if whose in (None, lists.name):
            return lists, paths, [other.name for other, _ in there if other is not lists]
    looked_for = [f"  {lists.told()}" for lists in layout.lists if whose in (None, lists.name)]
    also = told.unread(layout, folder)
    raise UserError(f"{folder}: holds no lists of {layout.name}; looked for", [*looked_for, *also])


def _splits(layout: Layout, samples: Sequence[Listed], split: Split, seed: int) -> list[str]:
    """Returns the split of each sample. Raises UserError if there are too few."""
    if split == "published":
        return splits.published(samples, seed)
    return splits.by_group(samples, layout.splits[split], seed)


def _found(layout: Layout, samples: Sequence[Listed], tree: Tree) -> list[Found]:
    """Returns the modalities that are there. Raises UserError, with what was looked for, if there is none."""
    found = [column for modality in layout.modalities if (column := find(modality, samples, tree))]
    if not found:
        looked_for = [f"  {m.name}: {source.told()}" for m in layout.modalities for source in m.sources]
        what = f"{tree.root}: holds no file of the {len(samples):,} samples that the lists name; looked for"
        raise UserError(what, [*looked_for, *told.unread(layout, tree.root), *told.outside(tree)])
    return found
