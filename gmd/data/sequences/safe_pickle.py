"""Reading pickles from somebody else: data are read, objects are left as placeholders, code is refused by name.

A pickle is a program: what it names, it may call. Here it may name only stand-ins of this file, which make arrays out
of bytes after checking them. Not even numpy's own functions will do: `dtype.__setstate__` takes flags from the file, by
which bytes can pass for pointers to Python objects. Whatever else it names is never imported: classes of other packages
and plain types of Python become a `NotRead`, which takes all that is done to it and does nothing, so that an object
somewhere in a file does no harm to the arrays beside it. Names of Python's own library that are no plain types, such as
os.system, are what attacks ask for, and such a file is refused whole.
"""

import math
import pickle
import re
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gmd.data.file_kind import changed_as_text, kind_of, unreadable
from gmd.data.sequences.bounded_unpickler import BoundedUnpickler, Refused
from gmd.data.sequences.not_read import NotRead, told
from gmd.errors import UserError
from gmd.files import open_regular

# what unpickling garbage raises (found by flipping bits)
_UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, ValueError, TypeError),
    *(struct.error, AssertionError, BufferError, MemoryError, OverflowError, OSError, RecursionError),
)


def read_pickle(path: Path) -> Any:
    """Reads a pickle: arrays, lists, tuples, sets, dictionaries (of any kind), str, bytes, numbers, None.

    Pickles of Python 2 and 3, of numpy 1 and 2, protocols 0 to 5; the bytes that Python 2 called `str` are read as
    Latin-1. Arrays may hold numbers, truth values, str, bytes, or (with object arrays) again any of all this.
    Any other object is a `NotRead`. An array of another type is one of no axes that holds a `NotRead`. Entries of
    dictionaries and sets are left out if their keys could cost much: long ones, nested ones, thousands of numbers.
    Raises UserError: no regular file, one that names functions of Python's library, that is one object itself, that was
        changed as text, that would take more memory than a file may, or is damaged. Nothing of it has been executed.
    """
    try:
        if kind_of(path) in ("a pickle", None) and (changed := changed_as_text(path)):
            raise Refused(f"cannot be read as a pickle: {changed}")
        with open_regular(path) as file:
            content = _DataUnpickler(file, path).load()
        if isinstance(content, NotRead):
            raise Refused(f"refused, since it {content.asks}")
        return content
    except UserError:  # which is a ValueError
        raise
    except Refused as refused:
        raise UserError(f"{path}: {refused}") from None
    except _UNREADABLE as error:
        raise UserError(unreadable(path, "a pickle", error, own=("a pickle",))) from error


class _StandIn:
    """What a pickle gets for a name it may use. It can be called, and nothing else: no attribute of it can be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refused("wants to change the functions it is read with; that is an attack, or a damaged file")


class _DataUnpickler(BoundedUnpickler):
    """An unpickler that gives out stand-ins for names, and refuses the rest."""

    def find_class(self, module: str, name: str) -> "_StandIn | NotRead":
        """Returns what stands for a name, whatever opcode asks. Raises Refused for functions of Python's library."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if (module, name) in _COLLECTIONS:
            return _StandIn(partial(_COLLECTIONS[module, name], self))
        # cut, as a file may name what is long over and over
        stands_for = NotRead(f"{module[:_LONGEST_NAME]}.{name[:_LONGEST_NAME]}")
        if module[:_LONGEST_NAME].partition(".")[0] in _LIBRARY and name not in _PLAIN_TYPES.get(module, ()):
            raise Refused(f"refused, since it {stands_for.asks}")
        return stands_for

    def get_extension(self, code: int) -> NoReturn:
        """Refuses numbers that stand for names, which Python would not ask for by name if they were resolved before."""
        raise Refused(f"refused, since it asks for extension code {code}, and nothing was executed")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuses references to something outside of the pickle."""
        raise Refused(f"refused, since it refers to something outside of it ({told(pid)}), as torch.save does")


class _Dtype:
    """A numpy.dtype, by its name alone; only its byte order is taken from the state that follows."""

    __slots__ = ("dtype",)

    def __init__(self, name: str):
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, subdtype, names, fields, size, alignment, flags, metadata): most are implied by the name
        if any(part is not None for part in (*state[2:5], *state[8:])):
            raise Refused("refused, since it holds an array with fields or metadata, expected plain numbers or str")
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"byte order {told(state[1])}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array whose state is checked before numpy gets it."""

    def __setstate__(self, state: tuple) -> None:
        if self.size:  # numpy would free the content under whoever looks at it
            raise Refused("refused, since it fills an array twice; that is an attack, or a damaged file")
        _, shape, dtype, fortran, content = state
        if isinstance(dtype, NotRead):
            super().__setstate__((1, (), np.dtype(object), False, [dtype]))  # type: ignore[arg-type]
            return
        _check_shape(shape)
        dtype = _checked_dtype(dtype)
        if isinstance(content, str):  # bytes, for Python 2
            content = content.encode("latin1")
        expected = list if dtype.hasobject else bytes
        count = math.prod(shape)
        if type(content) is not expected or len(content) != count * (1 if dtype.hasobject else dtype.itemsize):
            raise ValueError(f"an array of {count} {dtype} with content of another size or kind")
        _check_text(dtype, content)
        # numpy's stubs ask for a numpy.bool here, which its C code refuses
        super().__setstate__((1, shape, dtype, bool(fortran), content))  # type: ignore[arg-type]


