"""nnU-Net's loss for each subset of the modalities, with all resolutions of a modality as one output.

With deep supervision the network returns logits at several resolutions. For the surgery to go through each modality's
path at once, they are one tensor: every resolution flattened, and all of them in one row. The mean over modalities is
then one of rows, and the loss takes it apart again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from gmd.data.pairs import Pairs
from gmd.subsets import Subset, all_subsets

Criterion = Callable[[Tensor, Tensor], Tensor]  # (logits [b, R, *spatial], targets [b, ...]) -> scalar


@dataclass(frozen=True)
class ScaledLoss:
    """A loss at several resolutions: the sum of what the criterion says at each, times its weight.

    Attributes:
        criterion: of one resolution.
        weights: of the resolutions, the finest first; one of weight 0 takes no part, and its layer gets no gradient.
    """

    criterion: Criterion
    weights: tuple[float, ...] = (1.0,)

    def of_scales(self, scales: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Returns the loss, a scalar. scales: logits [b, R, *spatial] of those that take part, and targets for each."""
        weights = [weight for weight in self.weights if weight]
        return torch.stack([w * self.criterion(s, t) for w, s, t in zip(weights, scales, targets, strict=True)]).sum()

    def taking_part(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Returns what belongs to the resolutions that have a weight, of logits or targets of all."""
        return [scale for scale, weight in zip(scales, self.weights, strict=True) if weight]


@dataclass(frozen=True)
class FlatOutputs:
    """The logits of each modality at all resolutions that take part, in one row for each sample.

    Attributes:
        pairs: modality -> [n, F] of the n samples that have it.
        shapes: [R, *spatial] of each resolution; F is how many numbers these have together.
    """

    pairs: Pairs[Tensor]
    shapes: list[torch.Size]

    @classmethod
    def of(
        cls, outputs: Mapping[str, Sequence[Tensor]], rows: Mapping[str, Sequence[int]], num_samples: int
    ) -> "FlatOutputs":
        """Makes it of modality -> logits [n, R, *spatial] of each resolution that takes part, of the samples `rows`."""
        flat = {m: torch.cat([scale.flatten(1) for scale in scales], dim=1) for m, scales in outputs.items()}
        shapes = [scale.shape[1:] for scale in next(iter(outputs.values()))]
        return cls(Pairs(num_samples, {m: list(members) for m, members in rows.items()}, flat), shapes)

    def scales_of(self, flat: Tensor) -> list[Tensor]:
        """Returns rows [b, F] as logits [b, R, *spatial] of each resolution."""
        parts = flat.split([prod(shape) for shape in self.shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def subset(self, names: Sequence[str]) -> tuple[list[Tensor], list[int]]:
        """Returns the mean logits of a subset, at each resolution, of the samples that have all of it, and these."""
        fused, members = self.pairs.fuse(tuple(names))
        return self.scales_of(fused), members


def subset_losses(outputs: FlatOutputs, targets: Sequence[Tensor], loss: ScaledLoss) -> dict[Subset, Tensor]:
    """Returns the loss of each subset that a sample of the batch has, over the samples that have all of it.

    Args:
        outputs: of the batch.
        targets: [B, ...] of each resolution that takes part.
        loss: of all resolutions.
    """
    losses = {}
    for subset in all_subsets(tuple(outputs.pairs.values)):
        if outputs.pairs.having(subset):
            scales, members = outputs.subset(subset)
            losses[subset] = loss.of_scales(scales, of_rows(targets, members))
    return losses


def full_loss(outputs: FlatOutputs, targets: Sequence[Tensor], loss: ScaledLoss) -> Tensor:
    """Returns the one loss of the batch where each sample is predicted from all the modalities it has."""
    return loss.of_scales(outputs.scales_of(outputs.pairs.fuse_present()), targets)


def of_rows(targets: Sequence[Tensor], members: Sequence[int]) -> list[Tensor]:
    """Returns the targets of some rows of the batch, ascending, at each resolution."""
    if len(members) == len(targets[0]):
        return list(targets)
    chosen = torch.tensor(members, device=targets[0].device)
    return [target.index_select(0, chosen) for target in targets]
