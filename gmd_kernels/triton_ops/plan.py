"""Cuts the elements of all parameters into pieces of about equal size, one for each program of a kernel.

The cuts depend on shapes and alignment alone, and so do the order of the sums and their last bits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

TILE = 1024  # elements; pieces are cut at multiples of it, so that aligned gradients are aligned in every piece

Kind = tuple[torch.dtype, bool]  # of a parameter; whether all that is read and written begins at a multiple of 16 bytes


class Launch(NamedTuple):
    """One launch of a kernel, for all parameters of one kind.

    Attributes:
        kind: the kind.
        segments: (parameter, first element, behind the last element).
        pieces: (first segment, behind the last segment, slot of the partial sums); each within one group.
    """

    kind: Kind
    segments: list[tuple[int, int, int]]
    pieces: list[tuple[int, int, int]]


class Plan(NamedTuple):
    """The launches for all parameters.

    Attributes:
        launches: one for each kind, in any order.
        bounds: [K + 1], group k's partial sums are in the slots bounds[k] to bounds[k + 1].
    """

    launches: list[Launch]
    bounds: list[int]


def make_plan(
    sizes: Sequence[int], kinds: Sequence[Kind | None], groups: Sequence[int], num_groups: int, num_programs: int
) -> Plan:
    """Cuts each kind's parameters into about `num_programs` pieces.

    sizes: [P], in elements; kinds: [P], None where there are no elements; groups: [P], or empty for one group of all.
    """
    members: dict[Kind, list[int]] = {}
    for p in sorted((p for p, size in enumerate(sizes) if size), key=groups.__getitem__ if groups else None):
        kind = kinds[p]
        assert kind is not None, "a parameter with elements is of some kind"
        members.setdefault(kind, []).append(p)
    cuts = [(kind, *_cut(params, sizes, groups, num_programs)) for kind, params in members.items()]
    # slots are numbered group by group, across the launches
    owners = [(group, n, i) for n, (_, _, pieces) in enumerate(cuts) for i, (_, _, group) in enumerate(pieces)]
    slots = {(n, i): slot for slot, (_, n, i) in enumerate(sorted(owners))}
    launches = [
        Launch(kind, segments, [(first, last, slots[n, i]) for i, (first, last, _) in enumerate(pieces)])
        for n, (kind, segments, pieces) in enumerate(cuts)
    ]
    counts = [0] * (num_groups + 1)
    for group, _, _ in owners:
        counts[group + 1] += 1
    for group in range(num_groups):
        counts[group + 1] += counts[group]
    return Plan(launches, counts)


def _cut(
    params: Sequence[int], sizes: Sequence[int], groups: Sequence[int], num_programs: int
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Returns segments and pieces (first segment, behind the last, group) of parameters in the order of groups."""
    tiles = sum(-(-sizes[p] // TILE) for p in params)
    share = -(-tiles // num_programs)  # tiles of a piece
    segments: list[tuple[int, int, int]] = []
    pieces: list[tuple[int, int, int]] = []
    room, group = 0, -1  # no piece is begun
    for p in params:
        begin = 0
        while begin < sizes[p]:
            if room == 0 or (groups and groups[p] != group):
                room, group = share, groups[p] if groups else 0
                pieces.append((len(segments), len(segments), group))
            end = min(sizes[p], begin + room * TILE)
            segments.append((p, begin, end))
            pieces[-1] = (pieces[-1][0], len(segments), group)
            room -= -(-(end - begin) // TILE)
            begin = end
    return segments, pieces
