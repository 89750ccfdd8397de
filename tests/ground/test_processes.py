"""A process is told apart from those that have its number elsewhere, or had it before."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gmd import processes
from gmd.processes import Process

US = Process.this()


def test_this_process_runs():
    assert US.runs() is True
    assert US.start > 0
    assert Process.from_dict(US.to_dict()) == US


def test_a_killed_process_does_not_even_as_a_zombie():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process = Process(US.host, US.space, child.pid, int(_stat(child.pid)[19]))
    assert process.runs() is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _stat(child.pid)[0] == b"Z"
    assert process.runs() is False
    child.wait()
    assert process.runs() is False


def _stat(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def test_the_same_number_given_anew_is_another_process():
    assert replace(US, start=US.start - 1).runs() is False


def test_of_another_machine_or_container_nothing_is_known():
    boot = US.space.partition(" ")[0]
    assert replace(US, host="elsewhere").runs() is None
    assert replace(US, space=f"{boot} pid:[1]").runs() is None


def test_no_process_outlives_its_system():
    assert replace(US, space=" ".join(["another-start", *US.space.split(" ")[1:]])).runs() is False


def test_of_another_machine_of_the_same_name_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A second machine called localhost has another start, too, and its processes may well run."""
    for number in ("1", "2"):
        (tmp_path / number).write_text(number * 32 + "\n", encoding="ascii")
    monkeypatch.setattr(processes, "_MACHINE", tmp_path / "1")
    there = Process.this()
    assert there.runs() is True
    monkeypatch.setattr(processes, "_MACHINE", tmp_path / "2")
    assert there.runs() is None
    assert replace(there, space=f"another-start {there.space.partition(' ')[2]}").runs() is None


def test_where_the_system_tells_no_start_the_number_has_to_do():
    assert replace(US, start=0).runs() is True
    assert replace(US, start=0, pid=2**22 + 1).runs() is False


@pytest.mark.parametrize(
    "values",
    [
        *(None, [], {}, {"host": "a"}),
        *(US.to_dict() | {"pid": pid} for pid in ("7", True, 0, -1, 2**31, 10**30)),
        US.to_dict() | {"start": -1},
    ],
)
def test_what_describes_no_process_is_none(values: object):
    assert Process.from_dict(values) is None
