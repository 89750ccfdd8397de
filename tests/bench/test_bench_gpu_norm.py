"""The GPU's benchmark of the norm and of a whole step, as far as they go without one."""

import pandas as pd
import pytest
import torch

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from test_bench_gpu import CARD, FakeClock

from bench.gpu import memory
from bench.gpu import norm as gpu_norm
from bench.gpu import step as gpu_step
from bench.measure import step as bench_step
from gmd.models.unet3d import UNet3d
from gpu import hot_kernels

DTYPES = [torch.float32, torch.bfloat16]


def measured(channels, size, dtype):
    return gpu_norm.measure_level(channels, size, dtype, FakeClock(), device="cpu")


def test_the_levels_are_those_of_the_network():
    network = UNet3d(("flair",), ("WT",), width=0.5)
    channels = [block.conv2.out_channels for block in network.encoder]
    assert list(gpu_norm.LEVELS) == [(c, 128 >> level) for level, c in enumerate(channels)]
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
    assert gpu_norm.measure_and_show(small, tmp_path, CARD, end=3) == 0
    shown = capsys.readouterr().out
    assert "left out, for want of time: 7 of the smaller levels" in shown
    assert "| 16 x 4³ bfloat16 | forward | 2000, " in shown
    assert " 1.0x | 1.0x | 100 | 100 |" in shown, "what the host takes"
    assert set(pd.read_csv(tmp_path / gpu_norm.CSV)["gpu"]) == {CARD["gpu"]}
    assert gpu_norm.measure_and_show(small, tmp_path, CARD, end=0) == 1

    def wrong(*level):
        return [row | {"error": "values differ"} for row in small(*level)]

    assert gpu_norm.measure_and_show(wrong, tmp_path, CARD, end=8) == 1
    assert "values differ" in capsys.readouterr().err


def test_an_interrupted_norm_leaves_the_levels_that_are_done(tmp_path, capsys):
    met = []

    def measure(channels, size, dtype):
        met.append(channels)
        if len(met) == 2:
            raise KeyboardInterrupt
        return measured(channels, 4, dtype)

    assert gpu_norm.measure_and_show(measure, tmp_path, CARD, end=float("inf")) == 1
    assert set(pd.read_csv(tmp_path / gpu_norm.CSV)["channels"]) == {16}
    shown = capsys.readouterr().out
    assert "left out, for want of time: 9 of the smaller levels" in shown
    assert "| 16 x 4³ bfloat16 | forward | 2000, " in shown


# The whole step


def rows_of_a_step(size, calls, error=""):
    """After the check where there were no calls, else after so many rounds."""
    row = {"case": f"{size}³", "size": size, "peak_extra_MB": 2000.0, "error": error}
    of_ways = [row | {"contestant": name} for name in ("published", "exact float32")]
    if not calls:
        return of_ways
    return [
        of_way | {"phase": phase, "calls": calls, "median_ms": 10.0 * (5 if of_way["contestant"] == "published" else 1)}
        for of_way in of_ways
        for phase in (*gpu_step.PHASES, "total")
    ]


class Steps:
    """Measures what is made up; `failure` comes at size `at` after `after` rounds, 0 being after the check."""

    def __init__(self, at=None, after=None, error="", failure=KeyboardInterrupt):
        self.at, self.after, self.error, self.failure, self.met = at, after, error, failure, []

    def __call__(self, width, size, rounds):
        self.met.append((width, size, torch.backends.cudnn.allow_tf32))
        for calls in range(rounds + 1):
            yield rows_of_a_step(size, calls, self.error)
            if self.error:
                return
            if (size, calls) == (self.at, self.after):
                raise self.failure


def test_steps_of_two_sizes_are_measured_without_tf32(tmp_path, capsys):
    before, steps = torch.backends.cudnn.allow_tf32, Steps()
    assert gpu_step.measure_and_show(steps, tmp_path, CARD) == 0
    assert steps.met == [(0.5, 64, False), (0.5, 128, False)]
    assert torch.backends.cudnn.allow_tf32 == before
    table = pd.read_csv(tmp_path / gpu_step.CSV)
    assert list(table["case"].unique()) == ["64³", "128³"]
    assert (table["calls"] == 3).all()
    assert set(table["gpu"]) == {CARD["gpu"]}
    shown = capsys.readouterr().out
    for size in (64, 128):
        assert f"| {size}³ exact float32 | 10 | 10 | 10 | 10 | 10 | 5 | 2 |" in shown


def test_wrong_values_of_a_step_are_a_failure(tmp_path, capsys):
    assert gpu_step.measure_and_show(Steps(error="merged gradient differs"), tmp_path, CARD) == 1
    assert "128³, published: merged gradient differs" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "rounds"), [(64, 0), (64, 1), (128, 0), (128, 1)])
def test_an_interrupted_step_leaves_what_there_is(tmp_path, capsys, size, rounds):
    """What is interrupted during the second round keeps the first."""
    assert gpu_step.measure_and_show(Steps(size, rounds), tmp_path, CARD) == 1
    table = pd.read_csv(tmp_path / gpu_step.CSV)
    assert list(table["case"].unique()) == [f"{s}³" for s in (64, 128) if s <= size]
    last = table[table["size"] == size]
    assert set(last["contestant"]) == {"published", "exact float32"}
    assert (last["calls"] == 1).all() if rounds else ("calls" not in last or last["calls"].isna().all())
    shown = capsys.readouterr().out
    assert (f"| {size}³ exact float32 | 10 | 10 |" in shown) == (rounds > 0)
    assert ("| 64³ exact float32 | 10 | 10 |" in shown) == ((size, rounds) != (64, 0))


def test_a_step_that_the_gpu_has_no_memory_for_leaves_the_smaller_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory.torch.cuda, "empty_cache", lambda: None)
    steps = Steps(128, 0, failure=torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB"))
    assert gpu_step.measure_and_show(steps, tmp_path, CARD) == 1
    assert "left out, for want of memory on the GPU: the rest (CUDA out of memory" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / gpu_step.CSV)
    assert (table.loc[table["size"] == 64, "calls"] == 3).all()


def test_interrupted_before_the_check_there_is_nothing_to_show(tmp_path):
    def measure(**step):
        raise KeyboardInterrupt

    assert gpu_step.measure_and_show(measure, tmp_path, CARD) == 1
    assert not (tmp_path / gpu_step.CSV).exists()


def test_the_rows_of_a_step_come_after_its_check_and_after_each_round(monkeypatch):
    """And each case is made once, however many steps it is taken for."""
    made = []
    real = bench_step.make_case
    monkeypatch.setattr(bench_step, "make_case", lambda size, seed: (made.append(seed), real(size, seed))[1])
    bench_step._case.cache_clear()
    found = list(bench_step.rows_of_step(width=0.0625, size=16, rounds=2, trained_steps=6))
    ways = len(bench_step.WAYS)
    assert [len(rows) for rows in found] == [ways, 5 * ways, 5 * ways]
    assert "phase" not in found[0][0]
    assert [{row["calls"] for row in rows} for rows in found[1:]] == [{1}, {2}]
    assert sorted(made) == [0, 1, 2, 3]
    bench_step._case.cache_clear()
