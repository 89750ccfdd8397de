"""The benchmark of the GPU as far as it goes without one: on gradients on the CPU, by a clock made for the purpose."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import gmd_kernels as gk

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.gpu import budget, pictures
from bench.gpu import contestants as gpu_contestants
from bench.gpu import surgery as gpu
from bench.gpu import timing as gpu_measure
from bench.measure import host, oracle, peers
from bench.measure.cases import FIRST_GPU_CASES, GPU_CASES, LAYOUTS, TINY_GPU_CASES, Case
from bench.measure.contestants import COMBINE, GRAM, MEAN, OURS, PUBLISHED, REFERENCE, TORCHJD, Contestant, Work
from bench.measure.files import write_csv
from bench.measure.gpu_names import MOVED, TRITON_COMBINE, TRITON_GRAM, TRITON_SURGERY
from bench.measure.surgery import with_ratio_to_float32
from bench.tables import plot, readme, targets
from bench.tables.surgery import gpu_markdown, surgery_markdown
from gpu.stages import ENDS

SHAPES = ((8, 4, 3), (5,), (6, 7), (11,), *[(3,)] * 8)
CARD = {
    **{"gpu": "Some GPU", "gpu_MB": 80_000, "multiprocessors": 132, "L2_MB": 50, "driver": "580.1", "cuda": "13.0"},
    **{"caches": "flushed before each call", "torch": "2", "triton": "3", "torchjd": "0", "commit": "abc"},
    "date": "2026-01-02 03:04",
}


class FakeClock:
    """Calls everything once, and makes the times up: 2 ms, of Triton's 4 ms."""

    def __init__(self):
        self.timed = []

    def copy_gbps(self):
        return 1000.0

    def with_peak_memory(self, call):
        return call(), 1.0

    def times(self, contestant):
        contestant.prepare()
        contestant.call()
        self.timed.append(contestant.name)
        ms = 4.0 if "Triton" in contestant.name else 2.0
        return {"median_ms": ms, "p20_ms": ms, "p80_ms": ms, "calls": 5, "host_ms": 0.1}

    def warm_ms(self, contestant):
        return 1.5

    def launches(self, call):
        call()
        return 3


@pytest.fixture(autouse=True)
def triton_on_the_cpu(monkeypatch):
    """The reference in its place: this is not about what Triton computes, and its interpreter is slow."""
    through = gpu_contestants.through
    monkeypatch.setattr(gpu_contestants, "through", lambda backend, call: through("reference", call))


def measured(t=4, dtype=torch.float32, layout="tiny-1K"):
    rows = gpu_measure.measure_on_gpu(Case(layout, SHAPES, t, dtype), clock=FakeClock(), device="cpu")
    return gpu_measure.with_ratio_to_ours(rows)


# The registry


def test_the_cases_that_the_targets_name_are_measured():
    assert len(targets.GPU_LARGE) == 8
    assert {"transformer-16M-T4", "transformer-16M-T15-bf16", "transformer-64M-T15"} <= set(targets.GPU_LARGE)
    assert {"small-0.3M-T15", "small-0.3M-T7", "small-0.46M-T15"} <= set(targets.GPU_KEPT)
    kept = [case.num_objectives * case.num_bytes for case in map(GPU_CASES.get, targets.GPU_KEPT)]
    assert 27.5e6 < max(kept) <= 28e6  # the edge of what stays in shared memory is among them
    for target in targets.GPU_TARGETS:
        assert set(target.cases) <= GPU_CASES.keys()
        assert target.cases


@pytest.mark.parametrize("name", GPU_CASES)
def test_a_case_is_what_its_name_says(name):
    case = GPU_CASES[name]
    layout, size, t, *suffix = name.split("-")
    assert len(LAYOUTS[case.layout]) == {"transformer": 182, "small": 120}[layout]
    assert case.num_elements == pytest.approx(1e6 * float(size.rstrip("M")), rel=0.03)
    assert (case.num_objectives, case.dtype) == (int(t[1:]), torch.bfloat16 if suffix else torch.float32)


