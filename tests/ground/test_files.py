"""Files are whole or absent, under no name that can be guessed, and read only if they are files."""

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmd import files
from gmd.errors import UserError
from gmd.files import ABANDONED, check_regular, making_folder, open_regular, real_path, replacing
from gmd.processes import Process
from helpers.architecture import sources_of
from helpers.places import ROOT


@pytest.fixture(autouse=True)
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())


def write(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# ---- writing ----


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_that_cannot_sync_folders_holds_files_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "a.txt", "one")
    with making_folder(tmp_path / "case") as unfinished:
        (unfinished / "b").touch()
    assert names(tmp_path) == ["a.txt", "case"]


def test_an_error_of_the_disk_is_never_taken_for_a_lack_of_syncing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fsync(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write(tmp_path / "a.txt", "one")
    assert names(tmp_path) == []


def test_files_go_into_a_folder_that_nobody_may_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.open

    def opened(path: str | Path, flags: int, *rest: int) -> int:
        if os.path.isdir(path):  # as for anybody but root in a folder with the rights -wx
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", opened)
    write(tmp_path / "a.txt", "one")
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_replaced_whole_and_keeps_the_rights_of_the_umask(tmp_path: Path):
    path = tmp_path / "deep" / "a.txt"
    before = os.umask(0o027)
    try:
        write(path, "one")
        write(path, "two")
    finally:
        os.umask(before)
    assert path.read_text(encoding="utf-8") == "two"
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("raised", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path: Path, raised: type[BaseException]):
    path = tmp_path / "a.txt"
    write(path, "one")

    def fail() -> None:
        with replacing(path) as unfinished:
            unfinished.write_text("half", encoding="utf-8")
            raise raised

    with pytest.raises(raised):
        fail()
    assert path.read_text(encoding="utf-8") == "one"
    assert names(tmp_path) == ["a.txt"]


def test_links_are_replaced_not_followed(tmp_path: Path):
    victim, path = tmp_path / "victim", tmp_path / "a.txt"
    victim.write_text("precious", encoding="utf-8")
    path.symlink_to(victim)
    write(path, "new")
    assert not path.is_symlink()
    assert victim.read_text(encoding="utf-8") == "precious"


def test_no_two_unfinished_files_have_one_name(tmp_path: Path):
    with replacing(tmp_path / "a.npz") as one, replacing(tmp_path / "a.npz") as two:
        assert one != two
        assert one.suffix == two.suffix == ".npz"


@pytest.mark.parametrize("name", ["y" * 251 + ".npz", "ü" * 127, "a." + "s" * 200])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str):
    write(tmp_path / name, "whole")
    assert names(tmp_path) == [name]


def test_a_link_under_the_unfinished_name_is_an_error_and_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "ab" * count)
    name = files._unfinished_name(Process.this(), ".txt")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError), replacing(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == [name]


# ---- what killed processes leave ----


def test_the_next_process_removes_what_a_killed_one_has_left(tmp_path: Path):
    script = (
        "import os, sys, pathlib; from gmd.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as f: f.write_text('half'); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.npz"], env=environment, check=False)
    [left] = names(tmp_path)
    assert left.startswith(".gmd-unfinished.")
    write(tmp_path / "b.txt", "whole")
    assert names(tmp_path) == ["b.txt"]


def unfinished(process: Process) -> str:
    return files._unfinished_name(process, ".pt")


US = Process.this()


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (unfinished(US), 0, True),
        (unfinished(Process(US.host, US.space, US.pid, US.start + 1)), 0, False),  # the number was given anew
        (unfinished(Process("elsewhere", US.space, 1, 1)), 0, True),
        (unfinished(Process("elsewhere", US.space, 1, 1)), ABANDONED + 9, False),
        (".gmd-unfinished.notes", ABANDONED + 9, True),
        (".best.safetensors", ABANDONED + 9, True),
    ],
    ids=["ours", "one of a dead process", "fresh of elsewhere", "old of elsewhere", "no such name", "another name"],
)
def test_only_what_nobody_will_finish_is_removed(tmp_path: Path, name: str, age: int, stays: bool):
    (tmp_path / name).write_text("half", encoding="utf-8")
    os.utime(tmp_path / name, (time.time() - age,) * 2)
    write(tmp_path / "a.txt", "whole")
    assert (tmp_path / name).exists() == stays


# ---- folders ----


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path):
    def fail() -> None:
        with making_folder(tmp_path / "a") as unfinished:
            (unfinished / "half.txt").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []
    with making_folder(tmp_path / "deep" / "a") as unfinished:
        assert names(tmp_path / "deep") == [unfinished.name]
        (unfinished / "whole.txt").touch()
    assert names(tmp_path / "deep" / "a") == ["whole.txt"]


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_a_folder_takes_nobodys_place(tmp_path: Path, there: str):
    path = tmp_path / "a"
    if there == "folder":
        write(path / "b.txt", "one")
    elif there == "file":
        write(path, "one")
    else:
        path.symlink_to(tmp_path)
    with pytest.raises(FileExistsError), making_folder(path) as unfinished:
        (unfinished / "c.txt").touch()
    assert names(tmp_path) == ["a"]


def test_folders_that_killed_processes_left_are_removed_with_all_in_them_and_links_as_such(tmp_path: Path):
    victims, left = tmp_path / "victims", tmp_path / "out" / unfinished(Process(US.host, US.space, US.pid, 1))
    write(victims / "precious.txt", "one")
    write(left / "half.txt", "half")
    (left / "link").symlink_to(victims)
    left.with_name(unfinished(Process(US.host, US.space, US.pid, 2))).symlink_to(victims)
    with making_folder(tmp_path / "out" / "a"):
        pass
    assert names(tmp_path / "out") == ["a"]
    assert names(victims) == ["precious.txt"]


# ---- reading ----


def test_nothing_but_files_is_read_and_nothing_blocks(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in {"pipe": "a named pipe", "zero": "a device", ".": "a folder"}.items():
        for read in (open_regular, check_regular):
            with pytest.raises(UserError, match=f"is {kind}, expected a file"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


def test_links_in_a_circle_have_a_path(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert real_path(tmp_path / "a" / "x").name == "x"
    (tmp_path / "c").symlink_to(tmp_path)
    assert real_path(tmp_path / "c" / "x") == tmp_path.resolve() / "x"


def test_no_path_is_resolved_in_a_way_that_circles_break():
    assert not [path for path, source in sources_of(ROOT).items() if path.startswith("gmd/") and ".resolve()" in source]
