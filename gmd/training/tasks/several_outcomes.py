"""Losses and metrics of several outcomes, of which a sample may have labels for some only."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.scoring.outcomes import Outcomes

Each = Callable[[Tensor, Tensor], Tensor]  # (predictions [b, C], targets [b]) -> [b], a number for each sample


@dataclass(frozen=True)
class SeveralOutcomes:
    """A criterion: the mean over the outcomes that a sample has a label of, then over the samples that have one.

    Attributes:
        outcomes: of which the predictions stand side by side.
        of_classes: the criterion of an outcome with classes, sample by sample.
        of_numbers: that of a number.
    """

    outcomes: Outcomes
    of_classes: Each
    of_numbers: Each

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Returns a scalar, 0 if there is no label. predictions: [b, W]; targets: [b, O], NaN without a label"""
        labelled = targets.isfinite()
        known = targets.nan_to_num(0.0)  # a NaN would come back as one through what is masked
        parts = predictions.split([outcome.width for outcome in self.outcomes], dim=1)
        values = [
            self.of_numbers(part[:, 0], column) if outcome.classes is None else self.of_classes(part, column.long())
            for outcome, part, column in zip(self.outcomes, parts, known.unbind(dim=1), strict=True)
        ]
        of_samples = torch.where(labelled, torch.stack(values, dim=1), 0).sum(dim=1) / labelled.sum(dim=1).clamp(min=1)
        return of_samples.sum() / labelled.any(dim=1).sum().clamp(min=1)


def criteria_of(outcomes: Outcomes) -> tuple[SeveralOutcomes, SeveralOutcomes, SeveralOutcomes]:
    """Returns the loss, with a gradient; the metric and the score, see `Task`, without one."""
    return (
        SeveralOutcomes(outcomes, lambda logits, classes: F.cross_entropy(logits, classes, reduction="none"), _error),
        SeveralOutcomes(outcomes, _right, lambda numbers, targets: -_error(numbers.detach(), targets)),
        SeveralOutcomes(outcomes, _probability, lambda numbers, targets: (-_error(numbers.detach(), targets)).exp()),
    )


def samples_labelled(targets: Tensor) -> int:
    """Returns how many samples have a label of an outcome, which is what a criterion is the mean over."""
    return int(targets.isfinite().any(dim=1).sum())


def _error(numbers: Tensor, targets: Tensor) -> Tensor:
    return (numbers - targets).abs()


def _right(logits: Tensor, classes: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=1) == classes).float()


def _probability(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.detach().softmax(dim=1).gather(1, classes[:, None])[:, 0]