def test_what_says_most_comes_first():
    first = list(GPU_CASES.values())[:4]
    assert {case.dtype for case in first} == {torch.float32, torch.bfloat16}
    assert list(GPU_CASES)[: len(FIRST_GPU_CASES)] == list(FIRST_GPU_CASES)
    assert len(FIRST_GPU_CASES) == 8
    assert [case.num_objectives for case in TINY_GPU_CASES.values()] == [2, 7, 15, 16]
    assert {case.num_elements for case in TINY_GPU_CASES.values()} == {1000}


def test_ours_goes_through_all_cases_before_anybody_else():
    """And in the first part of `python -m gpu` nobody else does."""
    every = [turn.case.name for turn in gpu.PLANS["all"] if turn.contestants is gpu_contestants.ours]
    assert every[: len(FIRST_GPU_CASES) + len(TINY_GPU_CASES)] == [*FIRST_GPU_CASES, *TINY_GPU_CASES]
    assert sorted(every) == sorted([*GPU_CASES, *TINY_GPU_CASES])
    assert [turn.case.name for turn in gpu.PLANS["all"][len(every) :]] == list(GPU_CASES)
    assert {turn.contestants for turn in gpu.PLANS["all"][len(every) :]} == {gpu_contestants.others}
    assert [turn.case.name for turn in gpu.PLANS["ours"]] == [*FIRST_GPU_CASES, *TINY_GPU_CASES]
    assert {turn.contestants for turn in gpu.PLANS["ours"]} == {gpu_contestants.ours}


def test_both_passes_together_have_everybody_once():
    case = Case("tiny-1K", SHAPES, 3)
    grads = case.gradients()
    gram = oracle.exact_gram(grads)
    names = [[c.name for c in who(case, grads, gram)] for who in (gpu_contestants.ours, gpu_contestants.others)]
    assert names[0] == [GRAM, COMBINE, OURS, MOVED]
    assert names[1][:4] == [TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY, REFERENCE]
    assert [c.name for c in gpu_contestants.gpu_contestants(case, grads, gram)] == names[0] + names[1]
    assert [c.name for c in gpu_contestants.triton(case, grads, gram)] == names[1][:4]


# The contestants


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", [3, 15])
def test_every_contestant_passes_its_own_check_and_a_wrong_one_does_not(t, dtype):
    case = Case("tiny-1K", SHAPES, t, dtype)
    grads = case.gradients()
    everyone = gpu_contestants.gpu_contestants(case, grads, oracle.exact_gram(grads))
    names = {contestant.name for contestant in everyone}
    assert {GRAM, COMBINE, OURS, MOVED, TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY, REFERENCE} <= names
    assert (PUBLISHED in names) == (MEAN in names) == (dtype == torch.float32)
    for contestant in everyone:
        contestant.prepare()
        result = contestant.call()
        assert contestant.error(result) <= contestant.tolerance, contestant.name
        if isinstance(result, gk.Surgery):
            wrong = gk.Surgery([1.02 * m for m in result.merged], result.gram, result.weights)
        else:
            wrong = [1.02 * m for m in result] if isinstance(result, list) else 1.02 * result
        assert contestant.error(wrong) > contestant.tolerance, contestant.name


def test_surgery_that_forgets_the_projections_is_noticed(monkeypatch):
    """Though its result agrees with its weights."""
    surgery = gk.surgery
    monkeypatch.setattr(gk, "surgery", lambda grads, generator=None: surgery(grads, gk.weightings.mean))
    rows = pd.DataFrame(measured()).set_index("contestant")
    assert "values differ from float64" in rows.loc[OURS, "error"]
    assert pd.isna(rows.loc[OURS, "median_ms"])
    assert rows.loc[GRAM, "error"] == ""


