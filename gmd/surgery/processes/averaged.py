"""What an ordinary backward pass leaves behind in several processes, where a DistributedDataParallel averages it."""

import torch
import torch.distributed as dist
from torch import Tensor

from gmd.surgery.processes.waiting import waiting


class Averaged:
    """Looks once at whether gradients were averaged: without a wrapper that does it, each process would go its own way.

    group: the processes
    """

    def __init__(self, group: dist.ProcessGroup):
        self._group = group
        self._seen = False

    def check(self, squared_norm: Tensor) -> None:
        """Raises a RuntimeError on all processes if `.grad` is not the same on all; waits for the device once in a run.

        squared_norm: [] float64, of what is in `.grad`
        """
        if self._seen:
            return
        ends = torch.stack([squared_norm, -squared_norm])
        with waiting(self._group, "a look at whether gradients were averaged"):
            dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=self._group)
        most, least = ends.tolist()
        least = -least
        if not -float("inf") < least <= most < float("inf"):  # an overflow tells nothing
            return
        if most - least > 1e-5 * most:
            raise RuntimeError(
                f"scope='global': .grad differs between processes after a backward pass (squared norms {least:.6g} to "
                f"{most:.6g}), expected it to be averaged: put the network into a DistributedDataParallel, and call "
                "backward outside of its no_sync()"
            )
        self._seen = True

    def norms(self, norms: Tensor, places: list[int], count: int, copies: int = 1) -> Tensor:
        """Returns the norms of the whole batch's gradient at this process's outputs, [m].

        norms: [m] float64, of this process's own, whose loss was multiplied by the number of processes; places: of
        these outputs among the `count` ones of all processes; copies: how many processes have the same batch
        """
        squares = norms.new_zeros(count)
        squares[places] = norms.square()
        with waiting(self._group, "the norms at the outputs"):
            dist.all_reduce(squares, group=self._group)
        return (squares * copies).sqrt()[places] / self._group.size()
