"""Commands one after the other, all of them logged: each has a time limit, and none that fails stops the next."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import BinaryIO, NamedTuple

OK, OUT_OF_TIME, UNSUPPORTED = "ok", "not run: out of time", "did not work here"
UNSUPPORTED_STATUS = 77  # what a stage exits with for UNSUPPORTED, as test programs under automake do
MOST_LOGGED = 2**20  # bytes of each stage: the log has to fit into what comes back
MOST_AT_THE_END = 500  # lines of a longer one, for its end is where it says what has failed
MOST_FILES, MOST_BYTES = 8, 16 * 10**6
LEAST_SECONDS = 5.0  # with less time left nothing is begun
# How a stage is asked to end, and how long is waited then. Interrupted, pytest prints what has failed and the benchmark
# shows what it has; pytest-xdist alone gives its workers ten seconds for that.
GRACES = {signal.SIGINT: 15.0, signal.SIGTERM: 3.0, signal.SIGKILL: 3.0}


class Stage(NamedTuple):
    name: str
    limit: float  # seconds; LEAST_SECONDS or more
    command: Sequence[str | Path]


class Result(NamedTuple):
    name: str
    status: str
    seconds: float


class Log:
    """What is printed goes to a file too."""

    def __init__(self, path: Path):
        self._file: BinaryIO = path.open("wb")

    def close(self) -> None:
        self._file.close()

    def write(self, text: str) -> None:
        self._put(text.encode() + b"\n", logged=True)

    def copy(self, stream: BinaryIO) -> None:
        """All of it to the screen; of much, the beginning and the end to the file."""
        left, end = MOST_LOGGED, deque(maxlen=MOST_AT_THE_END)
        with stream:
            for line in stream:
                self._put(line, logged=left > 0)
                if left <= 0:
                    end.append(line)
                left -= len(line)
        if end:
            self._file.write(b"... what was printed here is not logged ...\n" + b"".join(end))

    def _put(self, line: bytes, logged: bool) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if logged:
            self._file.write(line)
            self._file.flush()  # what is there counts, should the machine be taken away


def run_all(stages: Iterable[Stage], folder: Path, seconds: float, environment: Mapping[str, str]) -> int:
    """0 if every stage went well or cannot work on this machine; else 1. The log is `folder`/log.txt."""
    # a shell starts what runs in its background with SIGINT ignored, and so would every stage
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Log(folder / "log.txt")) as log:
        return _run_all(stages, folder, seconds, environment, log)


def _run_all(stages: Iterable[Stage], folder: Path, seconds: float, environment: Mapping[str, str], log: Log) -> int:
    results, begin = [], monotonic()
    for stage in stages:
        elapsed = monotonic() - begin
        limit = min(stage.limit, seconds - elapsed - sum(GRACES.values()))
        log.write(f"\n=== {stage.name}, after {elapsed:.0f} s of {seconds:.0f} s, at most {max(limit, 0):.0f} s")
        late = limit < LEAST_SECONDS
        results.append(Result(stage.name, OUT_OF_TIME, 0.0) if late else _run(stage, limit, log, environment))
        log.write(f"=== {stage.name}: {results[-1].status}")
    log.write(f"\n=== all, {monotonic() - begin:.0f} s")
    for result in results:
        log.write(f"{result.name:<16} {result.seconds:6.1f} s  {result.status}")
    too_much = _too_much(folder)
    for sentence in too_much:
        log.write(sentence)
    return int(bool(too_much) or any(result.status not in (OK, UNSUPPORTED) for result in results))


def _run(stage: Stage, limit: float, log: Log, environment: Mapping[str, str]) -> Result:
    begin = monotonic()
    try:
        # a session of its own, so that all that it starts can be ended with it
        process = subprocess.Popen(
            list(map(str, stage.command)),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{stage.command[0]}: {error}")
        return Result(stage.name, "failed: could not be started", monotonic() - begin)
    reader = Thread(target=log.copy, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        code = process.wait(limit)
        status = {0: OK, UNSUPPORTED_STATUS: UNSUPPORTED}.get(code, f"failed: exit status {code}")
    except subprocess.TimeoutExpired:
        status = f"failed: stopped after {limit:.0f} s"
    _end_session(process)
    reader.join(timeout=5)
    return Result(stage.name, status, monotonic() - begin)


def _end_session(process: subprocess.Popen) -> None:
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
    """What of the results would not come back from a machine that is lent."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    many = [f"{len(sizes)} files in {folder}, {MOST_FILES} are allowed"] if len(sizes) > MOST_FILES else []
    large = [f"{sum(sizes)} bytes in {folder}, {MOST_BYTES} are allowed"] if sum(sizes) > MOST_BYTES else []
    return many + large
