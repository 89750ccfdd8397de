"""The benchmark beside busy processes: each process by itself, the limit of time, and what the table makes of it."""

import json
import math
import os
import subprocess
import time

import pandas as pd
import pytest

from bench import contention as command
from bench.measure import contention
from bench.measure.contention import GMD, PLAIN, Setting, measure_contention
from bench.measure.files import write_csv
from bench.tables.contention import contention_markdown
from bench.tables.readme import contention_section
from bench.tables.results import read_results
from bench.tables.targets import contention_verdicts
from helpers.bench_host import HOST

SMALL = Setting(busy=(0, 1), steps=2, rounds=2, limit=30.0)
# In place of a training: a step takes 1 s as torch comes, 0.5 s as gmd chooses.
QUICK = """
import json, os
about = {"threads": len(os.sched_getaffinity(0)), "waiting": os.environ.get("GOMP_SPINCOUNT", "")}
print(json.dumps(about), flush=True)
for _ in range(2): print(%s, flush=True)
raise SystemExit
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "FIRST", {PLAIN: QUICK % 1.0, GMD: QUICK % 0.5})


def test_a_row_for_each_way_and_number_of_busy_processes(quick: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")  # of the user, or of this process: the measured ones start without
    processes, allowed = [], os.sched_getaffinity(0)
    rows = measure_contention(SMALL, lambda: processes.append(1))
    assert len(processes) == 8
    assert [(row["case"], row["contestant"]) for row in rows] == [
        ("alone", PLAIN),
        ("alone", GMD),
        ("beside 1", PLAIN),
        ("beside 1", GMD),
    ]
    assert [row["median_s"] for row in rows] == [1, 0.5, 1, 0.5]
    assert [row["times_slower"] for row in rows] == [1, 0.5, 1, 0.5]
    for row in rows:
        assert (row["calls"], row["late"], row["waiting"]) == (4, False, "")
        assert row["threads"] == min(2, len(allowed))
    assert os.sched_getaffinity(0) == allowed


def test_a_way_that_is_late_has_its_steps_and_no_time_and_is_not_measured_again(monkeypatch: pytest.MonkeyPatch):
    late = QUICK % 1.0 + "\n"
    late = late.replace("range(2)", "range(1)").replace("raise SystemExit", "print('0.', end='', flush=True)\n")
    late += "import time; time.sleep(60)\n"
    monkeypatch.setattr(contention, "FIRST", {PLAIN: QUICK % 1.0, GMD: late})
    start = time.monotonic()
    alone, slow = measure_contention(Setting(busy=(0,), steps=2, rounds=3, limit=2.0), lambda: None)
    assert time.monotonic() - start < 20
    assert (alone["late"], alone["calls"], alone["times_slower"]) == (False, 6, 1)
    assert (slow["late"], slow["calls"], slow["median_s"], slow["times_slower"]) == (True, 1, math.inf, math.inf)


def test_nothing_is_compared_with_what_was_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contention, "FIRST", {PLAIN: "import time; time.sleep(60)\n", GMD: QUICK % 0.5})
    rows = measure_contention(Setting(busy=(0,), rounds=1, limit=1.0), lambda: None)
    assert all(math.isnan(row["times_slower"]) for row in rows)
    assert all("not measured" in verdict for verdict in contention_verdicts(pd.DataFrame(rows)))
    assert contention_markdown(pd.DataFrame([row | HOST | {"commit": "abc"} for row in rows])).splitlines()[2:4] == [
        f"| {PLAIN} | no 5 steps in 1 s |",
        f"| {GMD} | 0.5 |",
    ]


def test_a_process_that_fails_is_an_error_and_nobody_stays_busy(monkeypatch: pytest.MonkeyPatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(contention.subprocess, "Popen", Popen)
    monkeypatch.setattr(contention, "FIRST", {PLAIN: "raise SystemExit(3)\n"})
    with pytest.raises(subprocess.CalledProcessError):
        measure_contention(Setting(busy=(2,)), lambda: None)
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)


@pytest.mark.slow
def test_the_work_is_a_step_of_surgery(capsys: pytest.CaptureFixture, one_thread: None):
    contention.work(2, 0.125, 16)
    about, *seconds = map(json.loads, capsys.readouterr().out.splitlines())
    assert about["threads"] == 1
    assert len(seconds) == 2
    assert all(value > 0 for value in seconds)


def rows() -> list[dict]:
    """Made by hand; torch as it comes does not get through beside two."""
    seconds = {("alone", PLAIN): 1.2, ("alone", GMD): 1.5, ("beside 2", PLAIN): math.inf, ("beside 2", GMD): 2.4}
    return [
        {"case": case, "contestant": way, "wanted": 5, "limit_s": 60.0, "late": math.isinf(value)}
        | {"median_s": value, "times_slower": value / 1.2}
        for (case, way), value in seconds.items()
    ]


def test_the_table_shows_what_was_not_done_in_time(tmp_path):
    table = write_csv(tmp_path / "contention_cpu.csv", rows(), HOST)
    for results in (table, read_results(tmp_path / "contention_cpu.csv")):
        assert contention_markdown(results.assign(commit="abc")).splitlines()[:5] == [
            "| seconds a step | alone | beside 2 |",
            "| :-- | --: | --: |",
            f"| {PLAIN} | 1.2, 1.00x | no 5 steps in 60 s |",
            f"| {GMD} | 1.5, 1.25x | 2.4, 2.00x |",
            "",
        ]
        assert contention_verdicts(results) == [
            f"{GMD}, times_slower at most 1.12: MISSED in 1 of 1 cases, 1.25 in alone",
            f"{GMD}, times_slower at most 3: not measured",
        ]


def test_a_way_of_ours_that_was_late_has_missed_its_target():
    table = pd.DataFrame([{"case": "beside 1", "contestant": GMD, "times_slower": math.inf}])
    assert contention_verdicts(table)[1] == f"{GMD}, times_slower at most 3: MISSED in 1 of 1 cases, inf in beside 1"


def test_the_page_says_so_where_nothing_was_measured(tmp_path):
    assert "python -m bench.contention" in contention_section(tmp_path)
    assert "|" not in contention_section(tmp_path)
    write_csv(tmp_path / "contention_cpu.csv", [row | {"commit": "abc"} for row in rows()], HOST)
    assert "no 5 steps in 60 s" in contention_section(tmp_path)


def test_the_command_writes_the_results(quick: None, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(command, "QUICK_RESULTS", tmp_path)
    monkeypatch.setattr(command.sys, "argv", ["bench.contention", "--quick"])
    assert command.main() == 0
    table = read_results(tmp_path / "contention_cpu.csv")
    assert table["case"].tolist() == ["alone", "alone", "beside 1", "beside 1"]
    assert {"cpu", "cores", "threads", "torch", "commit", "date", "waiting"} <= set(table.columns)
    printed = capsys.readouterr()
    assert "| seconds a step | alone | beside 1 |" in printed.out
    assert "times_slower at most 3: reached, 0.5 in beside 1" in printed.out
    assert "4/4" in printed.err
