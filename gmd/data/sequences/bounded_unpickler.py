"""An interpreter of pickles that takes no more time and memory than the size of the file allows.

A pickle is a program, and a few bytes of it can ask for anything: a length of 2^60, tuples (x, x) nested 40 times as
the key of a dictionary, whose hash takes 2^40 steps, or one text made into bytes a million times. Here every length is
compared with what is left of the file before anything is allocated; entries whose keys could cost much to hash or to
compare are left out; and what functions are called with may have in all only a few times the file's size.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gmd.data.sequences.not_read import NotRead, told
from gmd.memory_limit import check_claim

LONGEST_KEY = 1024  # letters of a key, or of a key's parts in all; two long ones that are equal take long to compare
MOST_PARTS = 32  # of a tuple that is a key
MOST_NUMBERS = 2**13  # keys that are no text, whose hashes a file can choose so that all of them collide
_OBJECT = 256  # bytes of the largest thing that one opcode makes: a set
_COUNTED = 2**16  # opcodes after which memory is looked at
_WORK = 4  # times the file's size: what calls and states may have in all
_SOME_WORK = 2**16
_UNCHECKED = 2**16  # bytes that may be asked for without a look at what is left


class Refused(Exception):
    """A pickle asks for what no pickle of data asks for.

    This is no ValueError, so that nothing on the way takes it for an ordinary mishap.
    """


class BoundedUnpickler(pickle._Unpickler):
    """Reads one pickle, in time and memory that are in proportion to the file's size.

    It is Python's, as joblib's is: the one in C makes room for any place that a damaged file numbers, up to 60 GB.
    Who derives from it says by `find_class` what the names in a pickle stand for.

    Args:
        file: is read to the pickle's end.
        path: its name, for error messages.

    Raises UserError for a file that would take more memory than `gmd.memory_limit` allows, Refused for one that asks
    for what no pickle of data asks for, and what Python's raises for damage.
    """

    # of Python's, set when it loads
    append: Callable[[Any], None]
    memo: dict[int, Any]
    pop_mark: Callable[[], list]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    stack: list
    _unframer: Any

    def __init__(self, file: BinaryIO, path: Path):
        self._file = _Bounded(file)
        check_claim(path, self._file.size, "its content")
        super().__init__(self._file, encoding="latin1")
        self._path = path
        self._work = _WORK * self._file.size + _SOME_WORK  # what is left of it
        self._numbers = MOST_NUMBERS
        # `load` looks each opcode up here
        self.dispatch = _Counted(_HANDLERS, self._check_memory)  # type: ignore[misc]  # not as the class's

    def _check_memory(self, opcodes: int) -> None:
        share = self._file.size / max(self._file.place, 1)
        check_claim(self._path, int(opcodes * _OBJECT * share), "its objects")

    def _work_on(self, *values: Any) -> None:
        """Counts what is handed to a function. Raises Refused if a file hands on the same over and over."""
        self._work -= sum(map(_size, values))
        if self._work < 0:
            raise Refused(
                "refused, since it works on the same content over and over; that is an attack, or a damaged file"
            )

    def _may_be_key(self, key: Any) -> bool:
        """Returns whether a key can be hashed and compared at little cost.

        Raises TypeError for lists and other things that can be no keys.
        """
        if (type(key) in (str, bytes) and len(key) <= LONGEST_KEY) or isinstance(key, NotRead):
            return True
        if isinstance(key, list | dict | set | bytearray | np.ndarray):
            raise TypeError(f"a {type(key).__name__} as a key")
        if not self._numbers or not _is_small(key):
            return False
        self._numbers -= 1
        return True

    def _fill(self, target: Any, items: list) -> None:
        """Puts keys and values, in turn, into a dictionary. Raises UnpicklingError for another target."""
        if len(items) % 2 or not isinstance(target, dict | NotRead):
            raise pickle.UnpicklingError(f"entries for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if self._may_be_key(key):
                target[key] = value

    def make_set(self, items: Any = ()) -> set:
        """Makes a set of a list, as the name `set` does in a pickle."""
        return {item for item in _checked_list(items) if self._may_be_key(item)}

    def make_frozenset(self, items: Any = ()) -> frozenset:
        """Makes a frozenset of a list, as the name `frozenset` does in a pickle."""
        return frozenset(self.make_set(items))

    def make_dict(self, items: Any = ()) -> dict:
        """Makes a dictionary of a dictionary or a list of pairs, as `OrderedDict` and `Counter` do in a pickle."""
        result: dict = {}
        pairs = items.items() if isinstance(items, dict) else _checked_list(items)
        for pair in pairs:
            if type(pair) not in (tuple, list) or len(pair) != 2:
                raise pickle.UnpicklingError("a dictionary of what are no pairs")
            self._fill(result, list(pair))
        return result

    def load_put(self) -> None:
        self._remember(int(self.readline()[:-1]))

    def load_binput(self) -> None:
        self._remember(self.read(1)[0])

    def load_long_binput(self) -> None:
        self._remember(int.from_bytes(self.read(4), "little"))

    def _remember(self, place: int) -> None:
        """Keeps the top of the stack under a number. Pickles count from 0, or from 1 on."""
        if not 0 <= place <= self._file.size:
            raise pickle.UnpicklingError(f"place {told(place)} in a file of {self._file.size} bytes")
        self.memo[place] = self.stack[-1]

    def load_frame(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self._file.check(size)
        self._unframer.load_frame(size)

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        result: dict = {}
        self._fill(result, items)
        self.append(result)

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, set | NotRead):
            raise pickle.UnpicklingError(f"members for a {type(target).__name__}")
        for item in filter(self._may_be_key, items):
            target.add(item)

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # which changes what `append` appends to
        self.append(self.make_frozenset(items))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self._call(self.stack.pop(), arguments)

    def load_newobj(self) -> None:
        self._make(arguments=1)

    def load_newobj_ex(self) -> None:
        self._make(arguments=2)

    def _make(self, arguments: int) -> None:
        """Makes an object without a call. Only placeholders stand for classes, and they stand for the objects, too."""
        del self.stack[-arguments:]
        if not isinstance(self.stack[-1], NotRead):
            raise pickle.UnpicklingError(f"an object of a {type(self.stack[-1]).__name__}")

    def _instantiate(self, klass: Any, args: Any) -> None:
        self._call(klass, tuple(args))

    def load_build(self) -> None:
        state = self.stack.pop()
        self._work_on(state, *(state if type(state) is tuple else ()))
        target = self.stack[-1]
        if not hasattr(target, "__setstate__"):
            raise pickle.UnpicklingError(f"a state for a {type(target).__name__}")
        target.__setstate__(state)

    def _call(self, function: Any, arguments: Any) -> None:
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"a call with a {type(arguments).__name__}")
        self._work_on(arguments, *arguments)
        self.append(function(*arguments))


class _Bounded:
    """A file that is never asked for more than is left of it, and so makes room for no more.

    Attributes:
        size: of the whole file, in bytes.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.readline = file.readline

    @property
    def place(self) -> int:
        return self._file.tell()

    def check(self, size: int) -> None:
        """Raises UnpicklingError if so many bytes are more than are left."""
        if size > (left := self.size - self.place):
            raise pickle.UnpicklingError(f"{size} bytes are announced where {left} are left")

    def read(self, size: int) -> bytes:
        if size > _UNCHECKED:
            self.check(size)
        return self._file.read(size)


