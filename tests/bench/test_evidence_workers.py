"""The processes of `python -m bench.evidence`: on one thread each, and gone whenever who asked is gone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.evidence.code import code_hash
from bench.evidence.command import evidence
from bench.evidence.once import Order, order
from bench.evidence.store import Key, Store
from bench.evidence.task import Outcome, Request
from bench.evidence.workers import DIED, Workers
from helpers.evidence_cases import ARMS, Alone, begun, outcome, task
from helpers.places import ROOT

pytestmark = pytest.mark.slow
RUNS = 2 * len(ARMS) + 3 * len(ARMS)
TIMES = ["date", "cpu_s"]


def look(request: Request, place: Path) -> Outcome:
    """A run that tells of its process."""
    threads = f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']}"
    (place / f"{request.arm.name}").write_text(f"{os.getpid()} {threads}")
    return outcome(request, ("a", "b"))


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2)
    yield made
    made.end()


def orders(folder: Path, **given: object) -> list[Order]:
    (folder / "data").mkdir()
    store, toy = Store(folder / "work", "code"), task("toy", **given)
    return [order(store, toy, arm, Key("toy", arm.name, 0, 0), folder / "data", {}) for arm in ARMS]


def all_ended(workers: Workers) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    while workers.in_work:
        found |= {done.key.arm: failure for done, failure in workers.ended(30)}
    return found


def test_a_process_does_one_run_after_the_other_on_one_thread(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    for wanted in orders(tmp_path):
        if not workers.free:
            list(workers.ended(60))
        workers.begin(wanted._replace(run=partial(look, place=tmp_path)))
    all_ended(workers)
    told = [(tmp_path / arm.name).read_text().split() for arm in ARMS]
    assert len({pid for pid, *_ in told}) == 2
    assert {tuple(threads) for _, *threads in told} == {("1", "1")}
    assert len(Store(tmp_path / "work", "code").read()) == len(ARMS)
    assert "OMP_NUM_THREADS" not in os.environ, "what is set is set for these processes alone"
    assert os.environ["MKL_NUM_THREADS"] == "7"


def test_a_process_that_dies_is_told_and_another_takes_its_place(workers: Workers, tmp_path: Path):
    wanted = {one.key.arm: one for one in orders(tmp_path)}
    (tmp_path / "data" / "failing").write_text("dies")
    workers.begin(wanted["cggm"])
    workers.begin(wanted["gmd"])
    assert all_ended(workers) == {"cggm": DIED, "gmd": None}
    (tmp_path / "data" / "failing").write_text("by an error")
    workers.begin(wanted["cggm"])
    assert all_ended(workers) == {"cggm": "RuntimeError: made to fail: by an error"}
    for process in multiprocessing.active_children():  # by the system, while it waits
        process.kill()
        process.join()
    workers.begin(wanted["gmd"])
    assert all_ended(workers) == {"gmd": None}


def test_who_has_nothing_to_do_ends_by_itself(tmp_path: Path):
    """A bug: killed, it left semaphores, and Python warned of them at the end of the command."""
    made = Workers(1)
    made.begin(orders(tmp_path)[0])
    assert set(all_ended(made).values()) == {None}
    process = made._idle[0]._process
    made.end()
    assert process.exitcode == 0


def test_what_is_in_work_can_be_given_up(tmp_path: Path):
    made = Workers(1)
    [first, *_] = orders(tmp_path, pause=60.0)
    made.begin(first)
    while not begun(tmp_path / "data"):
        assert not list(made.ended(0.1))
    made.end()
    assert not made.in_work
    assert made.free == 1
    assert not Store(tmp_path / "work", "code").read()


# ---- the command, killed ----


def words(place: Path) -> list[str]:
    return [f"--{name}={place / name}" for name in ("data", "work", "out")]


def started(place: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "helpers.evidence_command", *words(place)]
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **quiet, env={**os.environ, "PYTHONPATH": path})


def finished_here(place: Path) -> None:
    assert evidence(words(place), [task("toy", seeds=3)], lambda out: [], Alone) == 0


def rows(place: Path) -> int:
    return len(list((place / "work").rglob("seed *.json")))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_command_that_is_killed_loses_what_was_in_work_and_no_more(tmp_path: Path, how: signal.Signals):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    for place in (killed, straight):
        (place / "data" / "toy").mkdir(parents=True)
    process = started(killed)
    while rows(killed) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    assert process.wait(30) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    time.sleep(0.3)  # for the processes that did the runs to see it
    done, log = rows(killed), len(begun(killed / "data"))
    time.sleep(0.5)
    assert (rows(killed), len(begun(killed / "data"))) == (done, log), "nobody goes on"
    assert 3 <= done < RUNS
    assert log - done <= Workers().number
    finished_here(killed)
    assert len(begun(killed / "data")) == log + RUNS - done
    assert not list((killed / "work" / code_hash() / ".in work").glob("*"))
    finished_here(straight)
    one, two = (pd.read_csv(place / "out" / "evidence.csv").drop(columns=TIMES) for place in (killed, straight))
    pd.testing.assert_frame_equal(one, two)
