"""A few bytes of a pickle ask for very much: they get no more time and memory than the file is large."""

import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest

from gmd.data.sequences.bounded_unpickler import LONGEST_KEY, MOST_NUMBERS, MOST_PARTS
from gmd.data.sequences.safe_pickle import read_pickle
from gmd.errors import UserError
from helpers.nifti_cases import error_of

HUGE = struct.pack("<Q", 6 * 2**30)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def doubled(depth, start=b")", again=b"h%ch%c\x86"):
    """What holds itself twice, `depth` times over: 2^depth entries for whoever goes through them."""
    places = (bytes([i]) for i in range(depth))
    return start + b"".join(b"q" + i + b"0" + again.replace(b"%c", i) for i in places)


TUPLES = doubled(40)
LISTS = doubled(40, b"]", b"(h%ch%cl")


@pytest.fixture
def outcome(tmp_path):
    """Reads a pickle soon and in little memory: what it holds, or the error's message."""

    def read(content, seconds=5.0, memory=30e6):
        path = tmp_path / "data.pkl"
        path.write_bytes(content)
        tracemalloc.start()
        start = time.process_time()
        try:
            return read_pickle(path)
        except UserError as error:
            return str(error)
        finally:
            took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert took < seconds + len(content) * 2e-5
            assert peak < memory + 30 * len(content)

    return read


# Lengths that are not there

LENGTHS = {
    "BYTEARRAY8": b"\x96" + HUGE,
    "BINBYTES8": b"\x8e" + HUGE,
    "BINUNICODE8": b"\x8d" + HUGE,
    "FRAME": b"\x95" + HUGE,
    "BINBYTES": b"B" + struct.pack("<I", 2**32 - 1),
    "BINUNICODE": b"X" + struct.pack("<I", 2**32 - 1),
    "BINSTRING": b"T" + struct.pack("<i", 2**31 - 1),
    "LONG4": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "BYTEARRAY8 of 2^64": b"\x96" + b"\xff" * 8,
    "BYTEARRAY8 behind a real one": b"\x96" + struct.pack("<Q", 2) + b"ab\x96" + HUGE,
    "BYTEARRAY8 in a frame": b"\x95" + struct.pack("<Q", 14) + b"\x96" + HUGE + b"abcd.",
}


@pytest.mark.parametrize("opcode", LENGTHS)
def test_a_length_beyond_the_file_is_refused_before_there_is_room_for_it(opcode, outcome):
    message = outcome(b"\x80\x05" + LENGTHS[opcode] + b"abc.", memory=2e6)
    assert "cannot be read as a pickle" in message
    assert "are announced where" in message or "end of frame" in message


@pytest.mark.parametrize(
    "put", [b"r" + struct.pack("<I", 2**30), b"p1073741824\n", b"p" + b"9" * 4000 + b"\n", b"p-1\n"]
)
def test_a_place_in_the_memo_beyond_the_file(put, outcome):
    assert "cannot be read as a pickle (UnpicklingError: place" in outcome(b"\x80\x02]" + put + b".", memory=2e6)


def test_places_that_collide_in_the_memo(outcome):
    """Python's hash of them all is 0, so that each is compared with all before it."""
    puts = b"".join(b"p%d\n" % (k * (2**61 - 1)) for k in range(1, 30_000))
    assert "place 2305843009213693951" in outcome(b"\x80\x02N" + puts + b".")


def test_files_and_frames_of_any_size_are_read(outcome):
    content = {"a": bytearray(b"x" * 100_000), "b": b"y" * 70_000, "c": "z" * 70_000, "d": list(range(300))}
    for protocol in range(2, 6):
        assert outcome(pickle.dumps({**content, "a": b"x"}, protocol=protocol))["d"] == content["d"]
    assert outcome(pickle.dumps(content, protocol=5)) == content


# Keys

KEYS = {
    "SETITEM": lambda key: b"}" + key + b"Ns",
    "SETITEMS": lambda key: b"}(" + key + b"Nu",
    "DICT": lambda key: b"(" + key + b"Nd",
    "ADDITEMS": lambda key: b"\x8f(" + key + b"\x90",
    "FROZENSET": lambda key: b"(" + key + b"\x91",
    "set": lambda key: b"cbuiltins\nset\n](" + key + b"e\x85R",
    "frozenset": lambda key: b"c__builtin__\nfrozenset\n](" + key + b"e\x85R",
    "OrderedDict": lambda key: b"ccollections\nOrderedDict\n]](" + key + b"Nea\x85R",
    "Counter": lambda key: b"ccollections\nCounter\n}" + key + b"K\x01s\x85R",
}
COSTLY = {
    "2^40 tuples": TUPLES,
    "2^40 tuples in a tuple": b"K\x01" + TUPLES + b"\x86",
    "2^40 frozensets and tuples": doubled(40, b"(\x91", b"(h%ch%c\x85\x91"),
    "a long str": text("x" * (LONGEST_KEY + 1)),
    "long str in a tuple": b"(" + text("x" * 600) * 2 + b"t",
    "many parts": b"(" + b"N" * MOST_PARTS + b"t",
    "a long number": b"\x8b" + struct.pack("<i", 2000) + b"\x01" * 2000,
}


