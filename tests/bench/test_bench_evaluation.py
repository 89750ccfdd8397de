"""The benchmark of evaluation: values before times, and the passes that each way takes."""

from collections import Counter

import pytest
import torch

from bench.measure import evaluation
from bench.measure.evaluation import OURS, PUBLISHED, Case, mask_difference, measure_evaluation, our_evaluation
from gmd.subsets import all_subsets

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_row_for_each_way():
    rounds = []
    rows = {row["contestant"]: row for row in measure_evaluation(0.125, 16, 2, lambda: rounds.append(1))}
    assert list(rows) == [OURS, PUBLISHED]
    assert len(rounds) == 2
    for row in rows.values():
        assert row["error"] == ""
        assert row["value_error"] <= evaluation.NEAR_ZERO
        assert row["median_ms"] > 0
        assert row["calls"] == 2
    assert rows[PUBLISHED]["times_faster"] == 1


@pytest.mark.parametrize("way", evaluation.WAYS)
def test_the_masks_say_something_and_take_the_passes_that_the_rows_say(way: str):
    case, passes = Case(0.125, 16), Counter()
    for network in (case.network, case.published):
        network.register_forward_pre_hook(lambda _, inputs: passes.update({"samples": len(inputs[0])}))
    masks = dict(evaluation.WAYS[way](case))
    assert list(masks) == all_subsets(evaluation.MODALITIES)
    assert passes["samples"] == evaluation.PASSES[way]
    assert all(0.1 < mask.float().mean() < 0.9 for mask in masks.values())
    assert not torch.equal(masks["flair",], masks["t2",])


def test_wrong_masks_get_no_times(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        evaluation, "our_evaluation", lambda case: ((subset, ~mask) for subset, mask in our_evaluation(case))
    )
    rows = measure_evaluation(0.125, 16, 1, lambda: None)
    assert all("masks differ" in row["error"] and "median_ms" not in row for row in rows)


def test_what_may_be_rounded_to_either_side():
    logits = torch.tensor([-1.0, -1e-5, 1e-4, 1.0])
    assert mask_difference([("a", logits > 0)], [("a", logits)]) == 0
    assert mask_difference([("a", logits > 1e-3)], [("a", logits)]) == pytest.approx(1e-4)
    assert mask_difference([("a", logits > -2)], [("a", logits)]) == 1
    with pytest.raises(ValueError, match="another order"):
        mask_difference([("a", logits > 0)], [("b", logits)])


def test_logits_that_are_not_finite_are_wrong_whatever_the_masks_say():
    logits = torch.tensor([1.0, float("nan")])
    assert evaluation.mask_difference(iter([(("a",), logits > 0)]), iter([(("a",), logits)])) == float("inf")
