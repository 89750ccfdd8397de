"""The error class of mistakes that a user can mend, and how text from outside is shown: the one way to a terminal."""

from collections.abc import Sequence


class UserError(ValueError):
    """An error the user can mend; the command line prints its message without a traceback.

    message: one line; more: further lines, such as what there is to choose from. Line ends inside of any are shown.
    """

    def __init__(self, message: str, more: Sequence[str] = ()):
        super().__init__("\n".join(shown(line) for line in (message, *more)))


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


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
