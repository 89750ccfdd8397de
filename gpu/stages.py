"""Runs commands one after the other and logs them: each has a time limit, and a failure stops what needs it."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import NamedTuple

from gpu.hints import KILLED, Hints, ended
from gpu.log import Log

OK, OUT_OF_TIME, UNSUPPORTED = "ok", "not run: out of time", "did not work here"
UNSUPPORTED_STATUS = 77  # what a stage exits with for UNSUPPORTED, as test programs under automake do
MOST_FILES, MOST_BYTES = 8, 16 * 10**6
LEAST_SECONDS = 5.0  # with less time left nothing is begun
# How a stage is asked to end, and how long is waited then. Interrupted, pytest prints what has failed and the benchmark
# shows what it has; pytest-xdist alone gives its workers ten seconds for that.
GRACES = {signal.SIGINT: 15.0, signal.SIGTERM: 3.0, signal.SIGKILL: 3.0}
READING = 5.0  # seconds that are waited, a stage being over, for the rest of what it has printed
RESERVE = sum(GRACES.values()) + READING  # what the end of the last stage may take
# The environment variable that tells a stage when it will be interrupted, on the clock of time.monotonic.
ENDS = "GMD_STAGE_ENDS"


class Stage(NamedTuple):
    """One command, and when it may run for how long.

    Attributes:
        limit: the seconds that are kept for it; LEAST_SECONDS or more.
        most: the seconds that it may take where other stages have left some over. Below `limit` it has no meaning.
        needs: the name of an earlier stage; unless that went well, this one does not run.
        instead_of: the name of an earlier stage; this one runs only if that one did not go well.
    """

    name: str
    limit: float
    command: Sequence[str | Path]
    most: float = 0.0
    needs: str = ""
    instead_of: str = ""


class Result(NamedTuple):
    name: str
    status: str
    seconds: float
    hint: str = ""  # what it lacks, and what to do about that


def run_all(stages: Sequence[Stage], folder: Path, seconds: float, environment: Mapping[str, str]) -> int:
    """Runs all stages in `seconds` at most. The log is appended to `folder`/log.txt.

    Returns 0 if every stage went well or cannot work on this machine; else 1.
    """
    # a shell starts what runs in its background with SIGINT ignored, and so would every stage
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Log(folder / "log.txt")) as log:
        results = _run_each(stages, seconds, environment, log)
        too_much = _too_much(folder)
        for sentence in too_much:
            log.write(sentence)
    return int(bool(too_much) or any(result.status not in (OK, UNSUPPORTED) for result in results))


def _run_each(stages: Sequence[Stage], seconds: float, environment: Mapping[str, str], log: Log) -> list[Result]:
    """Runs the stages whose needs are met, one after the other, and logs a table of all at the end."""
    begin = monotonic()
    results: list[Result] = []
    for position, stage in enumerate(stages):
        statuses = {result.name: result.status for result in results}
        if stage.instead_of and statuses[stage.instead_of] == OK:
            continue
        elapsed = monotonic() - begin
        limit = time_limit(stages[position:], statuses, seconds - elapsed - RESERVE)
        log.write(f"\n=== {stage.name}, after {elapsed:.0f} s of {seconds:.0f} s, at most {max(limit, 0):.0f} s")
        if stage.needs and statuses[stage.needs] != OK:
            results.append(Result(stage.name, f"not run: it needs {stage.needs}", 0.0))
        elif limit < LEAST_SECONDS:
            results.append(Result(stage.name, OUT_OF_TIME, 0.0))
        else:
            results.append(_run(stage, limit, log, environment))
        log.write(f"=== {stage.name}: {told(results[-1])}")
    log.write(f"\n=== all, {monotonic() - begin:.0f} s")
    for result in results:
        log.write(f"{result.name:<16} {result.seconds:6.1f} s  {told(result)}")
    return results


def told(result: Result) -> str:
    """Returns how a stage went, and what it lacked."""
    return f"{result.status}; {result.hint}" if result.hint else result.status


def time_limit(stages: Sequence[Stage], ended: Mapping[str, str], left: float) -> float:
    """Returns how many seconds the first of `stages` may take.

    It has its own limit, and of what is left beyond the limits of all as much as it may use.

    Args:
        stages: those that have not run, in their order.
        ended: the status of each one that has.
        left: seconds for all of them together.
    """
    first, *later = stages
    spare = left - first.limit - sum(stage.limit for stage in _still_to_run(later, ended))
    return min(left, max(first.limit, min(first.most, first.limit + spare)))


def _still_to_run(stages: Sequence[Stage], ended: Mapping[str, str]) -> list[Stage]:
    """Returns those that will run if all goes well from here on."""
    status, chosen = dict(ended), []
    for stage in stages:
        replaced = stage.instead_of and status.get(stage.instead_of, OK) == OK
        if replaced or status.get(stage.needs, OK) != OK:
            status[stage.name] = OUT_OF_TIME
        else:
            chosen.append(stage)
    return chosen


def _run(stage: Stage, limit: float, log: Log, environment: Mapping[str, str]) -> Result:
    begin = monotonic()
    try:
        # a session of its own, so that all that it starts can be ended with it
        process = subprocess.Popen(
            list(map(str, stage.command)),
            env={**os.environ, **environment, ENDS: str(begin + limit)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{stage.command[0]}: {error}")
        return Result(stage.name, "failed: could not be started", monotonic() - begin)
    hints = Hints()
    reader = Thread(target=log.copy, args=(process.stdout, hints.heed), daemon=True)
    reader.start()
    try:
        code = process.wait(limit)
        status = {0: OK, UNSUPPORTED_STATUS: UNSUPPORTED}.get(code, f"failed: {ended(code)}")
    except subprocess.TimeoutExpired:
        status = f"failed: stopped after {limit:.0f} s"
    _end_session(process)
    reader.join(timeout=READING)
    lacking = hints.sentence or (KILLED if signal.SIGKILL.name in status else "")
    return Result(stage.name, status, monotonic() - begin, "" if status == OK else lacking)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and whatever it has left behind, first politely; one that hangs in a driver is left to it."""
    # to it alone: a compiler that dies would be a failure of whoever waits for it
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACES[signal.SIGINT])
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:  # nobody there, as usual
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACES[kind])


def _too_much(folder: Path) -> list[str]:
    """Returns sentences on what of the results would not come back from a machine that is lent."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    many = [f"{len(sizes)} files in {folder}, {MOST_FILES} are allowed"] if len(sizes) > MOST_FILES else []
    large = [f"{sum(sizes)} bytes in {folder}, {MOST_BYTES} are allowed"] if sum(sizes) > MOST_BYTES else []
    return many + large
