"""One writer at a time: the lock of a folder that a training or an evaluation writes into."""

import errno
import fcntl
import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gmd.errors import UserError, shown
from gmd.files import check_regular, sync
from gmd.printing import say
from gmd.processes import Process
from gmd.together import by_first

LOCK = ".gmd-lock"
MOST_BYTES = 4096  # of a lock; what is longer is none
# what `flock` says on file systems that have no such locks, and of a file that NFS lets us only read
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Holder:
    """What a lock says of the process that holds it.

    Attributes:
        process: the one that writes into the folder.
        started: when it took the lock, as the clock of its machine has it.
        command: what it was called by.
    """

    process: Process
    started: str
    command: str

    def __str__(self) -> str:
        return shown(f"{self.process}, since {self.started} ({self.command})", most=300)


@contextmanager
def locked(folder: Path, force: bool | None = None) -> Iterator[None]:
    """Holds the lock of a folder until the block ends: another process that asks for it meanwhile gets an error.

    The lock is a file in the folder, which says whose it is. The kernel's lock on that file guards it, and ends with
    the process; where the file system has none, what the file says decides. The folder is made if need be, and removed
    again if nothing is in it at the end.

    force: whether to take the lock over from a process of which nobody here can tell whether it runs, since it is on
        another machine or the lock is damaged; None: no, and there is no option to advise
    Raises UserError if another process holds the lock, or may hold it.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]  # by `_open`; the innermost first
    try:
        handle = _take(folder / LOCK, force)
        try:
            yield
        finally:
            _release(folder / LOCK, handle)
    finally:
        with suppress(OSError):  # there is something in it
            for place in made:
                place.rmdir()


@contextmanager
def locked_together(folder: Path, force: bool | None = None) -> Iterator[None]:
    """Holds the lock of a folder, as `locked`, for all processes at this command: the first one of them takes it."""
    with ExitStack() as stack:
        by_first(lambda: stack.enter_context(locked(folder, force)), f"the lock of {folder}")
        yield


def _take(path: Path, force: bool | None) -> int:
    """Makes the lock file ours. Returns it open, since the kernel's lock lasts as long."""
    while True:
        handle, made = _open(path)
        try:
            guarded = _guard(path, handle)
            if not _is_at(path, handle):  # whoever held it has removed it meanwhile
                pass
            elif made:
                _write(path, handle)
                return handle
            else:
                # nothing in it: it was made by a process that was killed before it could say who it is
                if not (guarded and os.fstat(handle).st_size == 0):
                    _check_gone(path, _read(handle), force)
                _remove(path, handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(path: Path) -> tuple[int, bool]:
    """Opens the lock file, in a folder that is made if need be.

    Returns it, and whether it was made by this call, of those of several processes by exactly one.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # once more: another that had made it may have removed it
        with suppress(FileExistsError, FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666), True
        with suppress(FileNotFoundError):
            check_regular(path, os.lstat(path).st_mode)
            with suppress(PermissionError):
                return os.open(path, os.O_RDWR | _FLAGS), False
            return os.open(path, os.O_RDONLY | _FLAGS), False  # somebody else's; it is read, and may be removed


def _guard(path: Path, handle: int) -> bool:
    """Takes the kernel's lock on the file. Returns whether it did, which it does not where the file system has none.

    Raises UserError if another process has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(_in_use(path, _read(handle))) from error
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            raise
        return False
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Returns whether the open file is the one that is called `path` now."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _write(path: Path, handle: int) -> None:
    """Writes into a new lock file whose it is. If the disk is full, the file is removed again."""
    about = {
        "process": Process.this().to_dict(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(word).name for word in sys.argv[:1]] + sys.argv[1:])[:200],
    }
    try:
        os.write(handle, json.dumps(about).encode("ascii"))
        sync(handle)  # for other machines to see it, too
    except BaseException:
        os.unlink(path)
        raise


def _read(handle: int) -> Holder | None:
    """Returns what a lock file says; None if it says nothing that could be understood."""
    content = os.pread(handle, MOST_BYTES + 1, 0)
    try:
        values = json.loads(content) if len(content) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        return None
    values = values if isinstance(values, dict) else {}
    process = Process.from_dict(values.get("process"))
    started, command = values.get("started"), values.get("command")
    if process is None or not isinstance(started, str) or not isinstance(command, str):
        return None
    return Holder(process, started, command)


def _check_gone(path: Path, holder: Holder | None, force: bool | None) -> None:
    """Says so if the holder of a lock is gone, or if it is taken for gone by `force`. Raises UserError otherwise."""
    runs = None if holder is None else holder.process.runs()
    if runs:
        copied = f"; or delete {path}, if this folder was copied while that process was at work in the original"
        raise UserError(_in_use(path, holder) + copied)
    if runs is None and not force:
        advice = f"delete {path}" if force is None else "give --force"
        raise UserError(
            f"{path.parent}: may be in use: {_who(holder)}, and nobody here can tell whether it still runs there; "
            f"if it does not, {advice}"
        )
    why = "which is gone" if runs is False else "by --force"
    say(f"{path.parent}: taken over from {_who(holder)}, {why}")


def _in_use(path: Path, holder: Holder | None) -> str:
    who = holder or "another process"
    return f"{path.parent}: in use by {who}; wait until that has ended, or give another folder"


def _who(holder: Holder | None) -> str:
    return "a process that its lock does not name" if holder is None else str(holder)


def _remove(path: Path, handle: int) -> None:
    """Removes the lock file of a process that is gone, and nobody else's: another may just have taken its place."""
    aside = path.with_name(f"{LOCK}.{secrets.token_hex(8)}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _is_at(aside, handle):
        os.unlink(aside)
    else:
        os.rename(aside, path)


def _release(path: Path, handle: int) -> None:
    """Removes the lock file, unless that is another's by now, and gives the kernel's lock back."""
    try:
        if _is_at(path, handle):
            os.unlink(path)
    finally:
        os.close(handle)
