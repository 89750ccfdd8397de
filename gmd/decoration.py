"""What is drawn or told beside a result: it may fail, which is said, and the work that it decorates goes on."""

from collections.abc import Callable
from typing import TypeVar

from gmd.errors import UserError
from gmd.printing import say

Made = TypeVar("Made")


def decoration(lacking: str, make: Callable[[], Made]) -> Made | None:
    """Makes something to be shown beside a result, and returns it; returns None, and says why, if that fails.

    A picture, or a line of how a run scored, is made from files that may be damaged or somebody else's, and by
    libraries with errors of their own. None of that is worth the result, which is there. The error is always told.

    lacking: what there is not if it fails, for the line on stderr, as in "no picture of case7"
    """
    try:
        return make()
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        first, *_ = str(error).split("\n")
        say(f"gmd: {lacking}: {kind}{first}", error=True)
        return None
