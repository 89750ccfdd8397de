"""A run of `make test` in which a test takes its process with it, or never ends: it ends, and names the test."""

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
    recipe = re.search(r"^test: venv\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
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
