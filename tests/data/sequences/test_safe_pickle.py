"""Pickles are untrusted: data come out as they went in, code is refused by name, and nothing of it is executed."""

import collections
import contextlib
import copyreg
import datetime
import importlib
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gmd.data.sequences.not_read import NotRead, first_not_read
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.errors import UserError
from helpers.nifti_cases import error_of
from helpers.sequence_cases import mmsa

PROTOCOLS = range(6)


def read_bytes(folder, content):
    path = Path(folder) / "data.pkl"
    path.write_bytes(content)
    return read_pickle(path)


def same(a, b):
    if isinstance(b, np.ndarray):
        native = b.dtype.newbyteorder("=")  # which numpy sometimes makes of others
        if not (isinstance(a, np.ndarray) and a.dtype.newbyteorder("=") == native and a.shape == b.shape):
            return False
        if b.dtype == object:
            return all(map(same, a.flat, b.flat))
        return a.astype(native).tobytes() == b.astype(native).tobytes()
    if isinstance(b, dict):
        return isinstance(a, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


# Data


DTYPES = st.sampled_from([*"?bBhHiIlLqQefd", ">f4", ">i8", "g", "S3", "U5", ">U2", "S1"]).map(np.dtype)
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats()
LEAVES = NUMBERS | st.text() | st.binary() | arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, min_side=0))
HASHABLE = st.text() | st.integers() | st.tuples(st.text(), st.integers())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(TREES, st.sampled_from(PROTOCOLS))
def test_data_come_out_as_they_went_in(tmp_path_factory, tree, protocol):
    content = pickle.dumps(tree, protocol=protocol)
    assert same(read_bytes(tmp_path_factory.getbasetemp(), content), tree)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_scalars_and_memory_orders(protocol, tmp_path):
    inner = np.arange(6.0).reshape(2, 3)
    objects = np.array(["words", 3, None, inner, ["a", np.float32(2)]], object)
    tree = {
        "objects": objects,
        "fortran": np.asfortranarray(inner),
        "strided": inner[:, ::2],
        "scalars": [np.float64(1.5), np.int32(-3), np.bool_(True), np.str_("né"), np.bytes_(b"raw"), np.float16(0.1)],
        "shared": [inner, inner],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    }
    read = read_bytes(tmp_path, pickle.dumps(tree, protocol=protocol))
    assert type(read.pop("ordered")) is dict
    tree.pop("ordered")
    assert same(read, tree)
    assert read["shared"][0] is read["shared"][1]
    read["fortran"] += 1  # and belongs to who reads it


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", range(4))  # after which names are preceded by their length
def test_both_generations_of_numpy(core, protocol, tmp_path):
    tree = {"a": np.arange(3.0), "o": np.array(["x", "y"], object), "s": np.float32(2)}
    content = pickle.dumps(tree, protocol=protocol).replace(b"numpy._core", b"numpy.core")
    assert content.count(b"numpy.core") >= 2
    assert same(read_bytes(tmp_path, content.replace(b"numpy.core", core.encode())), tree)


def test_a_pickle_of_python_2(tmp_path):
    """Its `str` are bytes, also inside of arrays: they are read as Latin-1, and the arrays all the same."""
    raw = np.array([1.5, -2.0], "<f8").tobytes()
    content = (
        b"\x80\x02}U\x04testcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"U"
        + bytes([len(raw)])
        + raw
        + b"tbs."
    )
    assert same(read_bytes(tmp_path, content), {"test": np.array([1.5, -2.0])})
    assert pickle.loads(content, encoding="latin1")["test"].tolist() == [1.5, -2.0]  # as Python itself reads it
    assert read_bytes(tmp_path, b"\x80\x02U\x03caf\x2e".replace(b"caf", b"\xe9t\xe9")) == "été"


# Code. Every payload would create a file; that it does, read without care, is tested too


class Payload:
    def __init__(self, file, call=os.system):
        self.file, self.call = file, call

    def __reduce__(self):
        if self.call is os.system:
            return os.system, (f"touch {self.file}",)
        return eval, (f"open({str(self.file)!r}, 'w').close()",)


PLACES = {
    "alone": lambda payload: payload,
    "in a list": lambda payload: {"train": [1, (2, payload)]},
    "as a key": lambda payload: {payload: 1},
    "in an array of objects": lambda payload: {"train": np.array([np.array([1, payload], object), None], object)},
    "behind real data": lambda payload: mmsa()[0] | {"zzz": payload},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [os.system, eval])
