"""Whole gradients that each process has made of its own batch, added up and cut as `fully_shard` cuts parameters.

A unit's parameter is cut along one dimension into chunks of ceil(n / R), as `torch.chunk` does it: the last may be
short or empty. In a buffer with a row for each process lie the chunks of all parameters, so that one reduce-scatter is
enough for the gradient of an objective. Where shards are copied besides (HSDP), an all-reduce over the copies follows.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from gmd.surgery.processes.waiting import waiting
from gmd_kernels.pieces import is_dtensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

# torch 2.13 has a new name for it, and warns of the old one
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def data_dims(param: "DTensor", leaf: Tensor) -> int:
    """Returns how many of a sharded parameter's mesh dimensions, its first ones, have batches of their own."""
    return param.device_mesh.ndim - (leaf.device_mesh.ndim if is_dtensor(leaf) else 0)


def local_gradient(gradient: Tensor, leaf: Tensor) -> Tensor:
    """Returns what this process has of a gradient that is cut as its parameter is, by tensor parallelism or not."""
    if not is_dtensor(gradient) or not is_dtensor(leaf):
        return gradient
    if tuple(gradient.placements) != tuple(leaf.placements):
        gradient = gradient.redistribute(placements=leaf.placements)
    return gradient.to_local()


class Chunks:
    """Where the chunks of some parameters' gradients lie; all of one type, cut over the same processes.

    Args:
        params: the sharded parameters.
        leaves: the whole ones, whose gradients are to be cut.
    """

    def __init__(self, params: Sequence["DTensor"], leaves: Sequence[Tensor]):
        self._params, self._leaves = params, leaves
        mesh, placements = params[0].device_mesh, params[0].placements[: data_dims(params[0], leaves[0])]
        [at] = [i for i, placement in enumerate(placements) if not placement.is_replicate()]
        self._group = mesh.get_group(at)
        self._copies = [mesh.get_group(i) for i, placement in enumerate(placements) if placement.is_replicate()]
        self._dims = [param.placements[at].dim for param in params]  # type: ignore[attr-defined]  # a shard's
        self._offsets, self._size = self._laid_out()

    @property
    def num_shards(self) -> int:
        """Over how many processes the parameters are cut."""
        return self._group.size()

    def _laid_out(self) -> tuple[list[int], int]:
        """Returns where each parameter's chunk begins in a row, and the length of a row."""
        offsets, end = [], 0
        for leaf, dim in zip(self._leaves, self._dims, strict=True):
            whole = leaf.to_local() if is_dtensor(leaf) else leaf
            offsets.append(end)
            end += self._chunk(whole.shape[dim]) * (whole.numel() // max(whole.shape[dim], 1))
        return offsets, end

    def _chunk(self, length: int) -> int:
        return -(-length // self._group.size())

    def scattered(self, row: Sequence[Tensor | None], what: str) -> list[Tensor]:
        """Adds up all processes' gradients, and returns this process's shards of the sums.

        row: a gradient of each parameter; None counts as zero. what: it is, for messages.
        """
        first = self._params[0].to_local()
        device = self._leaves[0].device
        buffer = torch.zeros(self._group.size(), self._size, dtype=first.dtype, device=device)
        self._fill(buffer, row)
        shard = buffer.new_empty(self._size)
        with waiting(self._group, what):
            _reduce_scatter(shard, buffer.view(-1), group=self._group)
            for group in self._copies:
                dist.all_reduce(shard, group=group)
        shard = shard.to(first.device)  # with CPU offloading
        local = [param.to_local() for param in self._params]
        return [shard[o : o + own.numel()].view(own.shape) for o, own in zip(self._offsets, local, strict=True)]

    def _fill(self, buffer: Tensor, row: Sequence[Tensor | None]) -> None:
        """Copies the chunks of gradients to their places."""
        places, chunks = [], []
        for gradient, leaf, dim, offset in zip(row, self._leaves, self._dims, self._offsets, strict=True):
            if gradient is None:
                continue
            found = local_gradient(gradient, leaf).split(max(self._chunk(leaf_size(leaf, dim)), 1), dim=dim)
            for place, chunk in zip(buffer, found, strict=False):  # the last processes may have none
                places.append(place[offset : offset + chunk.numel()].view(chunk.shape))
                chunks.append(chunk.to(buffer.dtype))
        if places:
            torch._foreach_copy_(places, chunks)


def leaf_size(leaf: Tensor, dim: int) -> int:
    """Returns how long a parameter is on this process along a dimension."""
    return (leaf.to_local() if is_dtensor(leaf) else leaf).shape[dim]