def test_large_gradients_are_not_put_through_the_peers():
    case = Case("tiny-1K", ((5000, 5000),), 1)
    assert case.num_elements > gpu_contestants.PEERS_UP_TO
    small = Case("tiny-1K", SHAPES, 3)
    grads = small.gradients()
    names = [c.name for c in gpu_contestants.gpu_contestants(case, grads, oracle.exact_gram(grads))]
    assert names == [GRAM, COMBINE, OURS, MOVED, TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY, REFERENCE]


def test_surgery_moved_never_finds_its_gradients_where_they_were(monkeypatch):
    grads = Case("tiny-1K", SHAPES, 3).gradients()
    moving, met = gpu_contestants.Moving(grads), []
    monkeypatch.setattr(gk, "surgery", met.append)
    for _ in range(4):
        moving()
    assert met[0] is met[2] is grads
    assert met[1] is met[3]
    for row, copy in zip(grads, met[1], strict=True):
        for g, c in zip(row, copy, strict=True):
            assert g is c is None or (torch.equal(g, c) and g.data_ptr() != c.data_ptr())


def test_without_torchjd_its_rows_say_so(monkeypatch):
    monkeypatch.setattr(peers, "NO_TORCHJD", "torchjd is not installed: No module named 'torchjd'")
    rows = pd.DataFrame(measured())
    missing = rows[rows["contestant"].str.startswith(TORCHJD)]
    assert set(missing["error"]) == {"NotInstalledError: torchjd is not installed: No module named 'torchjd'"}
    assert missing["median_ms"].isna().all()
    others = rows[~rows["contestant"].str.startswith(TORCHJD)]
    assert set(others["error"]) == {""}


# The rows


def test_rows_hold_what_the_clock_says():
    rows = pd.DataFrame(measured(t=4)).set_index("contestant")
    num_bytes = Case("tiny-1K", SHAPES, 4).num_bytes
    ours, triton = rows.loc[OURS], rows.loc[TRITON_SURGERY]
    assert ours["floor_ms"] == pytest.approx(1e-6 * num_bytes * (7 + 2) / 1000)  # 2T - 1 reads, a copy both ways
    assert ours["one_pass_ms"] == pytest.approx(1e-6 * num_bytes * 5 / 1000)
    assert ours["fraction_of_floor"] == pytest.approx(ours["floor_ms"] / 2)
    assert ours["over_one_pass"] == pytest.approx(2 / 0.016)  # such small ones are held against 0.020 ms
    assert (ours["ratio_to_ours"], triton["ratio_to_ours"]) == (1, 2)
    assert ours["warm_ms"] == 1.5
    assert rows["warm_ms"].count() == 1
    assert ours["beyond_result_MB"] == pytest.approx(1 - num_bytes / 1e6)
    assert {target.quantity for target in targets.GPU_TARGETS} <= set(rows.columns)
    assert {target.contestant for target in targets.GPU_TARGETS} <= set(rows.index)


@pytest.mark.parametrize("failure", ["wrong", "falls back", "raises"])
def test_who_fails_gets_an_error_and_no_time(failure):
    clock = FakeClock()

    def call():
        if failure == "raises":
            raise RuntimeError("CUDA error: an illegal memory access\nand more lines")
        if failure == "falls back":
            gpu_measure.warnings.warn("no kernels for this", gk.FallbackWarning, stacklevel=1)
        return 0.5

    def one(case, grads, gram):
        everyone = contestants(case, grads, gram)
        return [*everyone, Contestant("spoilt", Work(1, 0), call, lambda result: result, tolerance=0.1)]

    contestants = gpu_measure.gpu_contestants
    rows = gpu_measure.measure_on_gpu(Case("tiny-1K", SHAPES, 3), one, clock=clock, device="cpu")
    spoilt = rows[-1]
    expected = {
        "wrong": "values differ from float64 by 5.0e-01, more than 1e-01",
        "falls back": "FallbackWarning: no kernels for this",
        "raises": "RuntimeError: CUDA error: an illegal memory access",
    }
    assert spoilt["error"] == expected[failure]
    assert np.isnan(spoilt["median_ms"])
    assert "spoilt" not in clock.timed
    assert OURS in clock.timed


