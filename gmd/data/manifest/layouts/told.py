"""What the user of a manifest has to know of it: whose lists, which split, what leaks, and what is missing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gmd.data.manifest.layouts import splits
from gmd.data.manifest.layouts.layout import Layout
from gmd.data.manifest.layouts.places import Tree
from gmd.data.manifest.layouts.table import Table
from gmd.errors import shown

NAMED = 5  # samples of which something is told
CLASSES = 10  # that are told one by one


def lists(name: str, paths: Sequence[str], others: Sequence[str], again: int) -> list[str]:
    """Returns whose lists were taken, and which others are there; again: how many of their lines are doubles."""
    notes = [
        f"lists: {name} ({', '.join(paths)})" + "".join(f"; for those of {other}: --list {other}" for other in others)
    ]
    if again:
        notes.append(f"lists: {again:,} lines say again what another says, and are left out")
    return notes


def split(table: Table, name: str, seed: int, drawn: bool) -> list[str]:
    """Returns which split it is, and what leaks; drawn: whether no list says who validates."""
    layout, samples = table.layout, table.samples
    how = f"split: {name}"
    if name != "published":
        how += f", no {layout.splits[name]} in two splits, drawn with seed {seed}"
    elif drawn:
        how += f"; no list says who validates: a tenth of the training samples, drawn with seed {seed}"
    notes = [how]
    for group, tested, leaked in splits.leaks(samples, table.splits, layout.groups):
        what = "texts, word for word," if group == "text" else f"{group}s"
        if leaked:
            advice = f"; --split {group} keeps each in one split" if group in layout.splits else ""
            notes.append(f"leaks: {leaked:,} of the {tested:,} {what} of test train or validate too{advice}")
        elif tested:
            notes.append(f"leaks: none of the {tested:,} {what} of test trains or validates")
    if apart := splits.classes_apart(samples, table.splits):
        notes.append(f"classes that no training sample has, which training refuses: {shown(', '.join(apart), 200)}")
    return notes


def files(table: Table, tree: Tree) -> list[str]:
    """Returns what was found of each modality, what is missing, and what was looked for in vain."""
    there = {found.modality.name: found for found in table.found}
    notes = []
    for modality in table.layout.modalities:
        if (found := there.get(modality.name)) is None:
            notes.append(f"{modality.name}: none; looked for {', '.join(s.told() for s in modality.sources)}")
            continue
        lacking = [s.name for s, cell in zip(table.samples, found.cells, strict=True) if not cell]
        example = next(filter(None, found.cells))
        missing = f"; {len(lacking):,} are missing: {_first(lacking)}" if lacking else ""
        notes.append(f"{found.column}: {len(found.cells) - len(lacking):,}, such as {shown(example, 80)}{missing}")
    if len(there) < len(table.layout.modalities):
        notes += unread(table.layout, tree.root)
    return [*notes, *outside(tree)]


def unread(layout: Layout, root: Path) -> list[str]:
    """Returns what is there that is not read, and what to do about it."""
    return [f"{name} is there: {what}" for name, what in layout.unread.items() if any(root.glob(name))]


def outside(tree: Tree) -> list[str]:
    """Returns which links are not followed."""
    if not tree.outside:
        return []
    links = _first(sorted(tree.outside))
    return [f"links out of {tree.root} are not followed: {links}; give a folder that holds all, or copy the files"]


def samples(table: Table, left_out: Sequence[str]) -> list[str]:
    """Returns how many samples each split and each class has, and who was left out."""
    notes = []
    if left_out:
        notes.append(f"left out, without any modality: {len(left_out):,}: {_first(left_out)}")
    counts = Counter(sample.label for sample in table.samples)
    most = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items())[:CLASSES])
    notes.append(f"classes: {len(counts)}: {most}{', ...' if len(counts) > CLASSES else ''}")
    notes.append(f"samples: {splits.sizes(table.splits)}")
    return notes


def _first(names: Sequence[str]) -> str:
    """Returns the first few names as text."""
    return shown(", ".join(names[:NAMED]), 300) + (", ..." if len(names) > NAMED else "")