def test_code_is_refused_by_name_and_not_executed(call, place, protocol, tmp_path):
    file = tmp_path / "executed"
    content = pickle.dumps(PLACES[place](Payload(file, call)), protocol=protocol)
    name = "posix.system" if call is os.system else "__builtin__.eval" if protocol < 3 else "builtins.eval"
    assert f"asks for {name}, and nothing was executed" in error_of(read_bytes, tmp_path, content)
    assert not file.exists()
    if place == "alone":
        pickle.loads(content)
        assert file.exists(), "the payload is harmless in itself: this test would show nothing"


ADMITTED = {
    "builtins": {"set", "frozenset", "bytes"},
    "numpy": {"dtype", "ndarray"},
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "_codecs": {"encode"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
}
OTHERS = ("os", "posix", "subprocess", "sys", "shutil", "importlib", "ctypes", "pickle", "runpy", "codecs", "operator")


@pytest.mark.parametrize("module", [*ADMITTED, *OTHERS])
def test_of_all_names_of_a_module_none_but_those_listed_is_admitted(module, tmp_path):
    for name in dir(importlib.import_module(module)):
        content = b"c" + module.encode() + b"\n" + name.encode() + b"\n."
        if name in ADMITTED.get(module, ()):
            assert not isinstance(read_bytes(tmp_path, content), type)  # a stand-in
        else:
            assert f"asks for {module}.{name}, and nothing was executed" in error_of(read_bytes, tmp_path, content)


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def written(file):
    return f"open({str(file)!r}, 'w').close()"


OPCODES = {
    "GLOBAL": lambda code: b"cbuiltins\neval\n(V" + code + b"\ntR.",
    "INST": lambda code: b"(V" + code + b"\nibuiltins\neval\n.",
    "OBJ": lambda code: b"(cbuiltins\neval\nV" + code + b"\no.",
    "STACK_GLOBAL": lambda code: b"\x80\x04" + short("builtins") + short("eval") + b"\x93V" + code + b"\n\x85R.",
    "below an admitted name": lambda code: (
        b"\x80\x04" + short("collections") + short("OrderedDict.fromkeys") + b"\x93." + code
    ),
}


@pytest.mark.parametrize("opcode", OPCODES)
def test_every_opcode_that_names_something(opcode, tmp_path):
    file = tmp_path / "executed"
    content = OPCODES[opcode](written(file).encode())
    assert "and nothing was executed" in error_of(read_bytes, tmp_path, content)
    assert not file.exists()
    pickle.loads(content)
    assert file.exists() or opcode == "below an admitted name"


@pytest.mark.parametrize(("opcode", "code"), [("B", 0x82), ("<H", 0x83), ("<i", 0x84)])
@pytest.mark.parametrize("resolved_before", [False, True])
def test_extension_codes_also_those_that_were_resolved_before(opcode, code, resolved_before, tmp_path):
    """A code that was resolved once in this process is not asked for by name again."""
    number = {"B": 200, "<H": 40_000, "<i": 70_000}[opcode]
    file = tmp_path / "executed"
    content = bytes([0x80, 2, code]) + struct.pack(opcode, number) + b"V" + written(file).encode() + b"\n\x85R."
    copyreg.add_extension("builtins", "eval", number)
    try:
        if resolved_before:
            pickle.loads(content)
            file.unlink()
        assert f"asks for extension code {number}, and nothing" in error_of(read_bytes, tmp_path, content)
        assert not file.exists()
    finally:
        copyreg.remove_extension("builtins", "eval", number)


@pytest.mark.parametrize("content", [b"Psomewhere else\n.", b"\x80\x02Vsomewhere else\nQ."])
def test_persistent_ids(content, tmp_path):
    assert "refers to something outside of it ('somewhere else'), as torch.save" in error_of(
        read_bytes, tmp_path, content
    )


OBJECTS = {
    "a tensor": (torch.ones(2), "torch."),
    "a date": (datetime.date(2020, 1, 1), "datetime.date"),
    "an array of dates": (np.array(["2020-01-01"], "M8[D]"), "numpy.dtype 'M8"),
    "a record": (np.zeros(2, [("a", "f4")]), "numpy.dtype 'V4'"),
    "an array of a subclass": (np.ma.masked_array([1.0]), "numpy.ma"),
    "complex": (1j, "builtins.complex"),
    "a bytearray": (bytearray(b"x"), "builtins.bytearray"),
    "a slice": (slice(1, 2), "builtins.slice"),
    "a path": (Path("x"), "pathlib"),
    "a class of a package": (np.float32, "numpy.float32"),
    "a generator": (np.random.default_rng(0), "numpy.random"),
    "an own object, a list": (error_of, "helpers.nifti_cases.error_of"),
}


def unread(value):
    """The placeholder in what stands for an object: itself, or an array of no axes that holds it."""
    return value if isinstance(value, NotRead) else first_not_read(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_placeholders_and_the_data_beside_them_are_read(name, protocol, tmp_path):
    value, asked = OBJECTS[name]
    if name == "a bytearray" and protocol == 5:
        asked = None  # which has an opcode for it
    tree = {"before": np.arange(3.0), "object": [value], "after": [1, np.arange(2)]}
    read = read_bytes(tmp_path, pickle.dumps(tree, protocol=protocol))
    [stands_for] = read.pop("object")
    assert same(read, {"before": np.arange(3.0), "after": [1, np.arange(2)]})
    if asked is not None:
        said = unread(stands_for).asks.replace("__builtin__", "builtins")
        assert said.startswith(("asks for " + asked, "asks for copy_reg._reconstructor"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dictionaries_of_any_kind(protocol, tmp_path):
    tree = [collections.defaultdict(list, a=[1]), collections.Counter("aab"), collections.OrderedDict(b=2)]
    read = read_bytes(tmp_path, pickle.dumps(tree, protocol=protocol))
    assert read == [{"a": [1]}, {"a": 2, "b": 1}, {"b": 2}]
    assert {type(each) for each in read} == {dict}


class Filled(list):
    """An object with a state, items and entries: with every opcode by which a pickle can fill one."""

    def __reduce_ex__(self, protocol):
        return type(self), (1,), {"state": 1}, iter([1, 2, 3]), iter([("key", "value")])


def test_a_placeholder_takes_all_that_is_done_to_it(tmp_path):
    [read] = read_bytes(tmp_path, pickle.dumps([Filled()], protocol=4))
    assert isinstance(read, NotRead)
    assert read.asks.startswith(f"asks for {__name__}.Filled, and nothing was executed")


ATTACKS_BY_PLACEHOLDERS = {
    "a function of another package": lambda code: b"cnumpy.testing._private.utils\nrunstring\n(V" + code + b"\n}tR",
    "a placeholder that is called": lambda code: b"ctorch\nx\n(V" + code + b"\ntR(V" + code + b"\ntR",
    "a placeholder as a class": lambda code: b"\x80\x02ctorch\nx\nV" + code + b"\n\x85\x81",
    "a name below one": lambda code: b"\x80\x04" + short("torch") + short("os.system") + b"\x93V" + code + b"\n\x85R",
    "its state": lambda code: b"ctorch\nx\n}V__class__\nV" + code + b"\nsb",
    "its slots": lambda code: b"ctorch\nx\n(N}Vasks\nV" + code + b"\nstb",
    "a placeholder as the kind of an array": lambda code: (
        b"cnumpy._core.multiarray\n_reconstruct\n(ctorch\nx\nI0\n\x85Vb\ntR(V" + code + b"\ntb"
    ),
    "a placeholder as a factory": lambda code: b"ccollections\ndefaultdict\n(ctorch\nx\ntR",
}


@pytest.mark.parametrize("attack", ATTACKS_BY_PLACEHOLDERS)
def test_placeholders_execute_nothing_and_keep_what_they_say(attack, tmp_path):
    file = tmp_path / "executed"
    content = b"(" + ATTACKS_BY_PLACEHOLDERS[attack](written(file).encode()) + b"l."
    with contextlib.suppress(UserError):
        [read] = read_bytes(tmp_path, content.replace(b"(\x80\x02", b"\x80\x02(").replace(b"(\x80\x04", b"\x80\x04("))
        assert read == {} or read.asks.startswith(("asks for torch.", "asks for numpy.testing"))
    assert not file.exists()


def test_names_from_a_file_do_nothing_to_a_terminal(tmp_path):
    message = error_of(read_bytes, tmp_path, b"\x80\x04" + short("os\r") + short("sys\x1b[2J\ntem") + b"\x93.")
    assert r"asks for os\r.sys\x1b[2J\ntem, and nothing was executed" in message
    message = error_of(read_bytes, tmp_path, b"cos\n" + b"x" * 10_000 + b"\n.")
    assert len(message) < 400


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_line_ends_that_were_converted_are_said_to_be(protocol, tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 20)).astype(np.float32)
    content = pickle.dumps({"train": rows, "test": [1, 2, 3]}, protocol=protocol).replace(b"\n", b"\r\n")
    message = error_of(read_bytes, tmp_path, content)
    assert "its line ends were converted (Windows, git autocrlf, FTP in text mode); get the file in binary" in message
    assert "\r" not in message


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (datetime.date(2020, 1, 1), "datetime.date"),
        (np.ma.masked_array([1.0]), "numpy.ma"),
        (np.float32, "numpy.float32"),
        (bytearray(b"x"), "builtins.bytearray"),
        (np.random.default_rng(0), "numpy.random"),
        (Path("x"), "pathlib"),
    ],
)
def test_a_file_of_one_object_is_refused_by_name_however_harmless(value, name, tmp_path):
    assert f"asks for {name}" in error_of(read_bytes, tmp_path, pickle.dumps(value, protocol=3))


# What is admitted, turned against the reader


def number(value):
    return b"J" + struct.pack("<i", value)


def dtype(name, state=b""):
    """The dtype on the stack; state: opcodes that push a tuple to set it with."""
    return b"cnumpy\ndtype\nV" + name.encode() + b"\nI00\nI01\n\x87R" + (state + b"b" if state else b"")


def array(shape, the_dtype, content):
    """An array on the stack; all given as opcodes."""
    new = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85Vb\ntR"
    return new + b"(" + number(1) + shape + the_dtype + b"I00\n" + content + b"tb"


def raw(content):
    return b"B" + struct.pack("<I", len(content)) + content


NO_POINTERS = b"(I3\nV|\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffI0\nt"  # flags 0: "holds no Python objects"
THREE = number(3) + b"\x85"


def test_the_builder_of_these_attacks_builds_arrays(tmp_path):
    content = b"\x80\x03" + array(THREE, dtype("f4"), raw(np.arange(3, dtype="f4").tobytes())) + b"."
    assert read_bytes(tmp_path, content).tolist() == [0, 1, 2]
    assert pickle.loads(content).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        # numpy believes these flags, and takes the bytes for the addresses of objects
        (array(THREE, dtype("O8", NO_POINTERS), raw(b"\x41" * 24)), "an array of 3 object with content of another"),
        (array(THREE, dtype("O8"), raw(b"\x41" * 24)), "an array of 3 object with content of another size or kind"),
        (array(THREE, dtype("O8"), raw(b"\x41" * 3)), "an array of 3 object with content of another size or kind"),
        (array(THREE, dtype("f4"), b"](" + b"K\x01" * 12 + b"e"), "an array of 3 float32 with content of another size"),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(" + raw(b"\x41" * 12) + dtype("f4") + THREE + b"VC\ntR"
            b"(" + number(1) + THREE + dtype("O8", NO_POINTERS) + b"I00\n" + raw(b"\x41" * 24) + b"tb",
            "fills an array twice",
        ),
        (array(THREE, dtype("O8"), b"]"), "an array of 3 object with content of another size or kind"),
        (array(THREE, dtype("f4"), raw(b"\x41" * 8)), "an array of 3 float32 with content of another size or kind"),
        (array(THREE, dtype("f4"), b"](K\x01K\x02K\x03e"), "an array of 3 float32 with content of another size"),
        (array(number(-3) + b"\x85", dtype("f4"), raw(b"")), "an array with an axis of -3 entries"),
        (array(number(3), dtype("f4"), raw(b"\x41" * 12)), "an array whose shape is 3"),
        (array(b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85", dtype("f4"), raw(b"")), "cannot be read as a pickle"),
        (array(THREE, b"Vf4\n", raw(b"\x41" * 12)), "an array of dtype 'f4'"),
        (dtype("f4,f4"), "asks for numpy.dtype 'f4,f4', and nothing"),
        (dtype("V8"), "asks for numpy.dtype 'V8', and nothing"),
        (dtype("M8[D]"), "asks for numpy.dtype 'M8[D]', and nothing"),
        (dtype("f4", b"(I4\nV<\nNNNI-1\nI-1\nI0\n(Vsecret\nI1\ndt"), "fields or metadata, expected plain numbers"),
        (dtype("f4", b"(I3\nV<\nN(Va\ntNI-1\nI-1\nI0\nt"), "fields or metadata, expected plain numbers"),
        (dtype("f4", b"(I3\nVx\nNNNI-1\nI-1\nI0\nt"), "byte order 'x'"),
        (dtype("f4", b"}"), "cannot be read as a pickle"),
        (b"cnumpy\ndtype\n(]tR", "asks for numpy.dtype a list, and nothing"),
        (b"cnumpy\nndarray\n" + number(10**9) + b"\x85\x85R", "calls numpy.ndarray, which no pickle of data does"),
        (b"cnumpy\nndarray\n)\x81", "cannot be read as a pickle"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\ndtype\nI0\n\x85Vb\ntR", "cannot be read as a pickle"),
        (b"cnumpy._core.multiarray\nscalar\n" + dtype("O8") + raw(b"\x41" * 8) + b"\x86R", "object of another size"),
        (b"cnumpy._core.multiarray\nscalar\n" + dtype("f8") + raw(b"\x41" * 4) + b"\x86R", "float64 of another size"),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(" + raw(b"\x41" * 24) + dtype("O8") + THREE + b"VC\ntR",
            "cannot be read as a pickle",
        ),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(" + raw(b"\x41" * 8) + dtype("f4") + THREE + b"VC\ntR",
            "cannot be read as a pickle",
        ),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(" + number(10**9) + dtype("f4") + THREE + b"VC\ntR",
            "a buffer that is int",
        ),
        (
            # a look at an array's memory, which is freed then
            b"(" + array(THREE, dtype("f4"), raw(b"\x41" * 12)) + b"q\x00\x98h\x00("
            b"K\x01" + THREE + dtype("f4") + b"I00\n" + raw(b"\x41" * 12) + b"tbt",
            "fills an array twice; that is an attack, or a damaged file",
        ),
        (b"\x96" + struct.pack("<Q", 1) + b"aq\x00\x98h\x00K\x01a", "cannot be read as a pickle (BufferError"),
        (array(THREE, dtype("U1"), raw(b"\xff" * 12)), "<U1 with numbers that are no characters"),
        (
            b"cnumpy._core.multiarray\nscalar\n" + dtype("U1") + raw(b"\x00\x00\x11\x00") + b"\x86R",
            "<U1 with numbers that are no characters",
        ),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(" + raw(b"\xff" * 12) + dtype("U1") + THREE + b"VC\ntR",
            "<U1 with numbers that are no characters",
        ),
        (b"c_codecs\nencode\n(Veval\nVrot13\ntR", "encodes as 'rot13', expected latin1"),
        (b"cbuiltins\nbytes\n" + number(10**9) + b"\x85R", "cannot be read as a pickle"),
        # to set an attribute of what the file is read with: its dictionary, or with setattr (the tuple's second part)
        (b"c_codecs\nencode\n(V__call__\nI1\ndb", "wants to change the functions it is read with"),
        (b"cnumpy\ndtype\n(N(V__setstate__\nI1\ndtb", "wants to change the functions it is read with"),
        (b"ccollections\nOrderedDict\n(N(Vupdate\nI1\ndtb", "wants to change the functions it is read with"),
        (b"cnumpy\ndtype\n(Vf4\ntR(N(Vdtype\nI1\ndtb", "cannot be read as a pickle"),
        (b"ccollections\nOrderedDict\n)R(Vupdate\nI1\ndb", "cannot be read as a pickle"),
    ],
)
def test_admitted_names_turned_against_the_reader(attack, message, tmp_path):
    assert message in error_of(read_bytes, tmp_path, b"\x80\x03" + attack + b".")
    assert same(read_bytes(tmp_path, pickle.dumps(np.arange(3.0))), np.arange(3.0))  # it reads on as ever


# Damage


def test_a_file_cut_off_anywhere(tmp_path):
    content = pickle.dumps(mmsa()[0])
    for end in [*range(1, 40), *range(40, len(content) - 1, 97), len(content) - 1]:
        assert "cannot be read as a pickle" in error_of(read_bytes, tmp_path, content[:end])


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(PROTOCOLS))
def test_damaged_files_are_an_error_or_harmless(tmp_path_factory, data, protocol):
    tree = {"a": np.arange(4.0), "o": np.array(["x", {"y": 1}], object), "s": [np.float32(2), {3}, b"raw", "str"]}
    content = bytearray(pickle.dumps(tree, protocol=protocol))
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=3)):
        content[place] = value
    with contextlib.suppress(UserError):  # any other exception is a failure, and so is a crash
        read_bytes(tmp_path_factory.getbasetemp(), bytes(content))


def test_a_damaged_file_cannot_ask_for_all_memory(tmp_path):
    """Python's reader in C makes room for two thousand million objects to put one at this place."""
    tracemalloc.start()
    try:
        message = error_of(read_bytes, tmp_path, b"\x80\x02]r" + struct.pack("<I", 2**30) + b".")
        assert "place 1073741824 in a file of 9 bytes" in message
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_garbage(tmp_path_factory, content):
    with contextlib.suppress(UserError):  # some strings are pickles
        read_bytes(tmp_path_factory.getbasetemp(), content)