@pytest.mark.parametrize("place", KEYS)
@pytest.mark.parametrize("key", COSTLY)
def test_entries_with_costly_keys_are_left_out_and_the_data_beside_them_are_read(key, place, outcome):
    data = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x02\x85cnumpy\ndtype\n"
    data += text("i1") + b"\x89\x88\x87R\x89C\x02\x01\x02tb"
    read = outcome(b"\x80\x04(" + KEYS[place](COSTLY[key]) + data + b"t.")
    assert len(read[0]) == 0
    assert read[1].tolist() == [1, 2]


@pytest.mark.parametrize("place", KEYS)
def test_plain_keys_are_kept(place, outcome):
    for key in ("word", b"raw", 3, 2.5, True, None, ("video", 1.5, 2.5), ((1, 2), "x"), 2**100):
        assert (
            list(outcome(b"\x80\x04" + KEYS[place](pickle.dumps(key, protocol=4)[2:-1].split(b"\x95")[0]) + b".")) or 1
        )
        inside = pickle.dumps(key, protocol=2)[2:-1]
        assert list(outcome(b"\x80\x04" + KEYS[place](inside) + b".")) == [key]


@pytest.mark.parametrize("key", [b"]", b"}", b"\x8f", b"\x96" + bytes(8)])
def test_what_can_be_no_key_is_damage(key, outcome):
    assert "cannot be read as a pickle (TypeError: a" in outcome(b"\x80\x05}" + key + b"Ns.")


def test_numbers_whose_hashes_collide_are_kept_up_to_some_thousand(outcome):
    """A file can choose numbers so that each is compared with all before it; with text it cannot."""
    numbers = [(k << 61) + k for k in range(1, 5_000)] + [k * (2**61 - 1) for k in range(1, 5_000)]
    content = b"\x80\x02}(" + b"".join(pickle.dumps(k, protocol=2)[2:-1] + b"N" for k in numbers) + b"u."
    assert len(outcome(content)) == MOST_NUMBERS
    words = {f"{k}": k for k in range(3 * MOST_NUMBERS)}
    assert outcome(pickle.dumps(words, protocol=2)) == words


# The same again and again

MANY = 2000
NONES = b"N" * MANY
RAW = b"B" + struct.pack("<I", MANY) + b"a" * MANY
TYPE = b"cnumpy\ndtype\n" + text("i1") + b"\x89\x88\x87R"
AXIS = b"J" + struct.pack("<i", MANY) + b"\x85"
EMPTY_ARRAY = b"cnumpy\nndarray\nK\x00\x85C\x01b\x87"

# what is called or filled, kept at place 0; what with, kept at place 1; and how
AGAIN = {
    "text made bytes": (b"c_codecs\nencode\n", text("a" * MANY) + text("latin1") + b"\x86", b"R"),
    "a set of a list": (b"cbuiltins\nset\n", b"](" + NONES + b"e\x85", b"R"),
    "a frozenset of a list": (b"cbuiltins\nfrozenset\n", b"](" + NONES + b"e\x85", b"R"),
    "a Counter of pairs": (b"ccollections\nCounter\n", b"](" + b"NN\x86" * MANY + b"e\x85", b"R"),
    "arrays of one content": (
        b"cnumpy._core.multiarray\n_reconstruct\n",
        b"(K\x01" + AXIS + TYPE + b"\x89" + RAW + b"t",
        EMPTY_ARRAY + b"Rh\x01b",
    ),
    "a buffer": (b"cnumpy._core.numeric\n_frombuffer\n", b"(" + RAW + TYPE + AXIS + text("C") + b"t", b"R"),
    "a scalar": (
        b"cnumpy._core.multiarray\nscalar\n",
        b"cnumpy\ndtype\n" + text(f"S{MANY}") + b"\x89\x88\x87R" + RAW + b"\x86",
        b"R",
    ),
    "a placeholder called": (b"ctorch\nx\n", b"(" + NONES + b"t", b"R"),
    "the state of a dtype": (TYPE, b"(K\x03" + text("<") + NONES + b"t", b"b"),
}


