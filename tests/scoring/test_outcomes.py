"""Several outcomes: each is measured by itself, on what has a label of it, and the score is the mean over them."""

import csv
import io
import math

import pytest
import torch

from gmd.scoring.outcomes import Outcome, measured, metric_names, score, score_name
from gmd.scoring.read_back import range_of
from gmd.scoring.sequences.metrics import class_metrics, number_metrics
from gmd.scoring.sequences.tables import Predictions, mean_over_subsets, predictions_csv, subset_table

NAN = math.nan
BOTH = (Outcome("kind", ("cat", "dog")), Outcome("age", None, None, 10.0, 2.0))
VALUES = torch.tensor([[0.75, 0.25, 3.0], [0.4, 0.6, 5.0], [0.1, 0.9, 7.0]])
TARGETS = torch.tensor([[0.0, 2.0], [NAN, 6.0], [0.0, NAN]])


def test_each_outcome_is_measured_on_its_labels():
    found = measured(VALUES, TARGETS, BOTH)
    kinds = class_metrics(VALUES[[0, 2], :2], torch.tensor([0, 0]))
    ages = number_metrics(VALUES[:2, 2], TARGETS[:2, 1])
    assert found == {f"kind {name}": value for name, value in kinds.items()} | {
        f"age {name}": value for name, value in ages.items()
    }
    assert list(found) == metric_names(BOTH)
    alone = measured(VALUES[:, :2], torch.tensor([0, 1, 1]), [Outcome("", ("cat", "dog"))])
    assert list(alone) == ["accuracy", "macro F1", "ECE"]


def test_an_outcome_without_labels_has_no_numbers_and_no_part_in_the_score():
    found = measured(VALUES[2:], TARGETS[2:], BOTH)
    assert all(math.isnan(value) for name, value in found.items() if name.startswith("age"))
    assert score(found, BOTH) == found["kind accuracy"] == 0
    assert math.isnan(score(dict.fromkeys(metric_names(BOTH), NAN), BOTH))


def test_the_score_is_the_mean_over_the_outcomes():
    found = measured(VALUES, TARGETS, BOTH)
    assert score(found, BOTH) == pytest.approx((found["kind accuracy"] + found["age R2"]) / 2)
    found["age R2"] = -50.0
    assert score(found, BOTH) == pytest.approx((found["kind accuracy"] - 1) / 2), "R2 has no end"
    assert score(found, BOTH[1:]) == -50
    assert score_name(BOTH) == "accuracy and R2, mean of 2 outputs"
    assert score_name(BOTH[1:]) == "R2"
    assert score_name([Outcome("", None, 3.0)]) == "Acc-2 neg/non-neg"


def test_tables_and_predictions_have_columns_of_each():
    predictions = Predictions(["a", "b", "c"], [0] * 3, TARGETS, {("x",): VALUES, ("y",): torch.full((3, 3), NAN)})
    row, absent, _ = subset_table(predictions._replace(subsets=predictions.subsets | {("x", "y"): VALUES}), "xy", BOTH)
    assert row.metrics == measured(VALUES, TARGETS, BOTH)
    assert (absent.scored, absent.metrics) == (0, {})
    assert mean_over_subsets([row, absent]) == row.metrics
    header, *lines = csv.reader(io.StringIO(predictions_csv(predictions, BOTH)))
    of_x = ["x kind", "x kind p(cat)", "x kind p(dog)", "x age"]
    assert header == ["sample", "step", "target kind", "target age", *of_x, *(name.replace("x", "y") for name in of_x)]
    assert [line[2:4] for line in lines] == [["cat", "2.0"], ["", "6.0"], ["cat", ""]]
    assert lines[1][4:] == ["dog", *(str(value) for value in VALUES[1].tolist()), *[""] * 4]


def test_columns_of_an_outcome_have_the_range_of_their_metric():
    assert range_of("age MAE")[0] == range_of("age RMSE")[0] == 0
    assert range_of("age Corr") == (-1, 1)
    assert range_of("age R2")[1] == 1
    assert range_of("kind accuracy") == (0, 1)


@pytest.mark.parametrize("kind", [("a", "b"), 1.0, 3.0, None], ids=["classes", "CH-SIMS", "MOSI", "numbers"])
def test_the_metric_that_chooses_the_best_epoch_is_one_of_the_table(kind):
    outcome = Outcome("", kind) if isinstance(kind, tuple) else Outcome("", None, kind)
    assert outcome.score_name in outcome.metric_names
