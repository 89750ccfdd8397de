"""The metrics of sentiment, of numbers and of classification, as the field defines them; fractions, not per cent."""

import math

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

from gmd.data.sequences.samples import CH_SIMS_LARGEST, LARGEST_SCORE

SENTIMENT_METRICS = (
    "MAE",
    "Corr",
    "Acc-2 neg/non-neg",
    "F1 neg/non-neg",
    "Acc-2 neg/pos",
    "F1 neg/pos",
    "Acc-5",
    "Acc-7",
)
CH_SIMS_METRICS = (
    *("MAE", "Corr", "Acc-2 neg/non-neg", "F1 neg/non-neg"),
    *("Acc-2 non-pos/pos", "F1 non-pos/pos", "Acc-3", "Acc-5"),
)
NUMBER_METRICS = ("R2", "MAE", "RMSE", "Corr")
CLASS_METRICS = ("accuracy", "macro F1", "ECE")
BINS = 15  # of the calibration error
ROUNDING = 1e-6  # beyond 0 and 1, as probabilities that were averaged may be


def score_metric_names(largest_score: float | None) -> tuple[str, ...]:
    """Returns the names of the metrics for scores on a scale: to 3, MOSI's and MOSEI's, to 1, CH-SIMS's, or on none."""
    if largest_score is None:
        return NUMBER_METRICS
    return CH_SIMS_METRICS if largest_score == CH_SIMS_LARGEST else SENTIMENT_METRICS


def sentiment_metrics(predictions: Tensor, scores: Tensor, largest_score: float = LARGEST_SCORE) -> dict[str, float]:
    """Measures predictions [n] float of scores [n] float, n at least 1, with `score_metric_names(largest_score)`.

    largest_score: the end of the scale, 3 for MOSI and MOSEI or 1 for CH-SIMS

    They are as MMSA (Mao et al., ACL 2022) computes them:
    neg/non-neg: two classes, of which 0 and above is one.
    neg/pos: two classes, of which above 0 is one, over the samples whose score is not 0; NaN if there are none.
    F1: of the two classes, weighted by how many samples truly are of each.
    Acc-5, Acc-7: predictions and scores clipped to [-2, 2] or [-3, 3] and rounded, halves to the even number.
    On CH-SIMS's scale (Yu et al., ACL 2020), predictions clipped to [-1, 1] for what follows:
    non-pos/pos: two classes, of which above 0 is one.
    Acc-3, Acc-5: the classes end at -0.1 and 0.1, and at -0.7 and 0.7 as well; an end belongs to the class below it.
    Corr: Pearson's. It is undefined where predictions or scores are constant; 0 then, as constants tell nothing.

    Raises ValueError for tensors of other shapes, and for NaN or infinity in them.
    """
    predictions, scores = _checked(predictions, scores)
    accuracy, f1 = _of_two_classes(predictions >= 0, scores >= 0)
    names = score_metric_names(largest_score)
    classes = _ch_sims_classes if names is CH_SIMS_METRICS else _mosi_classes
    error = float(mean_absolute_error(predictions, scores))
    values = (error, _correlation(predictions, scores), accuracy, f1, *classes(predictions, scores))
    return dict(zip(names, values, strict=True))


def number_metrics(predictions: Tensor, scores: Tensor) -> dict[str, float]:
    """Measures predictions [n] float of numbers [n] float, n at least 1, of any range, with all of NUMBER_METRICS.

    R2: 1 - the mean squared error by the variance of the scores: 1 at best, 0 for who always says their mean. It is
    undefined where they are constant; 0 then, as is Corr, Pearson's correlation, where either is.

    Raises ValueError for tensors of other shapes, and for NaN or infinity in them.
    """
    predictions, scores = _checked(predictions, scores)
    squared = float((predictions - scores).square().mean())
    variance = float(scores.var(correction=0))
    error = float(mean_absolute_error(predictions, scores))
    values = (1 - squared / variance if variance else 0.0, error, math.sqrt(squared), _correlation(predictions, scores))
    return dict(zip(NUMBER_METRICS, values, strict=True))


def class_metrics(probabilities: Tensor, classes: Tensor) -> dict[str, float]:
    """Measures probabilities [n, C] of classes [n] int64 in [0, C) with all of CLASS_METRICS.

    n is at least 1, C at least 2. The macro F1 is the mean over the classes that occur among the predictions or the
    truth, as scikit-learn's. ECE is the expected calibration error, see `_calibration_error`.

    Raises ValueError for tensors of other shapes, numbers that are no probabilities, and classes out of range.
    """
    probabilities, classes = probabilities.detach().double().cpu(), classes.detach().cpu()
    shaped = probabilities.ndim == 2 and probabilities.shape[1] > 1 and len(probabilities)
    if not shaped or classes.shape != probabilities.shape[:1]:
        raise ValueError(
            "probabilities: expected [n, C] for classes [n], n at least 1, C at least 2, "
            f"got {list(probabilities.shape)} for {list(classes.shape)}"
        )
    if not probabilities.isfinite().all():
        raise ValueError("probabilities: expected finite numbers, got NaN or infinity")
    if probabilities.min() < -ROUNDING or probabilities.max() > 1 + ROUNDING:
        ends = f"{float(probabilities.min()):g} to {float(probabilities.max()):g}"
        raise ValueError(f"probabilities: expected numbers in [0, 1], got {ends}")
    count = probabilities.shape[1]
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"classes: expected 0 to {count - 1}, got {int(classes.min())} to {int(classes.max())}")
    predicted = probabilities.argmax(dim=1)
    f1 = multiclass_f1_score(predicted, classes, count, average="macro")
    values = (_accuracy(predicted, classes), float(f1), _calibration_error(probabilities, classes))
    return dict(zip(CLASS_METRICS, values, strict=True))


