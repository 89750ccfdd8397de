"""Shapley values of modalities: by their definition, over what has all modalities, read back or refused."""

from itertools import permutations
from math import nan
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.names import POST_PROCESSED
from gmd.scoring.outcomes import Outcome
from gmd.scoring.segmentation.shapley import case_contributions
from gmd.scoring.segmentation.tables import Score
from gmd.scoring.sequences.shapley import sample_contributions
from gmd.scoring.sequences.tables import Predictions
from gmd.scoring.shapley import contributions, read_shapley, shapley_csv, shapley_markdown
from gmd.subsets import all_subsets
from helpers.nifti_cases import error_of

NAMES = ("text", "audio", "vision", "depth")
TWO = NAMES[:2]


def by_orders(nothing: float, values: dict, names: tuple[str, ...]) -> dict[str, float]:
    """What each adds when its turn comes, mean over all orders."""
    added = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        before = nothing
        for place, name in enumerate(order):
            after = values[tuple(n for n in names if n in order[: place + 1])]
            added[name] += (after - before) / len(orders)
            before = after
    return added


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.data())
def test_they_are_means_over_all_orders_and_sum_up(count: int, data: st.DataObject):
    names, score = NAMES[:count], st.floats(-1, 1)
    nothing, values = data.draw(score), {subset: data.draw(score) for subset in all_subsets(names)}
    found = contributions("accuracy", 7, nothing, values, names)
    assert found.values == pytest.approx(by_orders(nothing, values, names), abs=1e-12)
    assert found.nothing + sum(found.values.values()) == pytest.approx(found.whole, abs=1e-12)
    assert (found.score, found.scored, found.whole) == ("accuracy", 7, values[names])


def test_one_that_adds_nothing_has_0_and_two_alike_share():
    values = {subset: 0.25 + 0.5 * ("text" in subset or "audio" in subset) for subset in all_subsets(NAMES[:3])}
    found = contributions("accuracy", 1, 0.25, values, NAMES[:3]).values
    assert found == pytest.approx({"text": 0.25, "audio": 0.25, "vision": 0})


# ---- predictions ----

CLASSES = [Outcome("", ("cat", "dog"))]
CAT, DOG, LACKING = [0.75, 0.25], [0.25, 0.75], [nan, nan]


def predictions(text: list, audio: list, both: list, targets: object) -> Predictions:
    subsets = {("text",): torch.tensor(text), ("audio",): torch.tensor(audio), TWO: torch.tensor(both)}
    count = len(text)
    return Predictions([f"s{i}" for i in range(count)], [0] * count, torch.as_tensor(targets), subsets)


def test_only_samples_with_all_modalities_count():
    """Scores over different samples cannot be subtracted: text alone is right of the last, which has no sound."""
    found = predictions(
        [CAT, CAT, CAT, CAT], [CAT, DOG, DOG, LACKING], [CAT, DOG, CAT, LACKING], torch.tensor([0, 1, 0, 0])
    )
    [one] = sample_contributions(found, TWO, CLASSES)
    assert (one.score, one.scored) == ("accuracy", 3)
    assert one.nothing == pytest.approx(2 / 3), "always cat"
    assert one.whole == 1
    # alone: text 2/3, audio 2/3
    assert one.values == pytest.approx({"text": (0 + 1 / 3) / 2, "audio": (0 + 1 / 3) / 2})


def test_there_is_nothing_to_compute_without_a_complete_sample_and_of_one_modality():
    lacking = predictions([CAT, LACKING], [LACKING, DOG], [LACKING, LACKING], torch.tensor([0, 1]))
    assert sample_contributions(lacking, TWO, CLASSES) == []
    alone = lacking._replace(subsets={("text",): torch.tensor([CAT, DOG])})
    assert sample_contributions(alone, ("text",), CLASSES) == []


