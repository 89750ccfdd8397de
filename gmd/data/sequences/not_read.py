"""What stands for the objects of a pickle that are not made."""

from typing import Any

import numpy as np

from gmd.errors import shown


class NotRead:
    """Stands for an object of a pickle that is not made, as that would be to execute what the file says.

    Whatever the pickle does to it, to call it or to fill it, has no effect.

    Args:
        name: of what the file asks for.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str):
        self._name = name

    @property
    def asks(self) -> str:
        """What the file asks for and what to do about it, to go behind "it"."""
        advice = (
            "only arrays of numbers or str, lists, dictionaries, str and numbers are read: anything else may be code"
        )
        if self._name.startswith("torch."):
            advice = "it holds tensors: save them as arrays, tensor.numpy()"
        return f"asks for {shown(self._name, 80)}, and nothing was executed; {advice}"

    def __call__(self, *arguments: Any, **named: Any) -> "NotRead":
        return self

    def __setstate__(self, state: Any) -> None:
        """Takes the state of an object."""

    def append(self, item: Any) -> None:
        """Takes an item of a list."""

    def extend(self, items: Any) -> None:
        """Takes items of a list."""

    def add(self, item: Any) -> None:
        """Takes an item of a set."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Takes an entry of a dictionary."""


def first_not_read(array: np.ndarray) -> NotRead | None:
    """Returns the first object in an array that was not read; None if there is none."""
    return next((item for item in array.flat if isinstance(item, NotRead)), None) if array.dtype.hasobject else None


def told(value: Any) -> str:
    """Returns what a value is, for a message: a str, bytes or number itself, cut to 80 characters, else its type.

    Never the text of a list or a tuple: a few bytes of a pickle make one whose text would fill any memory.
    """
    if isinstance(value, str | bytes):
        return repr(value[:80])[:80]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() < 128):
        return repr(value)[:80]
    return f"a {type(value).__name__}"
