"""Scores over the missing rate: what is drawn and measured, and a table that is read back or refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.missing import Missing
from gmd.scoring.missing_curve import DRAWS, CurvePoint, curve_csv, listed_point, missing_curve, read_curve
from gmd.scoring.segmentation.tables import Row, row_numbers, table_csv
from gmd.scoring.sequences.kept import kept_predictions
from gmd.scoring.sequences.tables import Predictions
from helpers.nifti_cases import error_of

HAS = {f"sample {i}": ("text", "audio", "vision") if i % 2 else ("text", "vision") for i in range(40)}
RATES = (0.0, 0.25, 0.5, 0.9)


def part_kept(kept):
    return {"kept": sum(map(len, kept.values())) / sum(map(len, HAS.values()))}


def test_each_draw_is_a_seed_at_all_rates_alike():
    asked = []
    curve = missing_curve(HAS, RATES, 7, lambda kept: asked.append(kept) or part_kept(kept))
    assert [point.rate for point in curve] == list(RATES)
    assert {point.draws for point in curve} == {DRAWS} == {5}
    drawn = [
        Missing(dict.fromkeys(("text", "audio", "vision"), r), 7 + d).kept_by(HAS) for r in RATES for d in range(5)
    ]
    assert asked == drawn
    for less, more in zip(asked, asked[DRAWS:], strict=False):
        assert all(set(more[name]) <= set(less[name]) for name in HAS), "what is missing stays so at higher rates"


def test_mean_and_deviation_are_those_of_the_draws():
    values = iter([1.0, 2.0, 3.0, 4.0, 6.0, *[0.1] * 5])
    first, second = missing_curve(HAS, (0.3, 0.4), 0, lambda kept: {"x": next(values)})
    assert first.means == {"x": pytest.approx(3.2)}
    assert first.deviations == {"x": pytest.approx(math.sqrt(14.8 / 4))}
    assert (second.means, second.deviations) == ({"x": 0.1}, {"x": 0.0}), "exactly: all draws are the same"


def test_the_part_that_is_absent_stays_below_the_rate():
    curve = missing_curve(HAS, RATES, 0, part_kept)
    assert curve[0].absent == 0
    assert all(point.absent < point.rate for point in curve[1:])
    assert all(point.absent == pytest.approx(1 - point.means["kept"]) for point in curve)


def test_a_metric_that_is_not_defined_in_some_draw_is_not_defined():
    values = iter([1.0, math.nan, 3.0, 4.0, 6.0])
    [point] = missing_curve(HAS, (0.3,), 0, lambda kept: {"x": next(values)})
    assert math.isnan(point.means["x"])
    assert math.isnan(point.deviations["x"])


def test_a_curve_without_rates_measures_nothing():
    assert missing_curve(HAS, (), 0, lambda kept: pytest.fail("measured")) == []


# ---- a list ----


def test_a_list_is_a_point_at_its_own_rate_of_absence():
    kept = {"sample 0": ("text",), "sample 1": ("text", "audio", "vision")}  # of text, vision and of all three
    point = listed_point("masks.csv", HAS, kept, lambda given: {"x": float(given == kept), "y": math.nan})
    assert (point.rate, point.absent) == (pytest.approx(1 / 5), pytest.approx(1 / 5))
    assert (point.draws, point.listed, point.means["x"], point.deviations["x"]) == (1, "masks.csv", 1.0, 0.0)
    assert math.isnan(point.deviations["y"])


def test_lists_are_read_back_and_have_a_column_only_where_there_is_one(tmp_path):
    path = tmp_path / "missing.csv"
    drawn = CurvePoint(0.5, 5, 0.4, {"Corr": 0.5}, {"Corr": 0.1})
    for curve in ([drawn], [drawn, drawn._replace(rate=0.25, absent=0.25, draws=1, listed="masks, mine.csv")]):
        path.write_text(curve_csv(curve), encoding="utf-8")
        assert read_curve(path) == curve
        assert ("list" in path.read_text(encoding="utf-8").splitlines()[0].split(",")) == (len(curve) == 2)


def test_a_region_may_be_called_as_the_column_of_lists(tmp_path):
    curve = [CurvePoint(0.5, 5, 0.4, {"list": 0.5}, {"list": 0.1})]
    (tmp_path / "missing.csv").write_text(curve_csv(curve), encoding="utf-8")
    assert read_curve(tmp_path / "missing.csv") == curve
    curve.append(curve[0]._replace(listed="masks.csv"))
    (tmp_path / "missing.csv").write_text(curve_csv(curve), encoding="utf-8")
    assert read_curve(tmp_path / "missing.csv") == curve


# ---- what samples keep ----


def test_the_predictions_of_what_is_kept_are_picked_row_by_row():
    subsets = {
        ("text",): torch.tensor([[1.0], [2.0], [3.0]]),
        ("audio",): torch.tensor([[4.0], [5.0], [math.nan]]),
        ("text", "audio"): torch.tensor([[6.0], [7.0], [math.nan]]),
    }
    predictions = Predictions(["a", "a", "b"], [0, 1, 0], torch.zeros(3), subsets)  # two steps of a
    kept = kept_predictions(predictions, {"a": ("audio",), "b": ("text",)})
    assert kept.subsets[None].flatten().tolist() == [4.0, 5.0, 3.0]
    assert list(kept.subsets) == [None]
    assert kept.names == predictions.names


def test_the_numbers_of_a_row_are_those_of_the_table():
    row = Row(("t1",), 2, {"WT": 0.5, "TC": 0.25}, {"WT": 1.0, "TC": 3.0})
    header, line, _ = table_csv([row], ("t1",), ("WT", "TC")).splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    numbers = row_numbers(row, ("WT", "TC"))
    assert numbers == {name: float(cells[name]) for name in ("WT", "TC", "mean", "hd95_WT", "hd95_TC", "hd95_mean")}
    assert row_numbers(row._replace(hd95={}), ("WT", "TC")) == {"WT": 0.5, "TC": 0.25, "mean": 0.375}


# ---- the table ----

fraction = st.floats(0, 1)
points = st.lists(
    st.tuples(fraction, fraction, fraction, st.floats(0, 1e6)), min_size=1, max_size=6, unique_by=lambda p: p[0]
)


@settings(deadline=None)
@given(points)
def test_a_curve_is_read_back_as_it_was(tmp_path_factory, numbers):
    curve = [
        CurvePoint(rate, 5, absent, {"Corr": -score, "hd95_WT": mm}, {"Corr": 2 * score, "hd95_WT": mm})
        for rate, absent, score, mm in sorted(numbers)
    ]
    path = tmp_path_factory.mktemp("curve") / "missing.csv"
    path.write_text(curve_csv(curve), encoding="utf-8")
    assert read_curve(path) == curve


def test_nan_is_read_back(tmp_path):
    (tmp_path / "missing.csv").write_text("rate,draws,absent,Corr,Corr std\n0.0,5,0.0,nan,nan\n")
    [point] = read_curve(tmp_path / "missing.csv")
    assert math.isnan(point.means["Corr"])
    assert math.isnan(point.deviations["Corr"])


HEADER = "rate,draws,absent,Corr,Corr std"
LISTS = "rate,draws,absent,list,Corr,Corr std"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no columns"),
        ("a,b\n1,2\n", "its columns are a, b, expected a curve's"),
        ("rate,draws,absent\n0,5,0\n", "expected a curve's"),
        ("rate,draws,absent,Corr,MAE std\n0,5,0,1,1\n", "expected a curve's"),
        ("rate,draws,absent,Corr,Corr std,Corr,Corr std\n0,5,0,1,1,1,1\n", "expected a curve's"),
        (f"{HEADER}\n", "holds no rate"),
        (f"{HEADER}\n2,5,0,1,1\n", "line 2: rate is '2', expected a number in [0, 1]"),
        (f"{HEADER}\n0,five,0,1,1\n", "line 2: draws is 'five', expected a whole number"),
        (f"{HEADER}\n0,5,-1,1,1\n", "line 2: absent is '-1'"),
        (f"{HEADER}\n0,5,0,5e9,1\n", "line 2: Corr is '5e9', expected a number in [-1, 1]"),
        (f"{HEADER}\n0,5,0,1,-1\n", "line 2: Corr std is '-1'"),
        (f"{HEADER}\n0,5,0,1,1\n0,5,0,1,1\n", "line 3: the rate is 0 after 0, expected one above it"),
        ("rate,draws,absent,list\n0,5,0,a\n", "expected a curve's"),
        (f"{LISTS}\n0.5,1,0.5,a,1,1\n0.5,5,0.4,,1,1\n", "line 3: a rate, '0.5', is behind the list 'a'"),
        (f"{LISTS}\n0.5,1,0.5,a,1,1\n", "holds no rate"),
        (f"{LISTS}\n0.5,1,2,a,1,1\n", "line 2: absent is '2'"),
        (f"{HEADER}\n0,5,0,1\n", "line 2 has 4 cells, expected 5"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, said):
    path = tmp_path / "missing.csv"
    path.write_text(text)
    reason = error_of(read_curve, path)
    assert said in reason
    assert "missing.csv" in reason
    assert "Evaluate the run again" in reason
