"""Output that no terminal, pipe or full disk can break: a command's results never depend on who reads its text.

A character that a stream's encoding lacks is replaced by a plain one. A stream that can no longer be written to is
given up, and the command goes on; if it was stdout, the exit status and a line on stderr say so in the end. Warnings
are one line each.
"""

import errno
import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gmd.errors import shown, shown_line
from gmd.printing import WITH_PLAIN_CHARACTERS, say

READER_GONE = 141  # what a shell says of a program that SIGPIPE ended, as it ends `yes` in `yes | head -1`
UNWRITABLE = 2  # as of every other error that is told in a line
_PACKAGE = str(Path(__file__).parents[1])


def on_any_terminal(command: Callable[..., int]) -> Callable[..., int]:
    """Decorates the function of a command, which returns its exit status, so that it can print wherever it runs."""

    @functools.wraps(command)
    def run(arguments: Sequence[str] | None = None) -> int:
        with _streams() as streams, _warnings_in_a_line():
            try:
                status = command(arguments)
            except SystemExit as left:  # --help and unknown options
                raise SystemExit(_told(streams, _status(left))) from None
            return _told(streams, status)

    return run


def _status(left: SystemExit) -> int:
    """Returns the exit status; a text in its place is printed, as Python does."""
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    say(left.code, error=True)
    return 1


class _LastingStream(io.RawIOBase):
    """The raw side of a text stream; after the first error of a write it takes everything and writes nothing.

    Attributes:
        trouble: that error, None as long as all went well.
        line_begins: whether what was written last ended a line.
    """

    def __init__(self, raw: io.RawIOBase | None):
        self._raw = raw
        self.trouble: OSError | None = None
        self.line_begins = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._open().fileno()

    def isatty(self) -> bool:
        return self._raw is not None and self._raw.isatty()

    def write(self, content) -> int:
        rest = memoryview(content)
        try:
            while rest and self.trouble is None:
                self.line_begins = rest[-1:] == b"\n"
                rest = rest[self._open().write(rest) or 0 :]
        except OSError as error:
            self.trouble = error
        return len(content)

    def _open(self) -> io.RawIOBase:
        if self._raw is None:  # the shell's >&-, a service without a terminal
            raise OSError(errno.EBADF, "it is closed")
        return self._raw


@contextmanager
def _streams() -> Iterator[dict[str, _LastingStream]]:
    """Puts lasting streams in the place of stdout and stderr, and yields their raw sides by these names.

    What is no stream of a file, as in a notebook or under a test, stays as it is.
    """
    before = {"stdout": sys.stdout, "stderr": sys.stderr}
    lasting = {name: _LastingStream(_raw(stream)) for name, stream in before.items() if _is_of_a_file(stream)}
    for name, raw in lasting.items():
        setattr(sys, name, _text_stream(before[name], raw))
    try:
        yield lasting
    finally:
        for name in lasting:
            getattr(sys, name).flush()
            setattr(sys, name, before[name])


def _is_of_a_file(stream: TextIO | None) -> bool:
    """Returns whether a stream writes to a file, a pipe or a terminal, or was closed before Python began."""
    return stream is None or isinstance(getattr(stream, "buffer", None), io.BufferedWriter | io.FileIO)


def _raw(stream: TextIO | None) -> io.RawIOBase | None:
    """Returns the unbuffered side of a stream, after all that waits in it was written."""
    if stream is None:
        return None
    stream.flush()
    buffer: Any = stream.buffer
    return getattr(buffer, "raw", buffer)  # under python -u it has no other side


def _text_stream(like: TextIO | None, raw: _LastingStream) -> io.TextIOWrapper:
    """Returns a text stream with encoding and buffering of another, which writes plain characters where it must."""
    buffered = isinstance(getattr(like, "buffer", None), io.BufferedWriter)  # not under python -u
    return _HarmlessText(
        io.BufferedWriter(raw) if buffered else raw,  # type: ignore[arg-type]  # as Python's own unbuffered streams
        encoding="utf-8" if like is None else like.encoding,
        errors=WITH_PLAIN_CHARACTERS,
        line_buffering=getattr(like, "line_buffering", True),
        write_through=getattr(like, "write_through", False),
    )


class _HarmlessText(io.TextIOWrapper):
    """A text stream that writes what a terminal would act on as in Python, \\x1b say; see `shown`.

    That is for what libraries print of words from outside, such as those that a * of the shell stands for. Colours,
    line ends and what progress bars need stay.
    """

    _ACTS = re.compile(
        r"\x1b(?!\[[0-9;]*[mAK])|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
    )

    def write(self, text: str) -> int:
        super().write(self._ACTS.sub(lambda found: shown(found[0]), text))
        return len(text)


def _told(streams: dict[str, _LastingStream], status: int) -> int:
    """Returns the exit status, after saying what could not be written; a command's own failure has precedence."""
    for name in streams:
        getattr(sys, name).flush()
    troubles = {name: stream.trouble for name, stream in streams.items() if stream.trouble is not None}
    if (trouble := troubles.get("stdout")) is None:
        return status  # an error has one of its own, and bars and warnings are no results
    if isinstance(trouble, BrokenPipeError):
        return status or READER_GONE
    if "stderr" not in troubles:
        reason = trouble.strerror or trouble
        say(f"gmd: error: stdout: {reason}; what it should have shown is lost, files are written", error=True)
    return status or UNWRITABLE


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Shows warnings without the line of code that they come from, and each text once."""
    before = warnings.formatwarning
    seen: set[str] = set()

    def format_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if str(message) in seen:
            return ""
        seen.add(str(message))
        beginning = "" if _line_begins() else "\n"  # below a progress bar
        if filename.startswith(_PACKAGE + os.sep):
            return f"{beginning}gmd: warning: {shown_line(message)}\n"
        return f"{beginning}{filename}:{lineno}: {category.__name__}: {shown_line(message)}\n"

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


def _line_begins() -> bool:
    """Returns whether what is written to stderr next begins a line, as far as is known."""
    sys.stderr.flush()
    buffer = getattr(sys.stderr, "buffer", None)
    return getattr(getattr(buffer, "raw", buffer), "line_begins", True)
