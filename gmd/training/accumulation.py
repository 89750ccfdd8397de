"""Batches whose gradients add up to one step of the optimizer.

Each batch goes through the method by itself, in memory of its own. Then a batch counts by its samples, so that the step
is that of one batch with all of these samples, where losses are means over samples and each sample has all modalities.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from gmd.data.pairs import Pairs
from gmd.together import summed


def shares(batches: Iterable[Pairs]) -> list[float]:
    """Returns each batch's share of the samples of all, those of all processes."""
    own = [len({sample for samples in batch.samples.values() for sample in samples}) for batch in batches]
    counts = summed(own, "the sizes of the batches of a step")
    return [count / sum(counts) for count in counts]


def collect(total: dict[nn.Parameter, Tensor], params: Iterable[nn.Parameter], share: float) -> None:
    """Adds a share of `.grad` to the total of each parameter, and takes it away from there."""
    for param in params:
        if param.grad is None:
            continue
        if param in total:
            total[param].add_(param.grad, alpha=share)
        else:
            total[param] = param.grad.mul_(share)
        param.grad = None
