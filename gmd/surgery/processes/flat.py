"""Gradients end to end in one buffer, which is cut into a shard for each process."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from gmd.surgery._kept import is_dense
from gmd.surgery.processes.waiting import waiting

# torch 2.13 has new names for them, and warns of the old ones
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Flat:
    """Where each parameter of one type lies in a buffer, and which part of it is this process's shard.

    Elements lie in the order of the parameter's memory, so that a gradient is copied straight through. The buffer is
    padded until all shards have one length.

    Args:
        params: of one type, on one device.
        group: the processes.
    """

    def __init__(self, params: Sequence[Tensor], group: dist.ProcessGroup):
        self._group = group
        self._like = [(param.shape, param.stride() if is_dense(param) else None) for param in params]
        self._first = params[0].detach()  # whose type and device the buffers have
        ends = list(accumulate((param.numel() for param in params), initial=0))
        self._spans = list(pairwise(ends))
        self.shard_size = max(1, -(-ends[-1] // group.size()))
        self._begin = dist.get_rank(group) * self.shard_size

    def buffer(self) -> Tensor:
        """Returns a buffer for all shards; what is in it is left open."""
        return self._first.new_empty(self.shard_size * self._group.size())

    def shard(self) -> Tensor:
        """Returns a shard of zeros."""
        return self._first.new_zeros(self.shard_size)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Returns the parameters' places in a buffer, with their shapes and strides."""
        return [
            buffer[begin:end].view(shape) if strides is None else buffer[begin:end].as_strided(shape, strides)
            for (begin, end), (shape, strides) in zip(self._spans, self._like, strict=True)
        ]

    def pieces(self, shard: Tensor) -> list[Tensor]:
        """Returns what lies in this process's shard of each parameter, a vector that may be empty."""
        bounds = [(begin - self._begin, end - self._begin) for begin, end in self._spans]
        return [shard[min(max(b, 0), len(shard)) : min(max(e, 0), len(shard))] for b, e in bounds]

    def filled(self, row: Sequence[Tensor | None]) -> Tensor:
        """Returns a buffer with a gradient of each parameter; None counts as zero."""
        buffer = self.buffer()
        pairs = list(zip(self.views(buffer), row, strict=True))
        if absent := [view for view, gradient in pairs if gradient is None]:
            torch._foreach_zero_(absent)
        there = [(view, gradient.to(view.dtype)) for view, gradient in pairs if gradient is not None]
        if there:
            torch._foreach_copy_([view for view, _ in there], [gradient for _, gradient in there])
        buffer[self._spans[-1][1] :].zero_()
        return buffer

    def scattered(self, buffer: Tensor, what: str) -> Tensor:
        """Adds up all processes' buffers, and returns this process's shard of the sum, [shard_size].

        gloo's own reduce-scatter adds up everything everywhere: several times as slow, and with a copy of the buffer.
        """
        shard = self.shard()
        with waiting(self._group, what):
            if dist.get_backend(self._group) != "gloo":
                _reduce_scatter(shard, buffer, group=self._group)
                return shard
            received = torch.empty_like(buffer)
            dist.all_to_all_single(received, buffer, group=self._group)
        return torch.sum(received.view(self._group.size(), -1), dim=0, out=shard)

    def gathered(self, shard: Tensor) -> list[Tensor]:
        """Returns each parameter's whole gradient, from the shards of all processes."""
        buffer = self.buffer()
        with waiting(self._group, "the merged gradient"):
            _all_gather(buffer, shard, group=self._group)
        return self.views(buffer)
