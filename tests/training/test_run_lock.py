"""A folder has one writer at a time, and what a killed one has left is taken over where that is known to be right."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.processes import Process
from gmd.training import run_lock
from gmd.training.run_lock import LOCK, NO_LOCKS_HERE, locked

US = Process.this()
DEAD = Process(US.host, US.space, US.pid, US.start + 1)  # had our number
ELSEWHERE = Process("elsewhere", US.space, 7, 7)
EARLIER = " ".join(["an-earlier-start", *US.space.split(" ")[1:]])


def content(process: Process, /, **changed: object) -> str:
    about = {"process": process.to_dict(), "started": "2026-01-02T03:04:05+00:00", "command": "gmd train brats"}
    return json.dumps(about | changed)


def leave(folder: Path, text: str | bytes) -> Path:
    """Leaves a lock behind that no process holds."""
    folder.mkdir(exist_ok=True)
    path = folder / LOCK
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, force: bool | None = False) -> str:
    with pytest.raises(UserError) as refused, locked(folder, force):
        pass
    return str(refused.value)


def take(folder: Path, force: bool | None = False) -> None:
    with locked(folder, force):
        assert Process.from_dict(json.loads((folder / LOCK).read_text())["process"]) == US
    assert not (folder / LOCK).exists()


@pytest.fixture(params=["with the kernel's locks", *NO_LOCKS_HERE], ids=str)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """File systems that have such locks and ones that have not. Whether this one has."""
    if isinstance(request.param, str):
        return True
    without_kernel(monkeypatch, request.param)
    return False


def without_kernel(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


# ---- one at a time ----


def test_the_second_is_told_who_is_there(tmp_path: Path, kernel: bool):
    with locked(tmp_path):
        for force in (None, False, True):
            said = refusal(tmp_path, force)
            assert said.startswith(f"{tmp_path}: in use by process {os.getpid()} on {US.host}, since 20")
            assert "wait until that has ended, or give another folder" in said
    take(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_lock_is_given_back_after_an_error_and_an_empty_folder_removed(tmp_path: Path):
    def fail(name: str) -> None:
        with locked(tmp_path / "runs" / "a"):
            (tmp_path / name).write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail("beside.txt")
    assert os.listdir(tmp_path) == ["beside.txt"]
    with pytest.raises(KeyboardInterrupt):
        fail("runs/a/made.txt")
    assert os.listdir(tmp_path / "runs" / "a") == ["made.txt"]


def test_a_folder_that_was_there_stays(tmp_path: Path):
    take(tmp_path / "new" if (tmp_path / "old").mkdir() else tmp_path / "old")
    assert (tmp_path / "old").is_dir()


def test_a_lock_that_cannot_be_written_is_not_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_lock.os, "write", full)
    with pytest.raises(OSError, match="No space left"), locked(tmp_path / "run"):
        pass
    assert os.listdir(tmp_path) == []


# ---- what is left behind ----


@pytest.mark.parametrize(
    "process",
    [DEAD, Process(US.host, US.space, 2**22 + 1, 1), Process(US.host, EARLIER, US.pid, US.start)],
    ids=["another has its number", "gone", "before the system was started anew"],
)
def test_the_lock_of_a_dead_process_is_taken_over_and_told(
    tmp_path: Path, process: Process, kernel: bool, capsys: pytest.CaptureFixture
):
    leave(tmp_path, content(process))
    take(tmp_path)
    said = f"{tmp_path}: taken over from process {process.pid} on {US.host}, since 2026-01-02T03:04:05+00:00"
    assert capsys.readouterr().out == f"{said} (gmd train brats), which is gone\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "process",
    [ELSEWHERE, Process(US.host, f"{US.space.partition(' ')[0]} pid:[1]", 7, 7)],
    ids=["machine", "container"],
)
def test_that_of_another_machine_or_container_needs_force(
    tmp_path: Path, process: Process, kernel: bool, capsys: pytest.CaptureFixture
):
    path = leave(tmp_path, content(process))
    assert refusal(tmp_path).endswith("whether it still runs there; if it does not, give --force")
    assert refusal(tmp_path, None).endswith(f"if it does not, delete {path}")
    assert path.read_text() == content(process)
    take(tmp_path, force=True)
    assert f"taken over from process 7 on {process.host}" in (said := capsys.readouterr().out)
    assert said.endswith(", by --force\n")


@pytest.mark.parametrize("force", [False, True])
def test_a_living_process_keeps_it_whatever_the_kernel_says(tmp_path: Path, kernel: bool, force: bool):
    """As in a copy of the folder that was made while it was trained in."""
    path = leave(tmp_path, content(US))
    assert f"; or delete {path}, if this folder was copied while" in refusal(tmp_path, force)


def test_an_empty_lock_is_that_of_a_process_that_was_killed_at_its_start(tmp_path: Path, kernel: bool):
    leave(tmp_path, "")
    if kernel:  # which would guard it otherwise
        take(tmp_path)
    else:
        assert "a process that its lock does not name" in refusal(tmp_path)


DAMAGED = {
    "cut": content(DEAD)[:50],
    "a list": "[]",
    "deep": "[" * 4000,
    "long": " " * 5000,
    "not UTF-8": b"\xff\xfe",
    "no process": content(DEAD, process=None),
    "no time": content(DEAD, started=3),
    "a number beyond all": content(DEAD, process=DEAD.to_dict() | {"pid": 10**30, "start": 0}),
    "a group of processes": content(DEAD, process=DEAD.to_dict() | {"pid": -1, "start": 0}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_lock_needs_force(tmp_path: Path, text: str | bytes):
    path = leave(tmp_path, text)
    before = path.read_bytes()
    assert "a process that its lock does not name, and nobody here can tell" in refusal(tmp_path)
    assert path.read_bytes() == before
    take(tmp_path, force=True)


def test_what_a_lock_says_is_shown_not_acted_on(tmp_path: Path):
    leave(tmp_path, content(ELSEWHERE, command="\x1b]0;owned\a\nline: 1 done" + "x" * 1000))
    said = refusal(tmp_path)
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 700


# ---- what is no lock ----


def test_nothing_is_written_through_a_link_or_into_somebody_elses_file(tmp_path: Path):
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    (run / LOCK).symlink_to(victim)
    assert "is a link, expected a file" in refusal(run, force=True)
    (run / LOCK).unlink()
    os.link(victim, run / LOCK)
    assert "a process that its lock does not name" in refusal(run)
    take(run, force=True)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_named_and_nothing_blocks(tmp_path: Path, make):
    make(tmp_path / LOCK)
    assert f"{tmp_path / LOCK}: is a" in refusal(tmp_path, force=True)


def test_a_lock_of_somebody_else_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a folder that a group shares. The tests may run as root, whom no rights stop."""
    path, opened = leave(tmp_path, content(DEAD)), os.open

    def as_another(name: Path, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR and not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(name, flags, *rest)

    monkeypatch.setattr(run_lock.os, "open", as_another)
    take(tmp_path)
    assert not path.exists()


# ---- races ----


def test_who_comes_second_to_a_dead_lock_leaves_the_first_alone(
    tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch
):
    """Between its look at the dead one's lock and the removal, another process has removed it and made its own."""
    path, check = leave(tmp_path, content(DEAD)), run_lock._check_gone

    def late(*given: object) -> None:
        check(*given)
        path.unlink()
        leave(tmp_path, content(US))

    monkeypatch.setattr(run_lock, "_check_gone", late)
    assert "in use by" in refusal(tmp_path)
    assert path.read_text() == content(US)
    assert os.listdir(tmp_path) == [LOCK]


PREPARED = """
import fcntl, os, sys, time
from pathlib import Path
from gmd.errors import UserError
from gmd.training.run_lock import locked

folder, number = Path(sys.argv[1]), int(sys.argv[2])

def refuse(handle, operation):
    raise OSError(number, os.strerror(number))

if number:
    fcntl.flock = refuse
"""
CONTEND = """
done = 0
while done < 40:
    try:
        with locked(folder / "run"):
            os.mkdir(folder / "inside")  # an error if another is inside
            time.sleep(0.0005)
            os.rmdir(folder / "inside")
        done += 1
    except UserError:
        time.sleep(0.0005)
"""
DIE_INSIDE = """
with locked(folder / "run"):
    (folder / "inside").touch()
    time.sleep(60)
"""


def start(script: str, folder: Path, number: int = 0) -> subprocess.Popen:
    """Starts a process that knows the lock, and no kernel's lock where `flock` is to raise an error of this number."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PREPARED + script, str(folder), str(number)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def test_it_is_held_on_a_disk_that_cannot_be_asked_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fsync(handle: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    with locked(tmp_path):
        assert "in use by" in refusal(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, errno.ENOLCK], ids=["kernel", "no kernel"])
def test_of_many_processes_one_is_inside(tmp_path: Path, number: int):
    children = [start(CONTEND, tmp_path, number) for _ in range(6)]
    assert [child.wait(60) for child in children] == [0] * 6
    assert [path for path in tmp_path.rglob("*") if path.name != "run"] == []


def test_after_a_kill_it_is_free(tmp_path: Path, capsys: pytest.CaptureFixture):
    child = start(DIE_INSIDE, tmp_path)
    while not (tmp_path / "inside").exists():
        assert child.poll() is None
        time.sleep(0.002)
    assert f"in use by process {child.pid} on" in refusal(tmp_path / "run")
    child.kill()
    child.wait(60)
    take(tmp_path / "run")
    assert f"taken over from process {child.pid} on" in capsys.readouterr().out