@pytest.mark.parametrize("what", AGAIN)
def test_the_same_content_used_over_and_over(what, outcome):
    function, arguments, use = AGAIN[what]
    with_what = b"h\x01" if use in (b"R", b"b") else b""
    message = outcome(
        b"\x80\x04(" + function + b"q\x00" + arguments + b"q\x01" + (b"h\x00" + with_what + use) * 1000 + b"l."
    )
    assert "refused, since it works on the same content over and over" in message


def test_a_pickle_of_thousands_of_small_objects_is_no_attack(outcome):
    tree = {"scalars": [np.float64(i) for i in range(1000)], "words": [(f"{i}", i, {i % 7}) for i in range(500)]}
    for protocol in (0, 2, 4):
        assert outcome(pickle.dumps(tree, protocol=protocol))["scalars"] == tree["scalars"]


def test_objects_that_take_more_memory_than_a_file_may(outcome, monkeypatch):
    """A set of nothing takes 216 bytes, and is asked for by one."""
    monkeypatch.setenv("GMD_MAX_GB", "0.05")
    message = outcome(b"\x80\x04(" + b"\x8f" * 2_000_000 + b"l.", memory=100e6)
    assert "data.pkl: its objects would take" in message
    assert "set GMD_MAX_GB=1 in the environment" in message
    monkeypatch.setenv("GMD_MAX_GB", "0.001")
    assert "its content would take 0.002 GB" in outcome(b"N" * 2_000_000 + b".")


# What a message tells, and what numpy would compute

TOLD = {
    "a persistent id": TUPLES + b"Q",
    "a dtype's name": b"cnumpy\ndtype\n" + LISTS + b"\x85R",
    "an array's shape": b"cnumpy._core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n" + text("i1") + b"\x89\x88\x87R"
    + LISTS + text("C") + b"tR",
    "a size in a shape": b"cnumpy._core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n" + text("i1") + b"\x89\x88\x87R"
    + LISTS + b"\x85" + text("C") + b"tR",
    "an array's kind": b"cnumpy._core.multiarray\n_reconstruct\n" + TUPLES + b"K\x00\x85C\x01b\x87R",
    "an encoding": b"c_codecs\nencode\n" + text("a") + TUPLES + b"\x86R",
    "a byte order": b"cnumpy\ndtype\n" + text("i1") + b"\x89\x88\x87R(K\x03" + LISTS + b"NNNtb",
    "an array's dtype": b"cnumpy._core.multiarray\nscalar\n" + TUPLES + b"C\x01a\x86R",
}  # fmt: skip


@pytest.mark.parametrize("what", TOLD)
def test_messages_do_not_write_out_what_holds_itself(what, outcome):
    message = outcome(b"\x80\x04" + TOLD[what] + b".")
    assert "a list" in message or "a tuple" in message


def test_a_shape_whose_product_has_millions_of_digits(outcome):
    number = b"\x8b" + struct.pack("<i", 10_000) + b"\x01" * 10_000
    shape = b"(" + number + b"q\x00" + b"h\x00" * 5000 + b"t"
    new = b"cnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\n" + text("i1") + b"\x89\x88\x87R"
    assert "an array whose shape is a tuple" in outcome(b"\x80\x04" + new + shape + text("C") + b"tR.")
    assert "an axis of a int entries" in outcome(b"\x80\x04" + new + number + b"\x85" + text("C") + b"tR.")


def test_long_names_that_are_asked_for_over_and_over(outcome):
    names = text("m" * 50_000) + b"q\x00" + text("n" * 50_000) + b"q\x01"
    read = outcome(b"\x80\x04(" + names + b"h\x00h\x01\x93" * 3000 + b"l.")
    assert read[-1].asks.startswith("asks for mmm")
    library = b"\x80\x04" + text("os." + "m" * 50_000) + text("n") + b"\x93."
    assert "refused, since it asks for os.mmm" in outcome(library)


@pytest.mark.parametrize("opcodes", [b"K\x01K\x02s", b"(K\x01K\x02u", b"(K\x01\x90"])
def test_entries_of_what_is_no_dictionary(opcodes, outcome):
    """An array would be written to as often as the file says."""
    for target in (b"]N\x85R", b"C\x01a", b"\x96" + struct.pack("<Q", 1) + b"a", b"]K\x00a"):
        assert "cannot be read as a pickle" in outcome(b"\x80\x05" + target + opcodes + b".")


def test_deep_nests_are_read_and_forgotten(outcome):
    assert isinstance(outcome(b"\x80\x02)" + b"\x85" * 50_000 + b"."), tuple)
    assert isinstance(outcome(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."), list)


def test_a_pipe_and_a_folder_are_no_pickles(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a named pipe, expected a file with content" in error_of(read_pickle, tmp_path / "pipe")
    assert "is a folder" in error_of(read_pickle, tmp_path)
