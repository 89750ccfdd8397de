"""Who takes part in the surgery's benchmark: right values are timed, wrong ones get an error in their row."""

import warnings

import pandas as pd
import pytest
import torch

import gmd_kernels as gk
from helpers.bench_cases import OBJECTIVES, same, small_case

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import oracle, surgery
from bench.measure.contestant import Contestant, Work
from bench.measure.contestants import (
    COMBINE,
    GRAM,
    LIBMTL,
    MEAN,
    OURS,
    OURS_IN_PLACE,
    PCGRAD,
    PUBLISHED,
    REFERENCE,
    TORCHJD,
    InPlace,
    contestants,
)
from bench.measure.host import host_columns
from bench.measure.peers import plain_mean
from bench.tables.results import errors
from bench.tables.surgery import kernels_markdown, surgery_markdown


@pytest.mark.parametrize("t", OBJECTIVES)
def test_every_contestant_passes_its_own_check_and_a_wrong_one_does_not(t):
    grads = small_case(t).gradients()
    everyone = contestants(small_case(t), grads, oracle.exact_gram(grads))
    assert {OURS, PUBLISHED, PCGRAD, LIBMTL, TORCHJD} <= {contestant.name for contestant in everyone}
    for contestant in everyone:
        contestant.prepare()
        assert contestant.error(contestant.call()) <= contestant.tolerance, contestant.name
        if contestant.name not in (GRAM, MEAN):
            unsurgical = plain_mean(grads)
            assert contestant.error(unsurgical) > 5 * contestant.tolerance, "forgetting the projections must show"


@pytest.mark.filterwarnings("ignore::gmd_kernels.FallbackWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_meet_ours_alone_and_are_judged_by_their_rounding(dtype):
    case = small_case(7, dtype)
    grads = case.gradients()
    everyone = contestants(case, grads, oracle.exact_gram(grads))
    assert not {PUBLISHED, PCGRAD, LIBMTL, TORCHJD} & {contestant.name for contestant in everyone}
    for contestant in everyone:
        contestant.prepare()
        result = contestant.call()
        assert contestant.error(result) <= contestant.tolerance <= 1e-2, contestant.name
        if contestant.name != GRAM:
            assert {merged.dtype for merged in result} == {dtype}
            assert contestant.error([merged * 1.02 for merged in result]) > contestant.tolerance


def test_in_place_results_lie_over_a_copy_of_the_first_gradients(grads):
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    in_place = InPlace(grads, torch.ones(len(grads[0]), len(grads), dtype=torch.float64))
    for _ in range(2):
        in_place.prepare()
        merged = in_place.combine()
        for place, copy, result in zip(in_place.out, in_place.grads[0], merged, strict=True):
            assert result is place
            assert copy is None or copy is place
    expected = gk.combine(grads, in_place.rows)
    assert same(merged, expected)
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


def test_wrong_values_get_an_error_and_no_time(monkeypatch):
    def with_one_wrong(case, grads, gram):
        everyone = contestants(case, grads, gram)
        judge = next(contestant for contestant in everyone if contestant.name == OURS)
        return [*everyone, Contestant("wrong", Work(1, 0), lambda: plain_mean(grads), judge.error)]

    monkeypatch.setattr(surgery, "contestants", with_one_wrong)
    table = pd.DataFrame(surgery.measure_surgery(small_case(4), on_round=lambda: None))
    wrong = table.set_index("contestant").loc["wrong"]
    assert pd.isna(wrong["median_ms"])
    assert "differ from float64" in wrong["error"]
    assert [line.split(":")[0] for line in errors(table)] == ["tiny-1K-T4, wrong"]
    assert table.set_index("contestant").loc[OURS, "ratio_to_ours"] == 1


def test_kernels_that_fall_back_get_an_error_and_no_time(monkeypatch):
    def fallen_back(grads):
        warnings.warn("no kernels for this", gk.FallbackWarning, stacklevel=1)
        return plain_mean(grads)

    monkeypatch.setattr("bench.measure.contestants._surgery", fallen_back)
    table = pd.DataFrame(surgery.measure_surgery(small_case(4), on_round=lambda: None)).set_index("contestant")
    assert table.loc[OURS, "error"] == "no kernels for this"
    assert table.loc[[OURS, GRAM], "median_ms"].isna().tolist() == [True, False]


def test_when_ours_is_wrong_the_tables_still_show_the_others(monkeypatch):
    for name in ("_surgery", "_reference_surgery"):
        monkeypatch.setattr(f"bench.measure.contestants.{name}", plain_mean)
    rows = surgery.measure_surgery(small_case(4), on_round=lambda: None)
    table = pd.DataFrame([row | host_columns() for row in surgery.with_ratio_to_float32(rows)])
    ours, torchjd = surgery_markdown(table).splitlines()[2].split("|")[2:4]
    assert ours.strip() == "n/a"
    assert float(torchjd.split(",")[0]) > 0
    assert "n/a" in kernels_markdown(table)
    assert [line.split(":")[0] for line in errors(table)] == [f"tiny-1K-T4, {who}" for who in (OURS, REFERENCE)]


def test_works_of_the_contestants():
    grads = small_case(7).gradients()
    works = {c.name: c.work for c in contestants(small_case(7), grads, oracle.exact_gram(grads))}
    assert works[GRAM] == (7, 0)
    assert works[COMBINE] == works[MEAN] == (6, 1)
    assert works[OURS] == works[OURS_IN_PLACE] == works[PUBLISHED] == works[TORCHJD] == works[LIBMTL] == (13, 1)


def test_ratio_to_float32_is_taken_at_the_same_layout_and_objectives():
    def row(layout, t, dtype, who, ms):
        return {"layout": layout, "T": t, "dtype": dtype, "contestant": who, "median_ms": ms}

    rows = [row("a", 4, "float32", GRAM, 10.0), row("a", 4, "bfloat16", GRAM, 4.0), row("a", 7, "bfloat16", GRAM, 4.0)]
    ratios = [row["ratio_to_float32"] for row in surgery.with_ratio_to_float32(rows)]
    assert ratios[:2] == [1.0, 0.4]
    assert pd.isna(ratios[2])