def test_each_outcome_has_its_own_score_and_its_own_nothing():
    outcomes = [
        Outcome("kind", ("cat", "dog")),
        Outcome("age"),
        Outcome("mood", largest_score=3.0),
        Outcome("unlabelled"),
    ]
    row = [*CAT, 2.0, -1.0, 0.0]
    targets = torch.tensor([[0.0, 1.0, -1.0, nan], [0.0, 3.0, 2.0, nan], [nan, 2.0, 1.0, nan]])
    found = sample_contributions(predictions([row] * 3, [row] * 3, [row] * 3, targets), TWO, outcomes)
    assert [(one.score, one.scored, one.nothing) for one in found] == [
        ("kind accuracy", 2, 1.0),
        ("age R2", 3, 0.0),
        ("mood Acc-2 neg/non-neg", 3, pytest.approx(2 / 3)),
    ]
    assert found[0].whole == 1
    assert found[2].whole == pytest.approx(1 / 3)
    for one in found:
        assert one.nothing + sum(one.values.values()) == pytest.approx(one.whole)


# ---- segmentation ----


def test_the_dice_of_each_region_and_their_mean():
    dice = {("text",): 0.5, ("audio",): 0.25, TWO: 0.75}
    scores = [
        Score(case, subset, region, value + shift, 1.0)
        for case in ("a", "b")
        for subset, value in dice.items()
        for region, shift in (("WT", 0.0), ("ET", 0.125), (POST_PROCESSED, 0.25))
    ]
    scores += [Score("c", ("text",), region, 1.0, 0.0) for region in ("WT", "ET", POST_PROCESSED)]  # lacks audio
    found = case_contributions(scores, TWO, ("WT", "ET", POST_PROCESSED))
    assert [(one.score, one.scored, one.nothing) for one in found] == [("WT", 2, 0), ("ET", 2, 0), ("mean", 2, 0)]
    assert found[0].values == pytest.approx({"text": 0.5, "audio": 0.25})
    assert found[1].values == pytest.approx({"text": 0.5 + 0.0625, "audio": 0.25 + 0.0625})
    assert found[2].whole == pytest.approx(0.75 + 0.0625)
    assert case_contributions([s for s in scores if s.subset != TWO], TWO, ("WT",)) == []
    assert case_contributions([s for s in scores if s.subset == ("text",)], ("text",), ("WT",)) == []


# ---- the table ----


def some() -> list:
    values = {("text",): 0.1, ("audio",): 1 / 3, TWO: 0.9}
    return [contributions(name, 5, 0.2, values, TWO) for name in ("WT", "mean")]


def test_it_is_read_back_to_the_last_digit(tmp_path: Path):
    path = tmp_path / "shapley.csv"
    assert read_shapley(path, TWO) == [], "an earlier gmd has written none"
    for found in (some(), []):
        path.write_text(shapley_csv(found, TWO), encoding="utf-8")
        assert read_shapley(path, TWO) == found


def test_the_table_for_people():
    lines = shapley_markdown(some(), TWO).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["score", "nothing", "text", "audio", "all"]
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["WT", "0.200", "0.233", "0.467", "0.900"]


HEADER = "score,scored,nothing,text,audio,all"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no columns"),
        ("a,b\n1,2\n", f"its columns are a, b, expected {HEADER.replace(',', ', ')}"),
        ("score,scored,nothing,audio,text,all\n", "expected score, scored, nothing, text, audio, all"),
        (f"{HEADER}\nWT,5,0,1,1\n", "line 2 has 5 cells, expected 6"),
        (f"{HEADER}\nWT,five,0,1,1,1\n", "line 2: the count is 'five', expected a whole number"),
        (f"{HEADER}\nWT,5,0,nan,1,1\n", "line 2: text is 'nan', expected a number"),
        (f"{HEADER}\nWT,5,0,1,1,inf\n", "line 2: all is 'inf', expected a number"),
        (f"{HEADER}\nWT,5,0,1,1,1\nWT,5,0,1,1,1\n", "line 3: 'WT' has a line before it already"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "shapley.csv"
    path.write_text(text)
    reason = error_of(read_shapley, path, TWO)
    assert said in reason
    assert "shapley.csv" in reason
    assert "Evaluate the run again" in reason
