"""The options of a weighting, from words of the command line, `--weighting-options c=0.4 smooth=0.9`, to values."""

import math
import re
from collections.abc import Sequence

from gmd.errors import UserError

_NAME = re.compile(r"[a-z][a-z_]*")
_WORDS = {"none": None, "true": True, "false": False}

Value = None | bool | int | float | str | list[float | int]


def weighting_options(words: Sequence[str]) -> dict[str, Value]:
    """Returns option -> value of words such as `c=0.4`: a number, several with commas between, true, false, none, text.

    Raises UserError for a word of another form, and for an option that is given twice.
    """
    options: dict[str, Value] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (_NAME.fullmatch(name) and equals and text):
            raise UserError(f"--weighting-options: got {word!r}, expected NAME=VALUE, such as c=0.4")
        if name in options:
            raise UserError(f"--weighting-options: got {name} twice, expected each option once")
        options[name] = _value(text)
    return options


def _value(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    parts = [_number(part) for part in text.split(",")]
    numbers = [part for part in parts if part is not None]
    if len(numbers) < len(parts):
        return text
    return numbers[0] if len(parts) == 1 else numbers


def _number(text: str) -> int | float | None:
    """Returns the finite number that a text is, as Python writes numbers; None if it is none."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
