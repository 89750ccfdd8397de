"""Commands of `gmd` as real processes that begin at once: each is forked from a server that has loaded everything.

A command of its own takes seconds of imports, which is what makes attacks by the hundred dear. The server runs no
command itself and starts no thread, so that what is forked from it is as a process that has just begun.
"""

import array
import contextlib
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from helpers.places import with_tests_on_path

PID_BYTES = 16  # of the number of a process, with spaces behind it
MEMORY = 6_000_000_000  # bytes of address space: who allocates what a file claims meets its end here
SECONDS = 60.0  # for a command that takes a second or two
# what functions import when they are called
_LAZY = ("matplotlib.pyplot", "monai.inferers", "monai.metrics", "monai.networks.nets", "monai.transforms", "nibabel")
_LAZY += ("PIL.Image", "sklearn.datasets", "sklearn.metrics", "torch._dynamo", "torch.utils.tensorboard")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `status` as a shell counts it, 128 more than the number of a signal; `peak` is in bytes."""

    words: tuple[str, ...]
    status: int
    peak: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """The last thing that it said, for a message of a test."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return f"status {self.status}: {lines[-1] if lines else 'nothing'}"


@dataclass
class Command:
    """A command that runs."""

    words: tuple[str, ...]
    pid: int
    connection: socket.socket
    said: Path
    _outcome: Outcome | None = field(default=None, repr=False)

    def runs(self) -> bool:
        if self._outcome is None:
            self.connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._end(self.connection.recv(64))
        return self._outcome is None

    def wait(self, seconds: float = SECONDS) -> Outcome:
        """Until it ends; it is killed and the test fails if that takes longer."""
        if self._outcome is None:
            self.connection.settimeout(seconds)
            try:
                self._end(self.connection.recv(64))
            except TimeoutError:
                self.kill()
                self.connection.settimeout(None)
                self._end(self.connection.recv(64))
                raise AssertionError(f"gmd {' '.join(self.words)}: has not ended after {seconds} s") from None
        assert self._outcome is not None
        return self._outcome

    def wait_until(self, there: Callable[[], object], seconds: float = SECONDS) -> None:
        """Until something is there, or the command has ended."""
        end = time.monotonic() + seconds
        while not there() and self.runs():
            assert time.monotonic() < end, f"gmd {' '.join(self.words)}: not there after {seconds} s"
            time.sleep(0.001)

    def kill(self, by: int = signal.SIGKILL) -> None:
        """With whatever processes it has started."""
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, by)

    def _end(self, told: bytes) -> None:
        self.connection.close()
        status, peak = map(int, told.split())
        out, err = ((self.said / name).read_bytes().decode("utf-8", "backslashreplace") for name in ("out", "err"))
        self._outcome = Outcome(self.words, status, peak, out, err)


@dataclass(frozen=True)
class Gmd:
    """The server, and how to call it: `gmd("evaluate", run)` is the outcome, `gmd.start(...)` the running command."""

    place: Path
    started: list[Command] = field(default_factory=list)

    def end_all(self) -> None:
        """Ends the commands that still run, as those of a test that has failed."""
        for command in self.started:
            command.kill()
            command.wait()
        self.started.clear()

    def __call__(self, *words: object, seconds: float = SECONDS, **given) -> Outcome:
        return self.start(*words, **given).wait(seconds)

    def start(
        self,
        *words: object,
        cwd: Path | None = None,
        memory: int = MEMORY,
        environment: dict[str, str] | None = None,
        out: int | None = None,
        encoding: str = "utf-8",
    ) -> Command:
        """Starts `gmd WORDS` in a process group of its own.

        memory: bytes of address space that it may have; environment: beside that of the server; out: a descriptor in
        the place of the file that keeps stdout; encoding: of its streams
        """
        said = Path(tempfile.mkdtemp(dir=self.place))
        given = {"words": [str(word) for word in words], "cwd": str(cwd or self.place), "memory": memory}
        given |= {"environment": environment or {}, "encoding": encoding}
        with (said / "out").open("wb") as stdout, (said / "err").open("wb") as stderr:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(self.place / "server"))
            streams = array.array("i", [stdout.fileno() if out is None else out, stderr.fileno()])
            connection.sendmsg(
                [json.dumps(given).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams.tobytes())]
            )
            connection.shutdown(socket.SHUT_WR)
            pid = int(connection.recv(PID_BYTES, socket.MSG_WAITALL))  # no more: how it ended may be there as well
        command = Command(tuple(given["words"]), pid, connection, said)
        self.started.append(command)
        return command


@contextlib.contextmanager
def gmd_server() -> Iterator[Gmd]:
    """Yields what runs commands. The server ends with the block, or with this process."""
    with tempfile.TemporaryDirectory(prefix="gmd-server-") as folder:
        place = Path(folder).resolve()
        environment = with_tests_on_path() | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache")}
        environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *filter(None, sys.path)])
        command = [sys.executable, "-m", "helpers.forked_gmd", str(place / "server")]
        with subprocess.Popen(
            command, cwd=place, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n", "the server has not started; what it said is on stderr"
            yield Gmd(place)
            server.kill()


# What the server does


def serve(path: str) -> None:
    """Forks a command for each connection."""
    _load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    parent = os.getppid()
    listening.settimeout(1)
    print("ready", flush=True)
    while os.getppid() == parent:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listening.close()
            _answer(connection)
            os._exit(0)
        connection.close()


def _load() -> None:
    import gmd

    for module in pkgutil.walk_packages(gmd.__path__, "gmd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)


def _answer(connection: socket.socket) -> None:
    """Tells the number of the process that runs the command, and then how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, (control, *_), *_ = connection.recvmsg(2**20, socket.CMSG_SPACE(8))
    streams = array.array("i", control[2])
    while more := connection.recv(2**20):
        text += more
    if (pid := os.fork()) == 0:
        connection.close()
        _become(json.loads(text), streams)
    connection.sendall((b"%d" % pid).ljust(PID_BYTES))
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(b"%d %d" % (code if code >= 0 else 128 - code, used.ru_maxrss * 1024))


def _become(given: dict, streams: array.array) -> None:
    """Is the command, to its end."""
    status = 1
    try:
        os.setsid()
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdout.reconfigure(encoding=given["encoding"])
        sys.stderr.reconfigure(encoding=given["encoding"])
        os.chdir(given["cwd"])
        os.environ.update(given["environment"])
        resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
        from gmd.cli import main

        sys.argv = ["gmd", *given["words"]]
        status = main(given["words"])
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
