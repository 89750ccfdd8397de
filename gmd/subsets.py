"""The non-empty subsets of the modalities: one objective each."""

from collections.abc import Sequence
from itertools import combinations

Subset = tuple[str, ...]


def all_subsets(modalities: Sequence[str]) -> list[Subset]:
    """Returns the 2^M - 1 non-empty subsets of M modalities, small ones first, members in the given order."""
    return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]


def subset_name(subset: Subset) -> str:
    """Returns the name of a subset in files, tables and messages, its members joined by "+"."""
    return "+".join(subset)