_NDARRAY = _StandIn(lambda *arguments: _refuse_call("numpy.ndarray"))


def _refuse_call(name: str) -> NoReturn:
    raise Refused(f"refused, since it calls {name}, which no pickle of data does")


_MOST_AXES = 64  # numpy's limit
_LONGEST_NAME = 256
_PLAIN_DTYPE = re.compile(r"\?|b1|[iu][1248]|f(2|4|8|12|16)|[SU][0-9]{1,6}|O8?")


def _dtype(name: Any, align: Any = False, copy: Any = True) -> _Dtype | NotRead:
    """Makes a dtype of its name: of numbers, str, bytes or objects; complex numbers, dates and records are not read."""
    plain = isinstance(name, str) and _PLAIN_DTYPE.fullmatch(name)
    return _Dtype(name) if plain else NotRead(f"numpy.dtype {told(name)}")


def _reconstruct(kind: Any, shape: Any, typecode: Any) -> np.ndarray | NotRead:
    """Makes an empty array, to which `__setstate__` gives shape and content; none of a kind that is not read."""
    if isinstance(kind, NotRead):
        return kind
    if kind is not _NDARRAY:
        raise TypeError(f"an array of the kind {told(kind)}")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(dtype: Any, content: Any) -> Any:
    """Makes a numpy scalar of its bytes, once these are found to be as many as its type has."""
    if isinstance(dtype, NotRead):
        return dtype
    dtype = _checked_dtype(dtype)
    if isinstance(content, str):
        content = content.encode("latin1")
    if dtype.hasobject or len(content) != dtype.itemsize:
        raise ValueError(f"a {dtype} of another size or kind")
    _check_text(dtype, content)
    return np.frombuffer(content, dtype)[0] if dtype.itemsize else dtype.type()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | NotRead:
    """Makes an array of a buffer of protocol 5; numpy refuses objects there, and shapes that do not fit."""
    if isinstance(dtype, NotRead):
        return dtype
    if not isinstance(content, bytes | bytearray):
        raise TypeError(f"a buffer that is {type(content).__name__}")
    _check_shape(shape)
    dtype = _checked_dtype(dtype)
    _check_text(dtype, content)
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order).view(_Array)


def _check_shape(shape: Any) -> None:
    # few axes of few digits, as their product may have no more than the file can pay for
    if type(shape) is not tuple or len(shape) > _MOST_AXES:
        raise ValueError(f"an array whose shape is {told(shape)}")
    for size in shape:
        if not isinstance(size, int) or not 0 <= size < 2**63:
            raise ValueError(f"an array with an axis of {told(size)} entries")


def _check_text(dtype: np.dtype, content: Any) -> None:
    """Raises ValueError for str with numbers beyond Unicode, of which numpy would make no Python str later."""
    number = np.dtype(np.uint32).newbyteorder(dtype.byteorder)
    if dtype.kind == "U" and (np.frombuffer(content, number) > sys.maxunicode).any():
        raise ValueError(f"a {dtype} with numbers that are no characters")


def _checked_dtype(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise TypeError(f"an array of dtype {told(dtype)}")
    return dtype.dtype


def _encode(text: Any, encoding: Any = None) -> bytes:
    """Returns the bytes that Python 3 writes as text in the protocols of Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"refused, since it encodes as {told(encoding)}, expected latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


# Modules as Python 2 and 3, numpy 1 and 2 call them
_ALLOWED: dict[tuple[str, str], _StandIn] = {
    ("numpy", "dtype"): _StandIn(_dtype),
    ("numpy", "ndarray"): _NDARRAY,
    ("collections", "defaultdict"): _StandIn(lambda factory=None: {}),
    ("_codecs", "encode"): _StandIn(_encode),
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _StandIn(_reconstruct)
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _StandIn(_scalar)
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _StandIn(_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    _ALLOWED[_builtins, "bytes"] = _StandIn(_no_bytes)  # of none, as protocols 0 to 2 write them

# what is made of entries, whose keys have to be looked at
_COLLECTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): BoundedUnpickler.make_dict,
    ("collections", "Counter"): BoundedUnpickler.make_dict,
}
for _builtins in ("builtins", "__builtin__"):
    _COLLECTIONS[_builtins, "set"] = BoundedUnpickler.make_set
    _COLLECTIONS[_builtins, "frozenset"] = BoundedUnpickler.make_frozenset

_LIBRARY = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "cPickle"}  # these are Python 2's
# types of Python's library that can do nothing, and what protocols 0 and 1 make objects by
_PLAIN_TYPES: dict[str, set[str]] = {
    "collections": {"deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "uuid": {"UUID", "SafeUUID"},
    "array": {"array", "_array_reconstructor"},
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
}
for _module in ("copyreg", "copy_reg"):
    _PLAIN_TYPES[_module] = {"_reconstructor", "__newobj__"}
for _module in ("pathlib", "pathlib._local"):
    _PLAIN_TYPES[_module] = {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"}
for _module in ("builtins", "__builtin__"):
    _PLAIN_TYPES[_module] = {
        *("bytearray", "complex", "slice", "range", "xrange", "list", "dict", "tuple", "int", "long", "float", "bool"),
        *("str", "unicode", "object"),
    }