class _Counted(dict):
    """A dictionary that counts how often it is looked into, and tells every so often.

    Args:
        entries: of the dictionary.
        tell: called with the count.
    """

    def __init__(self, entries: dict, tell: Callable[[int], None]):
        super().__init__(entries)
        self._count, self._tell = 0, tell

    def __getitem__(self, key: int) -> Callable:
        self._count += 1
        if self._count % _COUNTED == 0:
            self._tell(self._count)
        return super().__getitem__(key)


def _checked_list(items: Any) -> list | tuple:
    if type(items) not in (list, tuple):
        raise TypeError(f"the items of a {type(items).__name__}")
    return items


def _is_small(key: Any) -> bool:
    """Returns whether a key is a number, a text, None, or a tuple of these, and of few of them in all."""
    waiting, parts, letters = [key], 0, 0
    while waiting:
        part = waiting.pop()
        parts += 1
        if type(part) is tuple and len(part) <= MOST_PARTS:
            waiting += part
        elif type(part) in (str, bytes):
            letters += len(part)
        elif type(part) is int:
            letters += part.bit_length() // 8
        elif isinstance(part, np.generic):
            letters += part.nbytes
        elif part is not None and type(part) not in (bool, float):
            return False
        if parts > MOST_PARTS or letters > LONGEST_KEY:
            return False
    return True


def _size(value: Any) -> int:
    """Returns how much there is to work on in a value: letters, bytes or entries."""
    if isinstance(value, np.ndarray | np.generic | memoryview):
        return value.nbytes
    if isinstance(value, str | bytes | bytearray | list | tuple | dict | set | frozenset):
        return len(value)
    return value.bit_length() // 8 if isinstance(value, int) else 1


_HANDLERS: dict[int, Callable] = {
    **pickle._Unpickler.dispatch,
    **{
        getattr(pickle, name.upper().removeprefix("LOAD_"))[0]: handler
        for name, handler in vars(BoundedUnpickler).items()
        if name.startswith("load_")
    },
}
