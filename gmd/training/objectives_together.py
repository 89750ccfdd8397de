"""The objectives of a step at which several processes work, each on its share of the batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gmd.data.pairs import Pairs
from gmd.models.multimodal import MultimodalNetwork
from gmd.subsets import Subset, all_subsets
from gmd.together import summed

Counts = dict[Subset, int]  # of each objective, the number of targets that this process's loss is the mean over
Found = Mapping[Subset, tuple[int, int]]  # of each objective of this process, its samples and its targets


@dataclass
class Objectives:
    """What a forward pass comes to.

    Attributes:
        losses: subset of the modalities -> loss.
        outputs: of the modalities, which the losses come from.
    """

    losses: dict[Subset, Tensor]
    outputs: Pairs[Tensor]


class Forward(nn.Module):
    """A network with its losses behind it: all that a step goes through, heads too, in one module.

    network: whose parameters these are, with a head that every loss goes through
    run: (inputs, targets) -> the losses and the outputs
    whole: whether there is one loss, on whatever modalities there are, and not one for each of their subsets
    """

    def __init__(self, network: MultimodalNetwork, run: Callable[[Pairs, Tensor], Objectives], whole: bool):
        super().__init__()
        self.network, self._run, self._whole = network, run, whole

    def forward(self, inputs: Pairs, targets: Tensor, counts: Counts) -> dict[Subset, Tensor]:
        """Returns a loss for each of the objectives, in their order: of those that count 0 here, a 0 on the network.

        inputs, targets: on the network's device; there may be none
        """
        found = self._run(inputs, targets) if inputs.num_samples else Objectives({}, inputs)
        own = dict(zip(counts, found.losses.values(), strict=False)) if self._whole else found.losses
        losses = {subset: own[subset] for subset, count in counts.items() if count}
        zero = 0.0 * self._sum_of_head()  # which all losses go through: it reaches nothing that a loss does not
        return {subset: losses.get(subset, zero) for subset in counts}

    def _sum_of_head(self) -> Tensor:
        params = [param for param in self.network.head.parameters() if param.requires_grad]
        return torch.stack([param.sum() for param in params]).sum()


def data_parallel(forward: Forward) -> DistributedDataParallel:
    """Returns the module in torch's DistributedDataParallel, which gives all processes the first one's weights.

    Buffers stay as they are: what the steps of a process count in them, BatchNorm's statistics, is its own.
    """
    names = signature(DistributedDataParallel.__init__).parameters
    of_buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # until torch 2.12
    options: dict[str, Any] = {of_buffers: False}
    return DistributedDataParallel(forward, find_unused_parameters=True, **options)


def agreed_subsets(found: Found, modalities: Sequence[str], what: str) -> tuple[Counts, list[Subset]]:
    """Returns what this process has of the objective of each subset of the modalities, and which of them there are.

    All subsets are counted, at every step, so that each process knows all objectives from the first step on and has
    them in one order. Of an objective whose samples have no target in any process, whose loss is 0, the samples count.

    found: the objectives of this process; modalities: all that the network has; what: it is for, as in `waited_for`
    """
    subsets = all_subsets(tuple(modalities))
    own = [found.get(subset, (0, 0)) for subset in subsets]
    total = summed([number for pair in own for number in pair], what)
    samples, targets = total[::2], total[1::2]
    counts = {subset: pair[1] if some else pair[0] for subset, pair, some in zip(subsets, own, targets, strict=True)}
    return counts, [subset for subset, some in zip(subsets, samples, strict=True) if some]


def agreed_whole(
    found: tuple[int, int], present: Sequence[str], modalities: Sequence[str], what: str
) -> tuple[Counts, list[Subset]]:
    """Returns the one objective of a step that has one for all modalities, those that some process has.

    found: the samples and targets of this process; present: its modalities; others as in `agreed_subsets`
    """
    _, targets, *having = summed([*found, *(m in present for m in modalities)], what)
    subset = tuple(m for m, processes in zip(modalities, having, strict=True) if processes)
    return {subset: found[1] if targets else found[0]}, [subset]
