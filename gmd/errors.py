"""The error class of mistakes that a user can mend, and how text from a file is shown in a message."""


class UserError(ValueError):
    """An error the user can mend; the command line prints its message, one line, without a traceback."""

    def __init__(self, message: str):
        super().__init__(shown(message))


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
