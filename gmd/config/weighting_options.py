"""The options of a weighting, from words of the command line, `--weighting-options c=0.4 smooth=0.9`, to values."""

import math
import re
from collections.abc import Sequence

from gmd.errors import UserError

_NAME = re.compile(r"[a-z][a-z_]*")
_WORDS = {"none": None, "true": True, "false": False}

Number = int | float
Value = None | bool | Number | str | dict[str, Number]


def weighting_options(words: Sequence[str]) -> dict[str, Value]:
    """Returns option -> value of words such as `c=0.4`: a number, true, false, none, text.

    A number for each objective is `text:0.1,audio:0.2,text+audio:0.3`, and becomes a dictionary.
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
    number = _number(text)
    if number is not None:
        return number
    named = [part.rpartition(":") for part in text.split(",")]
    numbers = {name: value for name, _, behind in named if name and (value := _number(behind)) is not None}
    return numbers if len(numbers) == len(named) else text


def _number(text: str) -> Number | None:
    """Returns the finite number that a text is, as Python writes numbers; None if it is none."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
