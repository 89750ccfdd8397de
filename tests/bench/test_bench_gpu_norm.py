"""The GPU's benchmark of the norm and of a whole step, as far as they go without one."""

import pandas as pd
import pytest
import torch

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from test_bench_gpu import CARD, FakeClock

from bench.gpu import norm as gpu_norm
from bench.gpu import step as gpu_step
from bench.measure.files import write_csv
from gpu import hot_kernels

DTYPES = [torch.float32, torch.bfloat16]


def measured(channels, size, dtype):
    return gpu_norm.measure_level(channels, size, dtype, FakeClock(), device="cpu")


def test_the_levels_are_those_of_the_network():
    assert gpu_norm.LEVELS == {16: 128, 32: 64, 64: 32, 128: 16, 256: 8}
    assert hot_kernels.NORM == (16, 128, 128, 128)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_contestant_passes_its_own_check_and_a_wrong_one_does_not(dtype):
    everyone = gpu_norm.contestants(gpu_norm.make_level(16, 6, dtype, "cpu"))
    assert len(everyone) == 6
    for way, contestant in everyone:
        contestant.prepare()
        results = contestant.call()
        assert contestant.error(results) <= contestant.tolerance, (way, contestant.name)
        for k in range(len(results)):
            wrong = [1.02 * r if k == j else r for j, r in enumerate(results)]
            assert contestant.error(wrong) > contestant.tolerance, (way, contestant.name, k)


def test_contestants_get_what_their_names_say():
    level = gpu_norm.make_level(16, 4, torch.float32, "cpu")
    assert level.x.is_contiguous(memory_format=torch.channels_last_3d)
    formats = {
        (name, way): contestant.call.leaves[0].is_contiguous()
        for way, contestant in gpu_norm.contestants(level)
        for name in [contestant.name]
        if way == "backward"
    }
    assert formats == {
        (gpu_norm.OURS, "backward"): False,
        (gpu_norm.PYTORCH, "backward"): False,
        (gpu_norm.CONTIGUOUS, "backward"): True,
    }


def test_rows_hold_what_the_clock_says():
    rows = pd.DataFrame(measured(16, 4, torch.bfloat16))
    assert list(rows["error"]) == [""] * 6
    num_bytes = 2 * 16 * 4**3
    for way, arrays in (("forward", 3), ("backward", 5)):
        of = rows[rows["way"] == way].set_index("contestant").loc[gpu_norm.OURS]
        assert of["floor_ms"] == pytest.approx(1e-6 * arrays * num_bytes / 1000)
        assert of["fraction_of_floor"] == pytest.approx(of["floor_ms"] / 2)
    assert set(rows["ratio_to_ours"]) == {1.0}


def test_as_many_levels_as_there_is_time_for_and_a_failure_is_told(monkeypatch, tmp_path, capsys):
    seconds = iter(range(100))
    monkeypatch.setattr(gpu_norm, "monotonic", lambda: next(seconds))
    small = lambda channels, size, dtype: measured(channels, 4, dtype)  # noqa: E731
    assert gpu_norm.measure_and_show(small, tmp_path, CARD, deadline=3) == 0
    shown = capsys.readouterr().out
    assert "left out, for want of time: 7 of the smaller levels" in shown
    assert "| 16 x 4³ bfloat16 | forward | 2000, " in shown
    assert set(pd.read_csv(tmp_path / gpu_norm.CSV)["gpu"]) == {CARD["gpu"]}
    assert gpu_norm.measure_and_show(small, tmp_path, CARD, deadline=0) == 1

    def wrong(*level):
        return [row | {"error": "values differ"} for row in small(*level)]

    assert gpu_norm.measure_and_show(wrong, tmp_path, CARD, deadline=8) == 1
    assert "values differ" in capsys.readouterr().err


def rows_of_a_step(error=""):
    row = {"peak_extra_MB": 2000.0, "error": error}
    return [
        row | {"contestant": name, "phase": phase, "median_ms": 10.0 * (5 if name == "published" else 1)}
        for name in ("published", "exact float32")
        for phase in (*gpu_step.PHASES, "total")
    ]


@pytest.mark.parametrize(("error", "status"), [("", 0), ("merged gradient differs", 1)])
def test_a_step_is_measured_without_tf32(error, status, tmp_path, capsys):
    met = []

    def measure_step(width, size, rounds, on_round, device):
        assert (width, size, device) == (0.5, 128, "cuda")
        met.append(torch.backends.cudnn.allow_tf32)
        return rows_of_a_step(error)

    before = torch.backends.cudnn.allow_tf32
    table = write_csv(tmp_path / gpu_step.CSV, gpu_step.measure(measure_step), CARD)
    assert (met, torch.backends.cudnn.allow_tf32) == ([False], before)
    assert gpu_step.show(table) == status
    shown = capsys.readouterr()
    if status:
        assert "published: merged gradient differs" in shown.err
    else:
        assert "| exact float32 | 10 | 10 | 10 | 10 | 10 | 5 | 2 |" in shown.out
