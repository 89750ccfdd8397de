"""The metrics against scikit-learn's, and by hand where conventions differ."""

import math
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn import metrics as sklearn
from torch import Tensor

from gmd.scoring.sequences.metrics import (
    CH_SIMS_METRICS,
    CLASS_METRICS,
    NUMBER_METRICS,
    SENTIMENT_METRICS,
    class_metrics,
    number_metrics,
    sentiment_metrics,
)

SCORE = st.one_of(st.floats(-4, 4, width=32), st.sampled_from([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5]))


def measured(predictions: list[float], scores: list[float]) -> dict[str, float]:
    return sentiment_metrics(torch.tensor(predictions), torch.tensor(scores))


def by_sklearn(predictions: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    found = {"MAE": sklearn.mean_absolute_error(scores, predictions)}
    with np.errstate(invalid="ignore"):
        found["Corr"] = np.nan_to_num(np.corrcoef(predictions, scores)[0, 1])
    polar = scores != 0
    ways = {"neg/non-neg": (predictions >= 0, scores >= 0), "neg/pos": (predictions[polar] > 0, scores[polar] > 0)}
    for name, (predicted, true) in ways.items():
        there = len(true) > 0
        found[f"Acc-2 {name}"] = sklearn.accuracy_score(true, predicted) if there else math.nan
        found[f"F1 {name}"] = sklearn.f1_score(true, predicted, average="weighted") if there else math.nan
    for largest in (2, 3):
        predicted, true = (np.round(np.clip(x, -largest, largest)) for x in (predictions, scores))
        found[f"Acc-{2 * largest + 1}"] = sklearn.accuracy_score(true.astype(int), predicted.astype(int))
    return found


# Sentiment


@given(st.lists(st.tuples(SCORE, SCORE), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_sentiment_metrics_are_those_of_scikit_learn(pairs: list[tuple[float, float]]):
    predictions, scores = torch.tensor(pairs).unbind(dim=1)
    found, expected = sentiment_metrics(predictions, scores), by_sklearn(*torch.tensor(pairs).double().numpy().T)
    assert tuple(found) == SENTIMENT_METRICS
    assert all(type(value) is float for value in found.values())
    for name, value in found.items():
        # a spread of 1e-30 beside values of 1 is lost in any correlation
        if name != "Corr" or min(x.double().std() for x in (predictions, scores)) > 1e-6:
            assert value == pytest.approx(expected[name], rel=1e-6, abs=1e-6, nan_ok=True), name


def test_by_hand():
    found = measured([-1.0, 0.0, 0.2, -0.1, 2.9], [-2.0, -0.4, 0.0, 1.0, 3.0])
    assert found == pytest.approx(
        {
            "MAE": (1 + 0.4 + 0.2 + 1.1 + 0.1) / 5,
            "Corr": np.corrcoef([-1.0, 0.0, 0.2, -0.1, 2.9], [-2.0, -0.4, 0.0, 1.0, 3.0])[0, 1],
            "Acc-2 neg/non-neg": 3 / 5,  # the second, 0, is not negative, and the fourth is
            # negative: 1 of 2 found, 1 of 2 right; non-negative: 2 of 3, 2 of 3
            "F1 neg/non-neg": (2 * 0.5 + 3 * 2 / 3) / 5,
            "Acc-2 neg/pos": 3 / 4,  # without the third, whose score is 0; the second, 0, is not positive
            "F1 neg/pos": (2 * 0.8 + 2 * 2 / 3) / 4,
            "Acc-5": 3 / 5,  # the second, third and fifth
            "Acc-7": 3 / 5,
        }
    )


def test_ch_sims_by_hand():
    """Its scale ends at 1, where rounding would make three classes, and call them five and seven."""
    predictions, scores = [-0.8, -0.6, 0.0, 0.05, 0.1, 0.75, 1.4], [-1.0, -0.8, 0.2, 0.0, 0.0, 1.0, 0.6]
    found = sentiment_metrics(torch.tensor(predictions), torch.tensor(scores), largest_score=1.0)
    assert tuple(found) == CH_SIMS_METRICS
    assert found["MAE"] == pytest.approx(np.abs(np.subtract(predictions, scores)).mean())
    assert found["Acc-2 neg/non-neg"] == 1
    # above 0: the third is not and should be, the fourth and fifth are and should not be
    assert found["Acc-2 non-pos/pos"] == pytest.approx(4 / 7)
    true, predicted = (np.array(values) > 0 for values in (scores, predictions))
    assert found["F1 non-pos/pos"] == pytest.approx(sklearn.f1_score(true, predicted, average="weighted"))
    assert found["Acc-3"] == pytest.approx(6 / 7)  # not the third
    assert found["Acc-5"] == pytest.approx(4 / 7)  # nor the second, -0.6 for -0.8, nor the last, 1 for 0.6


@pytest.mark.parametrize("end", [-0.7, -0.1, 0.1, 0.7])
def test_an_end_of_a_class_of_ch_sims_belongs_to_the_class_below(end: float):
    def same(score: float) -> float:
        return sentiment_metrics(torch.tensor([end]), torch.tensor([score]), largest_score=1.0)["Acc-5"]

    assert same(end - 0.05) == 1
    assert same(end + 0.05) == 0


@pytest.mark.parametrize(
    ("prediction", "score", "same_of_5", "same_of_7"),
    [
        (0.5, 0.0, 1, 1),  # halves to the even number
        (1.5, 2.0, 1, 1),
        (2.5, 2.0, 1, 1),
        (-0.5, 0.0, 1, 1),
        (0.5, 1.0, 0, 0),
        (2.6, 2.0, 1, 0),  # clipped first: 2, and 3 of the 7
        (7.0, 3.0, 1, 1),
        (-7.0, -2.6, 1, 1),
    ],
)
def test_classes_are_clipped_then_rounded_halves_to_even(
    prediction: float, score: float, same_of_5: int, same_of_7: int
):
    found = measured([prediction], [score])
    assert (found["Acc-5"], found["Acc-7"]) == (same_of_5, same_of_7)


def test_without_polar_scores_their_metrics_are_nan_and_no_others():
    found = measured([0.5, -0.5], [0.0, 0.0])
    assert {name for name, value in found.items() if math.isnan(value)} == {"Acc-2 neg/pos", "F1 neg/pos"}
    assert found["Acc-2 neg/non-neg"] == 0.5


@pytest.mark.parametrize(
    ("predictions", "scores"), [([0.1] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0], [0.1] * 2), ([1.0], [2.0])]
)
def test_constants_have_no_correlation(predictions: list[float], scores: list[float]):
    assert measured(predictions, scores)["Corr"] == 0


def test_the_correlation_of_small_predictions_is_not_taken_for_that_of_constants():
    scores = torch.linspace(-3, 3, 10)
    assert sentiment_metrics(1e-7 * scores, scores)["Corr"] == pytest.approx(1)
    assert sentiment_metrics(-1e-7 * scores, scores)["Corr"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("predictions", "scores", "message"),
    [
        (torch.zeros(0), torch.zeros(0), r"n at least 1, got \[0\], \[0\]"),
        (torch.zeros(3), torch.zeros(2), r"got \[3\], \[2\]"),
        (torch.zeros(3, 1), torch.zeros(3, 1), r"got \[3, 1\], \[3, 1\]"),
        (torch.tensor([math.nan]), torch.zeros(1), "predictions: expected finite numbers"),
        (torch.zeros(1), torch.tensor([math.nan]), "scores: expected finite numbers, .* leave padded steps out"),
    ],
)
def test_bad_scores_raise(predictions: Tensor, scores: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        sentiment_metrics(predictions, scores)


# Classes


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_class_metrics_are_those_of_scikit_learn(data: st.DataObject):
    count, n = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 30))
    classes = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), min_size=n, max_size=n)))
    logits = torch.randn(n, count, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9))))
    probabilities = logits.softmax(dim=1)
    found, predicted = class_metrics(probabilities, classes), probabilities.argmax(dim=1)
    assert tuple(found) == CLASS_METRICS
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(classes, predicted))
    assert found["macro F1"] == pytest.approx(sklearn.f1_score(classes, predicted, average="macro"), rel=1e-6)
    assert found["ECE"] == pytest.approx(calibration_error(probabilities, classes), abs=1e-6)


