"""Gradients in pieces: each of several processes has a part of every gradient, or a copy of a part.

Any partition of the coordinates gives the Gramian as a sum, G = sum over the parts of J_part J_part^T. So a Gramian of
local pieces and one all-reduce of T * T numbers are all that it takes, whoever has cut the gradients: fully_shard,
tensor parallelism, or a flat buffer that was scattered. A piece that several processes hold counts once: each of them
divides what it finds by the number of copies.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from gmd_kernels.contract import GradientKernels
from gmd_kernels.gradients import Gradients, Rows, check_lists, tell_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Pieces(NamedTuple):
    """What this process has of T gradients for P parameters.

    Attributes:
        rows: [T][P] plain tensors.
        copies: [P], how many processes of the group hold the same piece.
        wholes: [P], the first gradient of a parameter that is a DTensor; None for plain tensors.
    """

    rows: Rows
    copies: Sequence[int]
    wholes: Sequence["DTensor | None"]


def is_dtensor(g: object) -> TypeGuard["DTensor"]:
    """Returns whether something is a DTensor; there is none before torch's module of them was imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(g, module.DTensor)


def pieces_of(rows: Rows, group: "dist.ProcessGroup") -> Pieces:
    """Returns the pieces that this process has.

    Where all gradients are plain tensors, each is a piece of its own. Beside DTensors, a plain tensor is a copy that
    every process of the group has.

    Raises:
        TypeError, ValueError: `group` is no process group, or one that a DTensor's mesh does not fit into; gradients of
            one parameter that are DTensors in part only.
    """
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"reduce: expected a torch.distributed process group, got {type(group).__name__}")
    check_lists(rows)
    local, wholes = _local_rows(rows)
    if all(whole is None for whole in wholes):
        return Pieces(rows, [1] * len(wholes), wholes)
    copies = [group.size() if whole is None else _copies(whole, group, p) for p, whole in enumerate(wholes)]
    return Pieces(local, copies, wholes)


def local_pieces(gradients: Gradients) -> Pieces | None:
    """Returns the pieces of DTensors for what needs no other process; None if there is no DTensor."""
    local, wholes = _local_rows(gradients.rows)
    return None if all(whole is None for whole in wholes) else Pieces(local, [], wholes)


def _local_rows(rows: Rows) -> tuple[Rows, list["DTensor | None"]]:
    """Returns this process's pieces, [T][P], and the first DTensor of each parameter."""
    columns: list[Sequence[Tensor | None]] = []
    wholes: list[DTensor | None] = []
    for p, column in enumerate(zip(*rows, strict=True)):
        whole = next((g for g in column if is_dtensor(g)), None)
        if whole is not None:
            whole = _without_partial(whole)
            column = tuple(_local(g, whole, f"grads[{k}][{p}]") for k, g in enumerate(column))
        columns.append(column)
        wholes.append(whole)
    return list(map(list, zip(*columns, strict=True))) or [[] for _ in rows], wholes


def gram_of_pieces(
    kernels: GradientKernels,
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    copies: Sequence[int],
) -> Tensor:
    """Returns this process's share of the Gramians, [K, T, T] float64; all shares add up to them."""
    kinds = sorted(set(copies))
    if kinds in ([], [1]):
        return kernels.gram(gradients, groups, num_groups)
    groups = groups or [0] * len(copies)
    parts = [group * len(kinds) + kinds.index(copy) for group, copy in zip(groups, copies, strict=True)]
    grams = kernels.gram(gradients, parts, num_groups * len(kinds))
    shares = (
        grams.view(num_groups, len(kinds), *grams.shape[1:]) / torch.tensor(kinds, device=grams.device)[:, None, None]
    )
    return shares.sum(dim=1)


def all_reduced(
    grams: Tensor, group: "dist.ProcessGroup", reached: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Adds up all processes' shares of Gramians, [K, T, T], and tells which gradients any process has.

    Both travel in one all-reduce. The Gramians are symmetric to the bit, and the same on all processes.

    reached: [T, P] bool on the Gramians' device, which gradients this process has; None: nobody asks.
    """
    packed = grams.flatten() if reached is None else torch.cat([grams.flatten(), reached.flatten().to(grams.dtype)])
    dist.all_reduce(packed, group=group)
    total = packed[: grams.numel()].view_as(grams)
    # an entry and its mirror image may have been added up in another order of the processes
    total = total.triu() + total.triu(1).mT
    return total, None if reached is None else packed[grams.numel() :].view_as(reached) > 0


def of_the_first(weights: Tensor, group: "dist.ProcessGroup") -> Tensor:
    """Returns the weights that the group's first process has, which may have drawn others or be of another make."""
    weights = weights.contiguous().clone()
    dist.broadcast(weights, group=group, group_src=0)
    return weights


def like_wholes(merged: Sequence[Tensor | None], wholes: Sequence["DTensor | None"]) -> list[Tensor | None]:
    """Returns merged pieces as DTensors, where the gradients were."""
    return [_as_whole(piece, whole) for piece, whole in zip(merged, wholes, strict=True)]


def refuse_dtensors(gradients: Gradients) -> None:
    """Raises a TypeError if one of the gradients is a DTensor, for calls that know of no process group."""
    for k, row in enumerate(gradients.rows):
        for p, g in enumerate(row):
            if is_dtensor(g):
                raise TypeError(
                    f"grads[{k}][{p}]: a DTensor, {g.placements} on {g.device_mesh}, of which this process has a part; "
                    "give reduce=, the process group over which Gramians are to be added up"
                )


def _as_whole(piece: Tensor | None, whole: "DTensor | None") -> Tensor | None:
    if piece is None or whole is None:
        return piece
    return type(whole).from_local(
        piece, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def _without_partial(whole: "DTensor") -> "DTensor":
    """Returns a DTensor with the sums done that its processes hold terms of."""
    from torch.distributed.tensor import Replicate

    if not any(placement.is_partial() for placement in whole.placements):
        return whole
    return whole.redistribute(
        placements=[Replicate() if placement.is_partial() else placement for placement in whole.placements]
    )


def _local(g: Tensor | None, like: "DTensor", name: str) -> Tensor | None:
    """Returns this process's piece of a gradient, cut as `like` is."""
    if g is None:
        return None
    if not is_dtensor(g) or g.device_mesh != like.device_mesh:
        raise ValueError(
            f"{name}: expected a DTensor on {like.device_mesh}, as the gradients before it, got {tell_of(g)}"
        )
    if tuple(g.placements) != tuple(like.placements):
        g = g.redistribute(placements=like.placements)
    return g.to_local()


def _copies(whole: "DTensor", group: "dist.ProcessGroup", p: int) -> int:
    """Returns how many processes of the group hold the piece that this one has."""
    mesh = whole.device_mesh
    if group.size() % mesh.size() != 0:
        raise ValueError(
            f"reduce: parameter {p} lies on a mesh of {mesh.size()} processes, expected a group that holds all of its "
            f"copies, got one of {group.size()}"
        )
    copies = group.size() // mesh.size()  # in the dimensions that this parameter's mesh does not have
    for size, placement in zip(mesh.shape, whole.placements, strict=True):
        copies *= 1 if placement.is_shard() or _is_strided(placement) else size
    return copies


def _is_strided(placement: object) -> bool:
    """Returns whether a placement is the shard that tensor parallelism leaves under fully_shard."""
    return "Strided" in type(placement).__name__
