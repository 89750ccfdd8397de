"""What every engine does with Gramians and weights, whichever way gradients lie on the processes."""

import torch.distributed as dist
from torch import Tensor

from gmd.surgery.processes.waiting import waiting
from gmd_kernels.pieces import all_reduced, of_the_first


class Joined:
    """Adds up what the processes of a group have found.

    group: the processes
    """

    def __init__(self, group: dist.ProcessGroup):
        self.group = group

    def joined(self, grams: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Adds up the processes' Gramians [K, T, T], and joins a table of bools on the CPU; in one all-reduce."""
        with waiting(self.group, "the Gramian"):
            total, reached = all_reduced(grams, self.group, reach.to(grams.device))
        assert reached is not None, "what was asked for"
        return total, reached.cpu()

    def agreed(self, weights: Tensor) -> Tensor:
        """Returns the weights that the first process has found."""
        with waiting(self.group, "the weights"):
            return of_the_first(weights, self.group)