# The clock itself, on a GPU that is made up


class FakeGpu:
    """torch.cuda, of a device on which a call takes 3 ms and a copy 1 ms, whatever it is given."""

    def __init__(self):
        self.queue, self.slept = [], []

    def get_device_properties(self):
        return SimpleNamespace(name="Some GPU", total_memory=80 * 10**9, multi_processor_count=132, L2_cache_size=1000)

    def Event(self, enable_timing):
        assert enable_timing
        event = SimpleNamespace(record=lambda: self.queue.append(event))
        event.elapsed_time = lambda other: 3.0 if "call" in self.between(event, other) else 1.0
        return event

    def between(self, start, end):
        index = [k for k, entry in enumerate(self.queue) if entry is start or entry is end]
        return self.queue[index[0] + 1 : index[1]]

    def _sleep(self, cycles):
        self.slept.append(cycles)
        self.queue.append("sleep")

    def synchronize(self):
        pass

    reset_peak_memory_stats = synchronize

    def memory_allocated(self):
        return 5_000_000

    def max_memory_allocated(self):
        return 7_500_000


@pytest.fixture
def fake_gpu(monkeypatch):
    fake = FakeGpu()
    shim = SimpleNamespace(empty=lambda n, device: torch.empty(n), empty_like=torch.empty_like, cuda=fake)
    monkeypatch.setattr(gpu_measure, "torch", shim)
    monkeypatch.setattr(gpu_measure, "COPIED", 2**16)
    return fake


def test_the_clock_times_what_lies_between_its_events(fake_gpu):
    clock = gpu_measure.GpuClock()
    call, prepare = (lambda word=word: fake_gpu.queue.append(word) for word in ("call", "prepare"))
    times = clock.times(Contestant("", Work(1, 0), call, None, prepare=prepare))
    assert (times["median_ms"], times["p20_ms"], times["calls"]) == (3.0, 3.0, gpu_measure.MOST)
    assert 0 <= times["host_ms"] < 50
    words = [entry if isinstance(entry, str) else "event" for entry in fake_gpu.queue]
    of_the_host = 2 * gpu_measure.HOST_CALLS
    assert words[:of_the_host] == ["prepare", "call"] * gpu_measure.HOST_CALLS
    assert words[of_the_host:] == ["prepare", "sleep", "event", "call", "event"] * gpu_measure.MOST
    assert clock.copy_gbps() == pytest.approx(2 * 2**16 / 1e-3 / 1e9)


def test_a_warm_call_follows_another_one_with_nothing_read_in_between(fake_gpu, monkeypatch):
    read = []
    monkeypatch.setattr(torch.Tensor, "sum", lambda tensor: read.append(tensor.numel()))
    clock, call = gpu_measure.GpuClock(), lambda: fake_gpu.queue.append("call")
    assert clock.warm_ms(Contestant("", Work(1, 0), call, None)) == 3.0
    assert read == []
    clock.times(Contestant("", Work(1, 0), call, None))
    assert read == [1000] * gpu_measure.MOST  # as many numbers, four times as many bytes, as the L2 cache has


def test_the_clock_spares_slow_calls_long_sleeps_and_many_rounds(fake_gpu, monkeypatch):
    monkeypatch.setattr(gpu_measure, "perf_counter", iter(0.1 * k for k in range(1000)).__next__)
    times = gpu_measure.GpuClock().times(Contestant("", Work(1, 0), lambda: fake_gpu.queue.append("call"), None))
    assert times["calls"] == gpu_measure.FEWEST
    assert times["host_ms"] == pytest.approx(100)
    assert set(fake_gpu.slept) == {int(gpu_measure.LONGEST_SLEEP * gpu_measure.CYCLES_PER_SECOND)}


