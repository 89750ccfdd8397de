"""Making arrays of lists that a file holds, once it is known how large they would be."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gmd.errors import UserError
from gmd.memory_limit import most_bytes

_OF_TEXT = 128  # bytes that numpy gives to a number between texts
_AT_MOST = 1024  # bytes of the array for each entry that the lists have
_FREE = 2**20


def array_of(what: str, value: Any) -> np.ndarray:
    """Makes an array of an array, or of lists of numbers or str.

    Lists may hold the same list twice, so that few of them, nested, stand for any number of entries, and a single long
    str makes all entries as long: so what the array would take is counted before.

    what: what is made an array, for error messages
    Raises UserError for lists of different lengths, for one that holds itself, and for an array out of all proportion.
    """
    if isinstance(value, list | tuple):
        _check_size(what, value)
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise UserError(f"{what} is no array: {error}") from error


def _check_size(what: str, lists: list | tuple) -> None:
    """Raises UserError if the array of these lists would be out of all proportion to them."""
    entries: dict[int, int] = {}  # id of a list -> how often numpy looks at a list or an entry of it
    held, widest = 0, 8  # entries that the file has, each counted once; bytes of the largest
    for item in _inner_first(what, lists):
        entries[id(item)] = 1 + sum(entries[id(each)] if _is_list(each) else _entries(each) for each in item)
        held += 1 + len(item) + sum(map(_held, {id(each): each for each in item}.values()))
        widest = max(widest, *map(_width, item), 0)
    if (size := entries[id(lists)] * widest) > min(_AT_MOST * held + _FREE, most_bytes()):
        raise UserError(f"{what} is no array: its {held} entries would become one of {size / 1e9:.3g} GB")


def _inner_first(what: str, lists: list | tuple) -> Iterator[list | tuple]:
    """Yields each list once, after those that it holds, however deep they lie. Raises UserError if one holds itself."""
    waiting, begun, done = [lists], set(), set()
    while waiting:
        item = waiting.pop()
        inner = [each for each in item if _is_list(each) and id(each) not in done] if id(item) not in done else []
        if inner and id(item) in begun:
            raise UserError(f"{what} is no array: it has a list that holds itself")
        if inner:
            begun.add(id(item))
            waiting += [item, *inner]
        elif id(item) not in done:
            done.add(id(item))
            yield item


def _is_list(value: Any) -> bool:
    return type(value) in (list, tuple)


def _entries(value: Any) -> int:
    """Returns the entries of an array, or of what stands for one entry."""
    if isinstance(value, np.ndarray):
        return max(value.size, 1)
    return len(value) if isinstance(value, bytearray | memoryview) else 1  # numpy takes these for arrays, too


def _held(value: Any) -> int:
    """Returns how many numbers an array's memory has room for; 0 for what is no array."""
    if isinstance(value, np.ndarray | memoryview):
        return value.nbytes // 8
    return len(value) // 8 if isinstance(value, bytearray) else 0


def _width(value: Any) -> int:
    """Returns how many bytes each entry of an array has at least that holds this value."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.itemsize
    if isinstance(value, str):
        return max(4 * len(value), _OF_TEXT)
    return len(value) if isinstance(value, bytes) else 8
