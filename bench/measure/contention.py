"""A step of surgery beside busy processes on the same CPUs: as gmd chooses how threads wait, and as torch comes.

Every measurement is a process of its own, as OpenMP reads its environment once.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from bench.measure.host import ROOT
from gmd import threads

GMD, PLAIN = "as gmd chooses", "as torch comes"
# What a process does before it imports this module, by which gmd chooses: once torch is there, it is too late for that.
FIRST = {PLAIN: "import torch; ", GMD: ""}
CPUS = 2  # for all processes together: among more of them nobody would be in another's way
BUSY = "while True: pass"


@dataclass(frozen=True)
class Setting:
    """What is measured. `limit` is in seconds, for the steps of one process; its start and first step count too."""

    busy: Sequence[int] = (0, 1, 2)
    steps: int = 5
    rounds: int = 3
    width: float = 0.25
    size: int = 32
    limit: float = 60.0


@dataclass
class Found:
    """What the processes of one way and number of busy ones have told so far."""

    way: str
    busy: int
    host: dict[str, object] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # of each step
    late: bool = False  # a process that did not come to its end within the limit


def work(steps: int, width: float, size: int) -> None:
    """Does so many steps of surgery after a first one, and prints lines of JSON: about the threads, then seconds.

    Each line is printed at once, so that it is known how far the process has come when it is ended.
    """
    import torch

    from bench.measure.step import Step, Stopwatch

    waiting = {name: os.environ[name] for name in threads.WAITING if name in os.environ}
    print(json.dumps({"threads": torch.get_num_threads(), "waiting": threads.assignments(waiting)}), flush=True)
    step = Step("exact float32", width, size, trained_steps=0)
    step.run(Stopwatch())
    for _ in range(steps):
        start = perf_counter()
        step.run(Stopwatch())
        print(json.dumps(perf_counter() - start), flush=True)


def measure_contention(setting: Setting, on_process: Callable[[], object]) -> list[dict]:
    """Returns a row for each way and number of busy processes, with the median of all its steps.

    The ways take turns. One that was late, in any round, has no median, and is not measured again. `times_slower` is
    beside torch as it comes and nobody else: inf if late, and nan if that was late itself.
    """
    every = [Found(way, busy) for busy in setting.busy for way in FIRST]
    with _on_cpus(CPUS):
        for _ in range(setting.rounds):
            for found in every:
                if not found.late:
                    with _busy_processes(found.busy):
                        _add_process(found, setting)
                on_process()
    alone = _median(next(found for found in every if found.way == PLAIN))
    return [_row(found, setting, alone) for found in every]


def case_of(busy: int) -> str:
    """Returns what a number of busy processes is called in tables."""
    return f"beside {busy}" if busy else "alone"


def _row(found: Found, setting: Setting, alone: float) -> dict:
    """Returns the row of the results. alone: seconds of torch as it comes, without busy processes."""
    seconds = _median(found)
    return {
        "case": case_of(found.busy),
        "contestant": found.way,
        "busy": found.busy,
        "width": setting.width,
        "size": setting.size,
        "limit_s": setting.limit,
        "wanted": setting.steps,
        "calls": len(found.seconds),
        "late": found.late,
        "median_s": seconds,
        "times_slower": seconds / alone if math.isfinite(alone) else math.nan,
        "error": "",
        **found.host,
    }


def _median(found: Found) -> float:
    """Returns seconds; inf of a way that was late."""
    return math.inf if found.late else median(found.seconds)


def _add_process(found: Found, setting: Setting) -> None:
    """Runs one process, and adds what it tells. Raises CalledProcessError if it fails by itself."""
    arguments = f"{setting.steps}, {setting.width}, {setting.size}"
    code = f"{FIRST[found.way]}from bench.measure.contention import work; work({arguments})"
    unset = {*threads.COUNT, *threads.WAITING}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=setting.limit
        )
        told = done.stdout
    except subprocess.TimeoutExpired as late:
        found.late, told = True, late.stdout or b""
    for line in told.decode().splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may have been cut off
            value = json.loads(line)
            found.host.update(value) if isinstance(value, dict) else found.seconds.append(value)


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    """Keeps so many processes busy meanwhile, each with one thread and nothing to wait for."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _on_cpus(count: int) -> Iterator[None]:
    """Keeps this process, and those that it starts meanwhile, on so many CPUs of those that it may use."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