def test_memory_is_what_the_peak_is_above_the_level_before(fake_gpu):
    assert gpu_measure.GpuClock().with_peak_memory(lambda: "result") == ("result", 2.5)


def test_every_row_names_the_card(fake_gpu, tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.1")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_properties", fake_gpu.get_device_properties)
    columns = host.gpu_columns()
    assert columns.keys() == CARD.keys()
    assert (columns["gpu"], columns["driver"], columns["torch"]) == ("Some GPU", "580.1", torch.__version__)


@pytest.mark.parametrize("words", [None, "exit 9", "echo"], ids=["missing", "fails", "says nothing"])
def test_without_an_answer_of_nvidia_smi_the_driver_is_unknown(fake_gpu, tmp_path, monkeypatch, words):
    if words:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{words}")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "get_device_properties", fake_gpu.get_device_properties)
    assert host.gpu_columns()["driver"] == "unknown"


def test_a_package_without_metadata_has_no_version(monkeypatch):
    monkeypatch.setattr(host.util, "find_spec", lambda name: "is there")
    assert host._version("triton-within-another") == "unknown"


def test_the_commit_may_be_told_where_there_is_no_git(monkeypatch):
    monkeypatch.setattr(host, "ROOT", "/")
    monkeypatch.delenv("GMD_COMMIT", raising=False)
    assert host._commit() == "unknown"
    monkeypatch.setenv("GMD_COMMIT", "abc1234")
    assert host._commit() == "abc1234"


# Tables, pictures, verdicts, the README


class Measuring:
    """One case takes a second; the one at `interrupted` is not finished."""

    def __init__(self, monkeypatch, interrupted=None):
        self.seconds, self.met, self.interrupted = 0.0, [], interrupted
        monkeypatch.setattr(gpu, "monotonic", lambda: self.seconds)

    def __call__(self, case, contestants):
        if len(self.met) == self.interrupted:
            raise KeyboardInterrupt
        self.seconds += 1
        self.met.append(case.name)
        clock = FakeClock()
        small = Case(case.layout, SHAPES, case.num_objectives)
        rows = gpu_measure.measure_on_gpu(small, contestants, clock=clock, device="cpu")
        return [row | {"case": case.name} for row in rows]


@pytest.mark.parametrize(
    ("deadline", "interrupted", "status"), [(1.5, None, 0), (99, 2, 1)], ids=["late", "interrupted"]
)
def test_what_there_is_no_time_for_is_left_out_and_the_rest_is_shown(
    monkeypatch, tmp_path, capsys, deadline, interrupted, status
):
    measuring = Measuring(monkeypatch, interrupted)
    assert gpu.measure_and_show(measuring, gpu.PLANS["all"], tmp_path, CARD, deadline) == status
    first, second, *others = (turn.case.name for turn in gpu.PLANS["all"] if turn.who == "ours")
    assert measuring.met == [first, second]
    shown = capsys.readouterr().out
    assert f"left out, for want of time, ours: {', '.join(others)}\n" in shown
    assert f"left out, for want of time, the others: {', '.join(GPU_CASES)}\n" in shown
    assert f"| {second} | 2000, " in shown
    assert "surgery (ours), host_ms at most 0.3: not measured" in shown
    assert set(pd.read_csv(tmp_path / "surgery_gpu.csv")["case"]) == {first, second}


def test_interrupted_before_anything_was_measured(monkeypatch, tmp_path, capsys):
    assert gpu.measure_and_show(Measuring(monkeypatch, interrupted=0), gpu.PLANS["triton"], tmp_path, CARD, 99) == 1
    assert f"left out, for want of time, Triton: {', '.join(GPU_CASES)}\n" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("who", gpu.PLANS)
