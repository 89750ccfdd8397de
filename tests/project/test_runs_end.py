"""A run of the tests, or of CI, in which something dies or never ends: it ends all the same, and says what it was."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ends_soon
from helpers.places import ROOT, with_tests_on_path

pytest.importorskip("xdist")

pytestmark = pytest.mark.slow

BEFORE = "def test_before_{i}(): pass\n"
DIES = "def test_it(): os.kill(os.getpid(), signal.SIGKILL)\n"
HANGS = "def test_it(): ctypes.PyDLL(None).pause()  # with the interpreter's lock held\n"


def options_of_make_test() -> list[str]:
    recipe = re.search(r"^PYTEST := (.+\n(?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert recipe is not None
    return recipe[1].replace("\\\n", " ").split("-m pytest", 1)[1].split()


def run(folder: Path, *instead: str) -> subprocess.CompletedProcess:
    """On two workers, with what tests/conftest.py has for this. `instead` is added to the options."""
    environment = {name: value for name, value in with_tests_on_path().items() if not name.startswith("PYTEST_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "helpers.ends_soon",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    options = [*options_of_make_test(), "-n", "2", *instead]
    return subprocess.run(
        [*command, f"--rootdir={folder}", *options, str(folder)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write(folder: Path, fatal: str, before: int) -> None:
    """A file with that test behind some others, and more files than workers."""
    text = "import ctypes, os, signal\n" + "".join(BEFORE.format(i=i) for i in range(before)) + fatal
    (folder / "test_a_fatal.py").write_text(text + BEFORE.format(i="behind"))
    for i in range(5):
        (folder / f"test_other_{i}.py").write_text("import time\ndef test_it(): time.sleep(0.1)\n" * 3)


def test_every_run_has_the_scheduler(pytestconfig: pytest.Config):
    hooks = pytestconfig.hook.pytest_xdist_make_scheduler.get_hookimpls()
    assert ends_soon.pytest_xdist_make_scheduler in [hook.function for hook in hooks]


def test_work_for_a_worker_that_has_died_waits_for_the_message(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    """As pytest-xdist finds it out by itself when the pipe to it is closed, if that comes first."""

    class Dead:
        def send_runtest_some(self, indices: list[int]) -> None:
            raise OSError("cannot send (already closed?)")

    monkeypatch.setattr(pytestconfig.option, "tx", ["popen"])
    dead, unit = Dead(), {"test_a.py::test_it": False}
    scheduling = ends_soon.scheduling_by_file()(pytestconfig, None)
    scheduling.workqueue["test_a.py"], scheduling.registered_collections[dead] = unit, list(unit)
    scheduling._assign_work_unit(dead)
    assert scheduling.remove_node(dead) == "test_a.py::test_it"
    assert scheduling.workqueue == {"test_a.py": unit}


def test_a_worker_that_is_killed(tmp_path: Path):
    """After a few quick tests, while the main process is still busy with what it is told of these."""
    write(tmp_path, DIES, before=2)
    begun = time.monotonic()
    ended = run(tmp_path)
    assert time.monotonic() - begun < 60
    assert ended.returncode == 1, ended.stdout
    assert "crashed while running 'test_a_fatal.py::test_it'" in ended.stdout
    assert "INTERNALERROR" not in ended.stdout


def test_a_test_that_never_ends(tmp_path: Path):
    """Not even Python's own threads run any more."""
    write(tmp_path, HANGS, before=1)
    begun = time.monotonic()
    ended = run(tmp_path, "-o", "faulthandler_timeout=5")
    assert time.monotonic() - begun < 60
    assert ended.returncode == 1, ended.stdout
    assert "crashed while running 'test_a_fatal.py::test_it'" in ended.stdout
    assert "Timeout (0:00:05)!" in ended.stderr, "the stacks of all threads"
    assert 'test_a_fatal.py", line' in ended.stderr


# .ci/run


def ci(folder: Path, make: str) -> tuple[subprocess.CompletedProcess, float]:
    """With minutes of 0.1 s, a second to listen, and that script as make -> how it ended, after how many seconds."""
    script = (ROOT / ".ci" / "run").read_text()
    copy = folder / "project" / ".ci" / "run"
    copy.parent.mkdir(parents=True)
    copy.write_text(script.replace("$((minutes * 60))", "$((minutes))e-1").replace("--kill-after=30", "--kill-after=1"))
    programs = folder / "programs"
    programs.mkdir()
    for name, text in {"make": make, "chromium": "true"}.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    begun = time.monotonic()
    ended = subprocess.run(
        ["bash", str(copy)], env=environment, capture_output=True, text=True, check=False, timeout=90
    )
    return ended, time.monotonic() - begun


def is_alive(process: Path) -> bool:
    """Whether a process, by its file in /proc, is there and no zombie."""
    try:
        return process.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_steps_of_ci_take_no_longer_than_it_may():
    steps = re.findall(r"\bstep (\d+) ", (ROOT / ".ci" / "run").read_text())
    assert len(steps) == 8
    assert sum(map(int, steps)) + len(steps) * 0.5 < 89


def test_all_steps_of_ci_pass(tmp_path: Path):
    ended, _ = ci(tmp_path, "echo made $1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split("\n") == [
        "made venv",
        "made lint",
        "made test",
        "made slow",
        "made docs",
        "made demo",
        "",
    ]


def test_a_step_of_ci_that_fails_is_the_last(tmp_path: Path):
    ended, _ = ci(tmp_path, "echo made $1; test $1 != lint")
    assert ended.returncode == 1
    assert ended.stdout == "made venv\nmade lint\n"


def test_a_step_of_ci_that_never_ends_is_stopped_and_named(tmp_path: Path):
    ended, seconds = ci(tmp_path, "test $1 != lint || sleep 1000")
    assert ended.returncode == 124
    assert ended.stderr == ".ci/run: 'make lint' was stopped, it took longer than 5 minutes\n"
    assert seconds < 20


def test_a_step_of_ci_that_does_not_listen_is_killed_with_all_that_it_has_started(tmp_path: Path):
    ended, seconds = ci(tmp_path, f"trap '' INT; test $1 != lint || {{ sleep 1000 & echo $! > {tmp_path}/pid; wait; }}")
    assert ended.returncode == 137
    assert ".ci/run: 'make lint' was stopped, it took longer than 5 minutes" in ended.stderr
    assert seconds < 30
    process, until = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat"), time.monotonic() + 20
    while (alive := is_alive(process)) and time.monotonic() < until:  # it was sent the signal, and may be about to die
        time.sleep(0.05)
    assert not alive
