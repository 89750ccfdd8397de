"""Runs whose files somebody has replaced, and what the commands that read them say."""

import contextlib
import io
import os
import pickle
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gmd.cli


def _content(content: bytes) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return replace


def _half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 1])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to(target: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return replace


class _Program:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


# what stands in the place of a file of a run
RUBBISH: dict[str, Callable[[Path], None]] = {
    "empty": _content(b""),
    "not UTF-8": _content(b"\xff\xfe\x80 a: b\n"),
    "zeros": _content(bytes(1000)),
    "a list": _content(b"[]\n"),
    "null": _content(b"null\n"),
    "an object": _content(b"{}\n"),
    "deep lists": _content(b"[" * 100_000),
    "deep objects": _content(b'{"kind":' * 5000),
    "a huge number": _content(b'{"kind": "step", "step": 1' + b"0" * 5000 + b"}\n"),
    "a web page": _content(b"<!doctype html>\n<html><body>log in</body></html>\n"),
    "a table": _content(b"a,b,c\n1,2,3\n"),
    "a program": _content(pickle.dumps(_Program())),
    "the first half": _half,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link to endless zeros": _link_to("/dev/zero"),
    "a link to nothing": _link_to("nowhere"),
}


def copy_of(run: Path, place: Path) -> Path:
    """A copy of a run under a name of its own."""
    shutil.copytree(run, place, symlinks=True)
    return place


def files_of(run: Path) -> list[str]:
    """Every file of a run that gmd reads, by its path in it."""
    written_only = {".safetensors", ".html", ".md"}
    paths = (path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix not in written_only)
    names = [str(path.relative_to(run)) for path in paths]
    return [name for name in names if not name.startswith(("tensorboard", "evaluation/compare", "."))]


class Hangs(BaseException):
    """A command took too long; no handler of the package catches it."""


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(*words: object, seconds: int = 60) -> tuple[int, str]:
    """Runs a command in this process. Returns its exit status and all that it printed; what it raises is raised."""
    out = io.StringIO()
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(out)
    with _time_limit(seconds), warnings.catch_warnings(), streams[0], streams[1]:
        try:
            status = gmd.cli.main([str(word) for word in words])
        except SystemExit as left:  # options that the parser refuses, such as those of a file for --config
            status = int(left.code or 0)
    return status, out.getvalue()