def test_whoever_is_measured_is_shown(monkeypatch, tmp_path, capsys, who):
    """The others beside ours, which was measured before; without ours there is nothing to compare with."""
    turns = [turn for turn in gpu.PLANS[who] if turn.case.name in list(GPU_CASES)[:2]]
    assert gpu.measure_and_show(Measuring(monkeypatch), turns, tmp_path, CARD, 99) == 0
    assert "left out" not in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "surgery_gpu.csv")
    ours, triton = (table[table["contestant"] == name] for name in (OURS, TRITON_SURGERY))
    assert (len(ours), len(triton)) == {"ours": (2, 0), "triton": (0, 2), "all": (2, 2)}[who]
    assert list(triton["ratio_to_ours"].dropna()) == ([2.0, 2.0] if who == "all" else [])


def test_the_time_of_a_stage_ends_before_it_is_interrupted(monkeypatch):
    monkeypatch.delenv(ENDS, raising=False)
    monkeypatch.setattr(budget, "monotonic", lambda: 100.0)
    assert budget.deadline(usual=90, reserve=10) == 190
    monkeypatch.setenv(ENDS, "150.5")
    assert budget.deadline(usual=90, reserve=10) == 140.5


@pytest.fixture
def table(tmp_path):
    rows = [row for t in (4, 15) for dtype in (torch.float32, torch.bfloat16) for row in measured(t, dtype)]
    large = [
        row
        for row in measured(15, layout="huge-1K")
        if "Triton" in row["contestant"] or row["contestant"] in (GRAM, COMBINE, OURS)
    ]
    return write_csv(tmp_path / "surgery_gpu.csv", with_ratio_to_float32(rows + large), CARD)


def test_what_is_shown_and_left_behind(table, tmp_path, capsys):
    assert gpu.show(table) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"surgery_gpu.csv"}  # few files come back; pictures are later
    shown = capsys.readouterr().out
    assert "| tiny-1K-T4 | 2 | " in shown
    assert "tiny-1K-T15-bf16 | 2000, " in shown
    assert "| 100 | 4000, " in shown  # until the host goes on, then Triton's first
    assert "surgery (ours), host_ms at most 0.3: not measured" in shown


def test_pictures_are_drawn_of_what_was_left_behind(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pictures", str(tmp_path)])
    assert pictures.main() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"surgery_gpu.csv", *pictures.PICTURES}
    monkeypatch.setattr("sys.argv", ["pictures", str(tmp_path / "nowhere")])
    assert pictures.main() == 2
    assert "surgery_gpu.csv is missing" in capsys.readouterr().err


def test_an_error_is_a_failure_but_what_is_not_installed_is_none(table):
    for sentence, status in (("NotInstalledError: torchjd is not installed", 0), ("values differ", 1)):
        table.loc[table["contestant"] == TORCHJD, ["error", "median_ms", "ratio_to_ours"]] = [sentence, np.nan, np.nan]
        assert gpu.show(table) == status


def test_pictures_of_the_gpu_leave_out_what_peers_did_not_meet(table):
    titles = [ax.get_title() for ax in plot.draw_surgery(table).axes]
    assert titles == ["tiny-1K, 12 tensors, T = 4", "tiny-1K, 12 tensors, T = 15"]
    assert [text.get_text() for text in plot.draw_floors(table).axes[0].texts].count("n/a") == 0
    assert "Some GPU" in plot.draw_floors(table).axes[0].get_title()


def test_the_readme_has_figures_of_a_gpu_where_there_are_results(table, tmp_path):
    section = readme.gpu_section(tmp_path)
    assert "No GPU" not in section
    assert "on Some GPU, driver 580.1, CUDA 13.0, torch 2, Triton 3, TorchJD 0, gmd abc" in section
    assert "bench/results/surgery_gpu.png" in section
    assert readme.NO_GPU_WEIGHTINGS in section
    assert "| huge-1K-T15 |" in gpu_markdown(table)
    assert "huge-1K" not in surgery_markdown(table)
    assert readme.gpu_section(tmp_path / "nowhere") == readme.NO_GPU
