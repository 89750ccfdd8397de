"""The benchmark of evaluation: values before times, and the passes that each way takes."""

from collections import Counter

import pytest
import torch

from bench.measure import evaluation
from bench.measure.evaluation import OURS, PUBLISHED, SCHEME, Case, label_difference, measure_evaluation, our_evaluation
from gmd.data.segmentation.label_map import paint
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
def test_the_label_maps_say_something_and_take_the_passes_that_the_rows_say(way: str):
    case, passes = Case(0.125, 16), Counter()
    for network in (case.network, case.published):
        network.register_forward_pre_hook(lambda _, inputs: passes.update({"samples": len(inputs[0])}))
    label_maps = dict(evaluation.WAYS[way](case))
    assert list(label_maps) == all_subsets(evaluation.MODALITIES)
    assert passes["samples"] == evaluation.PASSES[way]
    assert all(set(labels.unique().tolist()) == {0, 1, 2, 4} for labels in label_maps.values())
    assert not torch.equal(label_maps["flair",], label_maps["t2",])


def test_wrong_label_maps_get_no_times(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        evaluation, "our_evaluation", lambda case: ((subset, 4 - labels) for subset, labels in our_evaluation(case))
    )
    rows = measure_evaluation(0.125, 16, 1, lambda: None)
    assert all("label maps differ" in row["error"] and "median_ms" not in row for row in rows)


def labelled(logits: torch.Tensor, above: float = 0) -> list[tuple[str, torch.Tensor]]:
    return [("a", paint(logits > above, SCHEME))]


def test_what_may_be_rounded_to_either_side():
    logits = torch.tensor([[-1.0, -1e-5, 1e-4, 1.0], [-2, -2, -2, -2], [-2, -2, -2, -2]]).view(3, 4, 1, 1)
    assert label_difference(labelled(logits), [("a", logits)]) == 0
    assert label_difference(labelled(logits, 1e-3), [("a", logits)]) == pytest.approx(1e-4)
    assert label_difference(labelled(logits, -1.5), [("a", logits)]) == 1
    with pytest.raises(ValueError, match="another order"):
        label_difference(labelled(logits), [("b", logits)])


def test_logits_that_are_not_finite_are_wrong_whatever_the_labels_say():
    logits = torch.tensor([1.0, float("nan"), 1.0]).view(3, 1, 1, 1)
    assert label_difference(labelled(logits), [("a", logits)]) == float("inf")