def _calibration_error(probabilities: Tensor, classes: Tensor) -> float:
    """Returns the expected calibration error (Guo et al., ICML 2017): how far confidence is from accuracy.

    Confidence is the probability of the class that is predicted. Predictions are put into BINS bins of equal width by
    it; of each bin |accuracy - mean confidence|, mean over the predictions. 0 at best, below 1.

    probabilities: float64 [n, C]
    """
    probabilities = probabilities.clamp(0, 1)  # torchmetrics would take 1.0000001 for a logit, and all others with it
    return float(multiclass_calibration_error(probabilities, classes, probabilities.shape[1], n_bins=BINS, norm="l1"))


def _checked(predictions: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both as float64 on the CPU. Raises ValueError unless they are [n] of finite numbers, n at least 1."""
    predictions, scores = (value.detach().double().cpu() for value in (predictions, scores))
    if predictions.ndim != 1 or not len(predictions) or predictions.shape != scores.shape:
        raise ValueError(
            f"predictions, scores: expected [n] both, n at least 1, got {list(predictions.shape)}, {list(scores.shape)}"
        )
    for name, value in (("predictions", predictions), ("scores", scores)):
        if not value.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity; leave padded steps out")
    return predictions, scores


def _mosi_classes(predictions: Tensor, scores: Tensor) -> tuple[float, float, float, float]:
    """Returns Acc-2 and F1 neg/pos, Acc-5 and Acc-7, of float64 [n] both."""
    polar = scores != 0
    two = _of_two_classes(predictions[polar] > 0, scores[polar] > 0)
    return (*two, _rounded_accuracy(predictions, scores, 2), _rounded_accuracy(predictions, scores, 3))


def _ch_sims_classes(predictions: Tensor, scores: Tensor) -> tuple[float, float, float, float]:
    """Returns Acc-2 and F1 non-pos/pos, Acc-3 and Acc-5, of float64 [n] both."""
    # in float32, as the scores of a file are: 0.1 is no more than the end of its class then
    predictions, scores = (value.float().clamp(-CH_SIMS_LARGEST, CH_SIMS_LARGEST) for value in (predictions, scores))
    two = _of_two_classes(predictions > 0, scores > 0)
    return (*two, _binned_accuracy(predictions, scores, 0.1), _binned_accuracy(predictions, scores, 0.1, 0.7))


def _binned_accuracy(predictions: Tensor, scores: Tensor, *ends: float) -> float:
    """Returns accuracy of the classes that end at these values and their negatives. ends: ascending, above 0"""
    bounds = torch.tensor([*(-end for end in reversed(ends)), *ends])
    return _accuracy(torch.bucketize(predictions, bounds), torch.bucketize(scores, bounds))


def _of_two_classes(predicted: Tensor, true: Tensor) -> tuple[float, float]:
    """Returns accuracy and weighted F1 of bool tensors [n]; NaN if n is 0."""
    if not len(true):
        return math.nan, math.nan
    f1 = multiclass_f1_score(predicted.long(), true.long(), 2, average="weighted")
    return _accuracy(predicted, true), float(f1)


def _rounded_accuracy(predictions: Tensor, scores: Tensor, largest: int) -> float:
    """Returns accuracy of predictions and scores that are clipped to [-largest, largest] and rounded."""
    # torch rounds halves to even, as numpy does
    predicted, true = (value.clamp(-largest, largest).round() for value in (predictions, scores))
    return _accuracy(predicted, true)


def _accuracy(predicted: Tensor, true: Tensor) -> float:
    """Returns the part of the rows in which prediction and truth are equal."""
    # in float64: torchmetrics' float32 has 0.7 as 0.699999988
    return float((predicted == true).double().mean())


def _correlation(predictions: Tensor, scores: Tensor) -> float:
    """Returns Pearson's correlation, 0 if one of both is constant."""
    # not torchmetrics', which warns, and gives NaN, for any variance below 1e-8
    if any(value.min() == value.max() for value in (predictions, scores)):
        return 0.0
    return float(torch.corrcoef(torch.stack([predictions, scores]))[0, 1])
