"""The GPU's benchmark of the weightings, as far as it goes without one."""

import pandas as pd
import pytest
import torch

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from test_bench_gpu import CARD, FakeClock

import gmd_kernels as gk
from bench.gpu import memory
from bench.gpu import surgery as gpu_surgery
from bench.gpu import weightings as gpu_weightings
from bench.measure import weightings
from bench.measure.files import write_csv
from bench.measure.gpu_names import TORCHS_FORM
from bench.measure.weightings import OURS
from bench.tables import readme


def measured(num_objectives, name):
    return gpu_weightings.measure(num_objectives, name, FakeClock(), device="cpu")


@pytest.mark.parametrize("name", weightings.names())
def test_each_weighting_is_measured_beside_torchs_form(name):
    rows = measured(4, name)
    assert [row["contestant"] for row in rows] == [OURS, TORCHS_FORM]
    assert [row["error"] for row in rows] == ["", ""]
    assert {(row["launches"], row["median_ms"], row["ratio_to_ours"]) for row in rows} == {(3, 2.0, 1.0)}


@pytest.mark.parametrize("name", ["imtl_g", "pcgrad"])
def test_wrong_weights_get_no_time(monkeypatch, name):
    """Of those that draw an order only what is not finite is wrong."""
    real, calls = getattr(gk.weightings, name), []

    def wrong(gram):
        calls.append(gram)
        return real(gram) * (float("nan") if name == "pcgrad" else 1 + 0.01 * (len(calls) % 2))

    monkeypatch.setattr(gk.weightings, name, wrong)
    for row in measured(4, name):
        assert "values differ from float64" in row["error"]
        assert pd.isna(row["median_ms"])
        assert pd.isna(row["launches"])


def test_fifteen_objectives_come_first_and_what_there_was_no_time_for_is_named(tmp_path, monkeypatch, capsys):
    seconds = iter(range(100))
    monkeypatch.setattr(gpu_weightings, "monotonic", lambda: next(seconds))
    assert gpu_weightings.measure_and_show(measured_small, tmp_path, CARD, end=2) == 0
    table = pd.read_csv(tmp_path / "weightings_gpu.csv")
    first = weightings.names()[:2]
    assert list(table["case"].unique()) == [f"{name}, T = 15" for name in first]
    assert set(table["gpu"]) == {CARD["gpu"]}
    shown = capsys.readouterr().out
    assert f"left out, for want of time: {weightings.names()[2]}-T15 " in shown
    assert f"| `{first[0]}` | 2000, 3, 1x |" in shown
    assert "Measured 2026-01-02 03:04 UTC on Some GPU" in shown
    assert gpu_weightings.measure_and_show(measured_small, tmp_path / "none", CARD, end=0) == 1


def test_the_page_has_the_weightings_where_they_were_measured(tmp_path):
    surgery = gpu_surgery.measure_on_gpu(gpu_surgery.FIRST[-1], clock=FakeClock(), device="cpu")
    write_csv(tmp_path / "surgery_gpu.csv", gpu_surgery.with_ratios(surgery), CARD)
    write_csv(tmp_path / "weightings_gpu.csv", [*measured(15, "imtl_g"), *measured(4, "imtl_g")], CARD)
    section = readme.gpu_section(tmp_path)
    assert "| µs, launches, torch's form over ours | T = 4 | T = 15 |" in section
    assert "| `imtl_g` | 2000, 3, 1x | 2000, 3, 1x |" in section
    assert readme.NO_GPU_WEIGHTINGS not in section


def measured_small(num_objectives, name):
    """With few objectives, whatever is asked for."""
    return [row | {"case": f"{name}, T = {num_objectives}", "T": num_objectives} for row in measured(3, name)]


@pytest.mark.parametrize("end", ["interrupted", "memory", "wrong"])
def test_what_goes_wrong_leaves_what_has_been_measured(tmp_path, monkeypatch, capsys, end):
    names = weightings.names()
    monkeypatch.setattr(weightings, "names", lambda: names[:3])
    monkeypatch.setattr(gpu_weightings, "SIZES", (15,))

    def measure(num_objectives, name):
        rows = measured_small(num_objectives, name)
        if name == names[1]:
            if end == "interrupted":
                raise KeyboardInterrupt
            if end == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
            rows = [row | {"error": "values differ"} for row in rows]
        return rows

    monkeypatch.setattr(memory.torch.cuda, "empty_cache", lambda: None)
    assert gpu_weightings.measure_and_show(measure, tmp_path, CARD, end=float("inf")) == 1
    found = pd.read_csv(tmp_path / "weightings_gpu.csv")["weighting"].unique()
    assert list(found) == {"interrupted": names[:1], "memory": [names[0], names[2]], "wrong": names[:3]}[end]
    shown = capsys.readouterr()
    if end == "memory":
        words = f"for want of memory on the GPU: {names[1]}, T = 15 (CUDA out of memory. Tried to allocate 2 GiB)"
        assert words in shown.out
    assert ("values differ" in shown.err) == (end == "wrong")


def test_a_case_too_large_for_the_card_is_left_out_of_the_surgery_and_the_others_are_measured(
    tmp_path, monkeypatch, capsys
):
    emptied = []
    monkeypatch.setattr(memory.torch.cuda, "empty_cache", lambda: emptied.append(True))
    turns = gpu_surgery.PLANS["ours"][-3:]

    def measure(case, contestants):
        if case is turns[1].case:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.58 GiB")
        return gpu_surgery.measure_on_gpu(case, contestants, clock=FakeClock(), device="cpu")

    assert gpu_surgery.measure_and_show(measure, turns, tmp_path, CARD, end=float("inf")) == 1
    assert list(pd.read_csv(tmp_path / "surgery_gpu.csv")["case"].unique()) == [turns[k].case.name for k in (0, 2)]
    assert f"for want of memory on the GPU: {turns[1].case.name} (CUDA out of memory" in capsys.readouterr().out
    assert emptied == [True]
