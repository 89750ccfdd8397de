"""bench.measure.weightings: values are judged before speed, every weighting is there, the table says what rows say."""

import pandas as pd
import pytest
import torch

import gmd_kernels as gk
from bench.measure import weightings
from bench.measure.weightings import AT_RANDOM, OURS, SIZES, THEIRS, TORCHJD, measure_case, measure_weightings, names
from bench.tables import targets
from bench.tables.weightings import weightings_markdown
from helpers.bench_host import HOST

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", [name for name in names() if name != "nash_mtl"])  # TorchJD's takes a second
def test_a_case(name: str):
    rows = measure_case(name, 4)
    assert [row["contestant"] for row in rows] == [OURS, TORCHJD][: 1 + (name in THEIRS)]
    for row in rows:
        assert row["error"] == ""
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]
        assert row["case"] == f"{name}, T = 4"
    assert rows[0]["ratio_to_ours"] == 1
    if len(rows) == 2 and name not in AT_RANDOM:
        assert rows[1]["value_error"] <= weightings.TOLERANCES.get(name, weightings.TOLERANCE)


def test_who_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(THEIRS, "upgrad", lambda _: lambda gram: gram.new_ones(len(gram)))
    mine, theirs = measure_case("upgrad", 4)
    assert mine["median_ms"] > 0
    assert theirs["median_ms"] is None
    assert theirs["error"] == "values differ from ours by more than 2e-02"


def test_without_torchjd_ours_are_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weightings, "NO_TORCHJD", "torchjd is not installed")
    assert [row["contestant"] for row in measure_case("upgrad", 4)] == [OURS]


def test_every_weighting_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weightings, "measure_case", lambda name, size: [{"weighting": name, "T": size}])
    rows = measure_weightings(SIZES, lambda: None)
    every = {name for name in dir(gk.weightings) if getattr(getattr(gk.weightings, name), "batched", False) is True}
    assert {row["weighting"] for row in rows} == every > {"upgrad", "pcgrad", "gradvac", "mean"}
    assert set(THEIRS) <= every


def test_a_third_of_the_gradients_is_against_the_others():
    for jacobian in weightings.jacobians(15):
        conflicts = (jacobian @ jacobian.T < 0).sum() / (15 * 14)
        assert 0.25 < conflicts < 0.6
        assert torch.linalg.matrix_rank(jacobian) == 15


def table(upgrad: float, nash_mtl: float) -> pd.DataFrame:
    times = {"upgrad": (upgrad, 0.5 * upgrad), "nash_mtl": (nash_mtl, None), "config": (0.25, None)}
    rows = [
        {"case": f"{name}, T = {size}", "weighting": name, "T": size, "contestant": who, "median_ms": ms, "error": ""}
        for size in (15, 63)
        for name, both in times.items()
        for who, ms in zip((OURS, TORCHJD), both, strict=True)
        if (name, who) != ("config", TORCHJD)
    ]
    return pd.DataFrame([row | HOST | {"commit": "abc"} for row in rows])


def test_the_table():
    head, _, *lines = weightings_markdown(table(0.8, 2)).splitlines()
    assert head == "| ms, TorchJD's over ours | T = 15 | T = 63 |"
    assert lines[:3] == ["| `upgrad` | 0.8, 0.5x | 0.8, 0.5x |", "| `nash_mtl` | 2 | 2 |", "| `config` | 0.25 | 0.25 |"]


def test_the_verdicts():
    assert all("reached" in verdict for verdict in targets.weightings_verdicts(table(0.8, 2)))
    first, second, third = targets.weightings_verdicts(table(26, 3.5))
    assert first == "ours, median_ms at most 1: MISSED in 1 of 2 cases, 26 in upgrad, T = 15"
    assert second == "ours, median_ms at most 3: MISSED in 1 of 1 cases, 3.5 in nash_mtl, T = 15"
    assert third == "ours, median_ms at most 25: MISSED in 1 of 3 cases, 26 in upgrad, T = 63"
