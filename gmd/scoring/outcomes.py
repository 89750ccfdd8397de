"""What is predicted of a sample, a class or a number, one or several of them, and the metrics that measure it."""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from statistics import fmean
from typing import NamedTuple

from torch import Tensor

from gmd.scoring.sequences.metrics import (
    CLASS_METRICS,
    class_metrics,
    number_metrics,
    score_metric_names,
    sentiment_metrics,
)

LEAST = -1.0  # of an R2 that others are averaged with


class Outcome(NamedTuple):
    """A class or a number that is predicted.

    Attributes:
        name: what tables call it; empty where there is one outcome only.
        classes: their names; None: a number.
        largest_score: the end of the scale of sentiment that the number is on, see `SequenceData`; None: on none.
        mean, std: of the number in training: what the network learns to predict has mean 0 and deviation 1.
    """

    name: str = ""
    classes: Sequence[str] | None = None
    largest_score: float | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """How many of the network's outputs tell it: one for each class, or one for a number."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return score_metric_names(self.largest_score) if self.classes is None else CLASS_METRICS

    @property
    def score_name(self) -> str:
        """The metric that the best epoch is chosen by, higher is better."""
        if self.classes is not None:
            return "accuracy"
        return "R2" if self.largest_score is None else "Acc-2 neg/non-neg"

    def titled(self, text: str) -> str:
        """Returns a heading with the outcome's name in front, if it has one: `valence MAE`."""
        return f"{self.name} {text}".strip()

    def score_of_nothing(self, targets: Tensor) -> float:
        """Returns what its score is if the same is predicted of every sample, at best; of an R2, 0, that of the mean.

        targets: [n] of the samples, n at least 1, none of them NaN
        """
        if self.classes is not None:
            return float(targets.long().bincount().max()) / len(targets)
        if self.largest_score is None:
            return 0.0
        share = float((targets >= 0).double().mean())
        return max(share, 1 - share)

    def measured(self, values: Tensor, targets: Tensor) -> dict[str, float]:
        """Measures predictions [n, width] of targets [n], those that are not NaN; all metrics are NaN without one."""
        labelled = targets.isfinite()
        values, targets = values[labelled], targets[labelled]
        if not len(targets):
            return dict.fromkeys(self.metric_names, nan)
        if self.classes is not None:
            return class_metrics(values, targets.long())
        if self.largest_score is None:
            return number_metrics(values[:, 0], targets)
        return sentiment_metrics(values[:, 0], targets, self.largest_score)


Outcomes = Sequence[Outcome]


def measured(values: Tensor, targets: Tensor, outcomes: Outcomes) -> dict[str, float]:
    """Measures each outcome by itself.

    values: [n, W], the predictions of the outcomes side by side, W the sum of their widths
    targets: [n] of one outcome, [n, O] of several, NaN where there is no label
    returns the metrics by name, with that of the outcome in front
    """
    parts = values.split([outcome.width for outcome in outcomes], dim=1)
    columns = targets.view(len(targets), -1).unbind(dim=1)
    metrics: dict[str, float] = {}
    for outcome, part, column in zip(outcomes, parts, columns, strict=True):
        metrics |= {outcome.titled(name): value for name, value in outcome.measured(part, column).items()}
    return metrics


def metric_names(outcomes: Outcomes) -> list[str]:
    """Returns the names that `measured` gives the metrics."""
    return [outcome.titled(name) for outcome in outcomes for name in outcome.metric_names]


def score_name(outcomes: Outcomes) -> str:
    """Returns what the score is called by which epochs are compared."""
    names = list(dict.fromkeys(outcome.score_name for outcome in outcomes))
    return names[0] if len(outcomes) == 1 else f"{' and '.join(names)}, mean of {len(outcomes)} outputs"


def score(metrics: Mapping[str, float], outcomes: Outcomes) -> float:
    """Returns the mean over the outcomes of the metric that each is judged by; those without a label do not count.

    Of several, an R2 below LEAST counts as LEAST: it has no end, and one number that is told badly would decide alone.
    """
    values = [metrics[outcome.titled(outcome.score_name)] for outcome in outcomes]
    if len(values) > 1:
        values = [value if isnan(value) else max(value, LEAST) for value in values]
    return fmean([value for value in values if not isnan(value)] or [nan])
