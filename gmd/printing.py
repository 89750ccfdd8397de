"""The one way of text to a terminal or a log: no name from outside makes a line, colours it or fills the screen."""

import codecs
import sys
import warnings
from typing import NamedTuple

from gmd.errors import shown_line


class _Told(NamedTuple):
    """What this process prints: its text, and its errors."""

    text: bool = True
    errors: bool = True


_told = _Told()

_PLAIN = str.maketrans("●○•─│╭╮╰╯├┤█", "x-*-|++++++#")  # the marks of tables, the frames of tyro


def say(*lines: object, error: bool = False) -> None:
    r"""Prints each argument as one line, at once: what is in it that a terminal acts on is escaped, such as \n or \x1b.

    Lines of a text that gmd has put together are arguments of their own, `say(*text.split("\n"))`. A line end in a name
    is shown, so that no name makes a line. An overlong line is cut, see `shown_line`. A character that the stream lacks
    is replaced by a plain one. Progress bars step aside. A stream that the shell has closed takes nothing.

    error: whether to print on stderr rather than on stdout
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None or not (_told.errors if error else _told.text):
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "".join(f"{shown_line(line)}\n" for line in lines).encode(encoding, WITH_PLAIN_CHARACTERS).decode(encoding)
    if tqdm := sys.modules.get("tqdm"):  # where it is not loaded there are no bars
        tqdm.tqdm.write(text, file=stream, end="")
    else:
        stream.write(text)
    stream.flush()


def tell(text: bool, errors: bool) -> None:
    """Says what this process prints from now on, as `say` has it: of several at one command, one tells what all do."""
    global _told
    _told = _Told(text, errors)


def warn(text: object, stacklevel: int) -> None:
    """Warns with a text in which names from outside may stand, shown as `say` shows them.

    stacklevel: as in `warnings.warn`: 1 is the caller's own line, 2 the line that called it
    """
    warnings.warn(shown_line(text), stacklevel=stacklevel + 1)


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    """Handles characters that an encoding lacks: marks get plain ones, others become codes such as \\u75c5."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    # U+DC80 and on stand for single bytes, of names of files that are in no encoding
    bytes_shown = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return bytes_shown.encode("ascii", "backslashreplace").decode("ascii"), error.end


WITH_PLAIN_CHARACTERS = "gmd.plain_characters"  # as `errors` of an encoding
codecs.register_error(WITH_PLAIN_CHARACTERS, _plain_characters)
