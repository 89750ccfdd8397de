"""Files that are written whole or not at all, and read only if they are files."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gmd.errors import UserError
from gmd.processes import Process

# what file systems say that cannot be asked to write to the disk: folders on many shared disks, files on some
NO_SYNC_HERE = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR)
ABANDONED = 24 * 3600  # seconds after which an unfinished file of another machine counts as left behind

# .gmd-unfinished.MACHINE.PID-START.RANDOM.SUFFIX: short, so that any name of a file leaves room for it
_UNFINISHED = re.compile(r"\.gmd-unfinished\.([0-9a-f]{12})\.(\d+)-(\d+)\.[0-9a-f]{16}(\.[^.]*)?")
_swept: set[tuple[int, int]] = set()  # folders in which this process has looked for what others have left


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; that file replaces `path` if the block ends without an exception.

    It is on the disk then, for a crash of the system too. Folders are made as needed. A link at `path` is replaced, not
    followed. The file to write to is there, empty, under a name that nobody can guess, and with the suffix of `path`,
    since writers choose their format by it. What killed processes have left in the folder is removed.
    Raises OSError if something cannot be written; nothing has changed then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(path.parent)
    unfinished = path.with_name(_unfinished_name(Process.this(), path.suffix))
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    try:
        yield unfinished
        _sync(unfinished)
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path` to write files into, which is called `path` if the block ends without an error.

    Otherwise it is removed with all that is in it. Its name and what killed processes have left are as in `replacing`.
    Raises OSError if something cannot be written, FileExistsError if something is at `path` that is no empty folder;
    nothing has changed then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(path.parent)
    unfinished = path.with_name(_unfinished_name(Process.this(), ""))
    unfinished.mkdir()
    try:
        yield unfinished
        for written in unfinished.iterdir():
            _sync(written)
        _sync_folder(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError as error:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            raise
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_left_behind(folder: Path) -> None:
    """Removes what killed processes have left unfinished in a folder. Each process looks once into a folder."""
    try:
        status = os.stat(folder)
        if (place := (status.st_dev, status.st_ino)) in _swept:
            return
        names = os.listdir(folder)
    except OSError:
        return  # whoever writes there will hear of it
    _swept.add(place)
    for name in names:
        if (match := _UNFINISHED.fullmatch(name)) and _is_abandoned(folder / name, match):
            with suppress(OSError):  # somebody else's, or gone by now
                _remove(folder / name)


def real_path(path: Path) -> Path:
    """Returns the absolute path without links. Links in a circle stay, where `Path.resolve` raises RuntimeError."""
    return Path(os.path.realpath(path))


def open_regular(path: Path) -> BinaryIO:
    """Opens a file to read its bytes, and nothing that could block or never end: no pipe, no device, no folder.

    Raises UserError for those, and OSError as `open` does.
    """
    # a pipe that nobody writes to blocks whoever opens it, unless told not to wait
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        check_regular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: Path, mode: int | None = None) -> None:
    """Raises UserError if `path` is a folder, a pipe, a device or the like; OSError if there is nothing.

    mode: what `os.stat` says of it, or `os.lstat` where links count as such; by default `os.stat` is asked
    """
    mode = os.stat(path).st_mode if mode is None else mode
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link",
    }
    kind = kinds.get(stat.S_IFMT(mode), "something else")
    raise UserError(f"{path}: is {kind}, expected a file with content; take it away or give another")


def _unfinished_name(process: Process, suffix: str) -> str:
    suffix = suffix if len(os.fsencode(suffix)) <= 32 else ""
    return f".gmd-unfinished.{_machine(process)}.{process.pid}-{process.start}.{secrets.token_hex(8)}{suffix}"


def _machine(process: Process) -> str:
    """Returns what tells this machine, and the container in it, from others, in 12 letters."""
    return hashlib.blake2b(f"{process.host} {process.space}".encode(), digest_size=6).hexdigest()


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    """Returns whether the process that began to write a file will never finish it."""
    machine, pid, start, _ = match.groups()
    us = Process.this()
    if machine == _machine(us):
        return Process(us.host, us.space, int(pid), int(start)).runs() is False
    try:
        return time.time() - os.lstat(path).st_mtime > ABANDONED
    except OSError:
        return False


def _remove(path: Path) -> None:
    """Removes a file, a link as such, or a folder with all that is in it."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _sync(path: Path) -> None:
    """Makes what was written into a file survive a crash of the system."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Makes what was renamed in a folder survive a crash of the system; not in one that may be written to, not read."""
    with suppress(PermissionError):
        _sync(folder)


def sync(handle: int) -> None:
    """Writes an open file or folder to the disk; on file systems that offer no such thing, nothing can be done."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC_HERE:
            raise