def calibration_error(probabilities: Tensor, classes: Tensor) -> float:
    """By its definition, prediction by prediction: 15 bins of equal width, each without its upper end."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, kind in zip(probabilities.double(), classes, strict=True):
        confidence = float(row.max())
        bins.setdefault(math.floor(15 * confidence), []).append((confidence, int(row.argmax()) == int(kind)))
    return sum(abs(sum(right - confidence for confidence, right in some)) for some in bins.values()) / len(classes)


def test_the_calibration_error_of_cases_by_hand():
    sure = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert class_metrics(sure, torch.tensor([0, 0, 0, 0]))["ECE"] == 0
    assert class_metrics(sure, torch.tensor([0, 0, 0, 1]))["ECE"] == pytest.approx(0.25)
    assert class_metrics(sure, torch.tensor([1, 1, 1, 1]))["ECE"] == 1
    # 0.7 right in 7 of 10: as sure as it is right; 0.9 in a bin of its own, never right
    classes = torch.tensor([0] * 7 + [1] * 3)
    some = torch.tensor([[0.7, 0.3]]).repeat(10, 1)
    assert class_metrics(some, classes)["ECE"] == pytest.approx(0, abs=1e-6)
    both = torch.cat([some, torch.tensor([[0.9, 0.1]]).repeat(10, 1)])
    found = class_metrics(both, torch.cat([classes, torch.ones(10).long()]))
    assert found["ECE"] == pytest.approx(0.45, abs=1e-6)


def test_a_probability_that_is_a_rounding_above_1_makes_no_logits_of_the_others():
    """A trap of torchmetrics: one number outside of [0, 1], and it takes the softmax of all."""
    classes = torch.tensor([0, 0, 1, 1])
    exact = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.4, 0.6], [0.8, 0.2]])
    rounded = exact.clone()
    rounded[0, 0] = 1.0000001
    assert rounded.max() > 1
    assert class_metrics(rounded, classes) == pytest.approx(class_metrics(exact, classes), abs=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "classes", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0).long(), r"n at least 1, .*, got \[0, 2\] for \[0\]"),
        (torch.zeros(3, 2), torch.zeros(2).long(), r"got \[3, 2\] for \[2\]"),
        (torch.zeros(3), torch.zeros(3).long(), r"got \[3\] for \[3\]"),
        (torch.zeros(3, 1), torch.zeros(3).long(), r"C at least 2, got \[3, 1\] for \[3\]"),
        (torch.full((1, 2), math.inf), torch.zeros(1).long(), "probabilities: expected finite numbers"),
        (torch.tensor([[1.5, -0.5]]), torch.zeros(1).long(), r"expected numbers in \[0, 1\], got -0.5 to 1.5"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "classes: expected 0 to 2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([-100, 1]), "classes: expected 0 to 2, got -100 to 1"),
    ],
)
def test_bad_classes_raise(probabilities: Tensor, classes: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        class_metrics(probabilities, classes)


def test_gmd_is_imported_without_the_metrics_library():
    """It takes longer to import than all the rest."""
    code = "import sys, gmd; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)), min_size=2, max_size=30))
def test_metrics_of_numbers_are_scikit_learns(pairs: list[tuple[float, float]]):
    predictions, scores = np.array(pairs, np.float32).T.astype(np.float64)
    found = number_metrics(torch.tensor(predictions), torch.tensor(scores))
    assert tuple(found) == NUMBER_METRICS
    assert found["MAE"] == pytest.approx(sklearn.mean_absolute_error(scores, predictions))
    assert found["RMSE"] == pytest.approx(sklearn.root_mean_squared_error(scores, predictions))
    if np.ptp(scores) > 1e-3:
        assert found["R2"] == pytest.approx(sklearn.r2_score(scores, predictions), rel=1e-6, abs=1e-6)
        if np.ptp(predictions) > 1e-3:
            assert found["Corr"] == pytest.approx(np.corrcoef(predictions, scores)[0, 1], abs=1e-6)


def test_constant_numbers_tell_nothing():
    found = number_metrics(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))
    assert found == {"R2": 0.0, "MAE": 1.0, "RMSE": 1.0, "Corr": 0.0}
    with pytest.raises(ValueError, match="expected finite numbers"):
        number_metrics(torch.tensor([math.nan]), torch.tensor([0.0]))
