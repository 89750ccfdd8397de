"""The splits of a manifest, and the rows that validate where it does not say which."""

from collections.abc import Sequence

import numpy as np

from gmd.data import SPLITS
from gmd.data.manifest.table import Row
from gmd.errors import UserError

HELD_OUT = 10  # one of so many training rows is held out for validation


def members_of_splits(
    path: object, rows: Sequence[Row], numbers: Sequence[bool], seed: int
) -> tuple[dict[str, list[int]], list[str]]:
    """Returns the numbers of each split's rows, and a note if some of the training rows are held out for validation.

    numbers: whether each output is a number; of a single output of classes each gives its part of what is held out
    Raises UserError for a split without rows, and for too few rows to hold any out.
    """
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, row in enumerate(rows):
        members[row.split].append(i)
    if missing := [split for split in ("train", "test") if not members[split]]:
        sizes = ", ".join(f"{name}: {len(found)}" for name, found in members.items())
        raise UserError(f"{path}: no row of split {missing[0]} is left ({sizes} rows), expected one at least")
    if members["validation"]:
        return members, []
    stratified = list(numbers) == [False]
    groups = [rows[i].labels[:1] if stratified else () for i in members["train"]]
    held = _held_out(members["train"], groups, seed)
    if not held:
        raise UserError(f"{path}: has no row of split validation, and too few of train to hold one out; give it some")
    how = " of each class" if stratified else ""
    note = f"validation: {len(held)} of the {len(members['train'])} training rows, a part{how}, drawn by seed {seed}"
    return members | {"train": sorted({*members["train"]} - held), "validation": sorted(held)}, [note]


def _held_out(members: Sequence[int], groups: Sequence[tuple[str, ...]], seed: int) -> set[int]:
    """Draws one in HELD_OUT of each group, and of a group that has two members at least one, and keeps one at least."""
    rng, held = np.random.default_rng(seed), set[int]()
    for group in sorted(set(groups)):
        own = [member for member, other in zip(members, groups, strict=True) if other == group]
        count = min(len(own) - 1, max(1, round(len(own) / HELD_OUT)))
        held.update(rng.permutation(own)[:count].tolist())
    return held
