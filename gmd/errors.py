"""The error class of mistakes that a user can mend, and how text from outside is shown: the one way to a terminal."""

from collections.abc import Sequence

MOST_OF_A_LINE = 2000  # characters of one line of a message
_LEFT_OUT = " [...] "


class UserError(ValueError):
    """An error the user can mend; the command line prints its message without a traceback.

    message: one line; more: further lines, such as what there is to choose from. Line ends inside of any are shown.

    Attributes:
        told_elsewhere: whether another process, at the same command, prints it.
    """

    told_elsewhere = False

    def __init__(self, message: str, more: Sequence[str] = ()):
        super().__init__("\n".join(shown_line(line) for line in (message, *more)))


def shown(text: object, most: int | None = None) -> str:
    r"""Returns a text such that no terminal acts on it: line ends, escape codes and the like as in Python, \r or \x1b.

    Names from a file may hold anything. Letters of every script stay, and so do the surrogates that stand for single
    bytes in names of files.

    most: how many characters may be left of it, "..." standing for the rest; None: all
    """
    text = str(text)
    cut = "" if most is None or len(text) <= most else "..."
    kept = (c if c.isprintable() or "\udc80" <= c <= "\udcff" else _code(c) for c in text[:most])
    return "".join(kept) + cut


def shown_line(text: object, most: int = MOST_OF_A_LINE) -> str:
    """Returns a line such that no terminal acts on it, see `shown`, of `most` characters at most.

    What is left of a longer one is its beginning and its end, since a message ends with what to do, and a name of any
    length may stand before that.
    """
    return _cut(shown(_cut(str(text), most)), most)


def _cut(line: str, most: int) -> str:
    if len(line) <= most:
        return line
    end = most // 3
    return line[: most - end - len(_LEFT_OUT)] + _LEFT_OUT + line[-end:]


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
