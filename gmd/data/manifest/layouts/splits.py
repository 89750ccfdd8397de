"""Who trains, validates and tests: as published, or such that no speaker or dialogue is in two splits; and what leaks.

Splits are drawn from the lists alone, never from the files that happen to be there: on every machine, the same seed
gives the same splits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gmd.data.manifest.layouts.listed import Listed
from gmd.errors import UserError

PUBLISHED = {"train": "train", "dev": "validation", "test": "test"}
HELD_OUT = 0.1  # of the training samples, or of the groups, validates
TESTED = 0.2  # of the groups tests

Leak = tuple[str, int, int]  # a kind of group, how many of it are in test, and how many of these elsewhere too


def published(samples: Sequence[Listed], seed: int) -> list[str]:
    """Returns the split of each sample as the lists have it; a tenth of the training samples validates if none does.

    These are drawn by the seed, class by class, so that none leaves the training. Raises UserError if too few.
    """
    splits = [PUBLISHED[sample.part] for sample in samples]
    if "validation" in splits:
        return splits
    rng = np.random.default_rng(seed)
    training = [i for i, split in enumerate(splits) if split == "train"]
    by_class: dict[str, list[int]] = {}
    for i in sorted(training, key=lambda i: samples[i].name):
        by_class.setdefault(samples[i].label, []).append(i)
    for _, members in sorted(by_class.items()):
        count = max(1, round(HELD_OUT * len(members))) if len(members) > 1 else 0
        for i in rng.permutation(members)[:count]:
            splits[i] = "validation"
    if "validation" not in splits:
        raise UserError(f"--split published: no class of the {len(training)} training samples has one to validate")
    return splits


def by_group(samples: Sequence[Listed], group: str, seed: int) -> list[str]:
    """Returns the split of each sample, whole groups in one split: a fifth of them tests, a tenth validates.

    group: what is not cut apart, as `groups` of the samples has it
    Raises UserError if there are fewer than three.
    """
    names = sorted({sample.groups[group] for sample in samples})
    if len(names) < 3:
        raise UserError(f"the samples are of {len(names)} {group}s, expected at least three to split them by {group}")
    tested, held_out = (max(1, round(part * len(names))) for part in (TESTED, HELD_OUT))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    split_of = dict.fromkeys(order, "train")
    split_of |= dict.fromkeys(order[:tested], "test")
    split_of |= dict.fromkeys(order[tested : tested + held_out], "validation")
    return [split_of[sample.groups[group]] for sample in samples]


def leaks(samples: Sequence[Listed], splits: Sequence[str], groups: Sequence[str]) -> list[Leak]:
    """Returns for each kind of group how many are in test, and how many of these train or validate as well."""
    found = []
    for group in groups:
        members: Mapping[bool, set[str]] = {True: set(), False: set()}
        for sample, split in zip(samples, splits, strict=True):
            if name := sample.groups.get(group):
                members[split == "test"].add(name)
        found.append((group, len(members[True]), len(members[True] & members[False])))
    return found


def classes_apart(samples: Sequence[Listed], splits: Sequence[str]) -> list[str]:
    """Returns the classes that no training sample has."""
    trained = {sample.label for sample, split in zip(samples, splits, strict=True) if split == "train"}
    return sorted({sample.label for sample in samples} - trained)


def sizes(splits: Sequence[str]) -> str:
    """Returns how many samples each split has, as text."""
    counts = Counter(splits)
    return ", ".join(f"{counts[split]:,} {split}" for split in PUBLISHED.values())
