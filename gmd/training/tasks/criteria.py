"""Losses and metrics of predictions on sequences, where padded steps have no target.

Predictions are [..., C], floating. Targets are [...]: float32 scores (C = 1), NaN where there is none, or int64
classes, -100 where there is none. All return a scalar, the mean over the targets that there are. Losses have a
gradient, the others have none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_CLASS = -100


def absolute_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean |prediction - score|, a loss."""
    return _mean_over_valid(_errors(predictions, targets), targets.isfinite())


def negative_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns minus the mean |prediction - score|, a metric: higher is better."""
    return -absolute_error(predictions.detach(), targets)


def closeness(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean exp(-|prediction - score|), in [0, 1]."""
    return _mean_over_valid(_errors(predictions.detach(), targets).neg().exp(), targets.isfinite())


def cross_entropy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean cross-entropy of softmax(predictions) and the classes, a loss."""
    return F.cross_entropy(predictions.flatten(0, -2), targets.flatten(), ignore_index=NO_CLASS)


def accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the share of targets whose class has the highest prediction, a metric."""
    return _mean_over_valid((predictions.detach().argmax(dim=-1) == targets).float(), targets != NO_CLASS)


def probability(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean probability that softmax(predictions) gives the right class, in [0, 1]."""
    there = targets != NO_CLASS
    classes = torch.where(there, targets, 0).unsqueeze(-1)
    return _mean_over_valid(predictions.detach().softmax(dim=-1).gather(-1, classes).squeeze(-1), there)


def targets_there(targets: Tensor) -> int:
    """Returns how many targets there are, which is what the losses here are means over."""
    return int((targets.isfinite() if targets.is_floating_point() else targets != NO_CLASS).sum())


def _errors(predictions: Tensor, targets: Tensor) -> Tensor:
    # the difference to a NaN would send a NaN back through what is masked
    return (predictions.squeeze(-1) - targets.nan_to_num(0.0)).abs()


def _mean_over_valid(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, 0).sum() / valid.sum()
