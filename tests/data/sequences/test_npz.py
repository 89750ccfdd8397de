"""Archives of arrays that claim, repeat and hide: what is asked for is read, and no more than it says it is."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from gmd.data.sequences.digits import read_digits
from gmd.data.sequences.npz import check_arrays, open_npz
from gmd.data.sequences.sequence_files import read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import table, write_npz


def npy(array=None, shape=None, descr="<f4", version=(1, 0), content=b"", header=None):
    """A member: an array's bytes, or a header of one's own before any content."""
    file = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(file, array)
        return file.getvalue()
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}) if header is None else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + content


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    """members: name -> bytes, or a list of (name, bytes)"""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items() if isinstance(members, dict) else members:
            file.writestr(name, content)
    return path


def looked_up(path, *keys):
    with open_npz(path) as arrays:
        return [arrays[key] for key in keys]


def peak_of(call, *arguments):
    tracemalloc.start()
    try:
        return call(*arguments), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


THREE = np.arange(3, dtype="<f4")


def test_arrays_come_out_as_they_went_in(tmp_path):
    arrays = {"a": THREE, "b": np.asfortranarray(np.ones((2, 3))), "c": np.array("é"), "d": np.zeros((0, 4), ">i8")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        with open_npz(tmp_path / "a.npz") as found:
            assert list(found) == list(arrays)
            assert len(found) == 4
            for key, value in arrays.items():
                assert found[key].dtype == value.dtype
                assert np.array_equal(found[key], value)
                assert found[key] is found[key]


def test_what_nobody_asks_for_is_not_read(tmp_path):
    """Whatever it is: large, damaged, of objects, no array, of a name that leads elsewhere."""
    bomb = npy(shape=(10**7,), content=bytes(4 * 10**7))
    others = {"bomb.npy": bomb, "../../etc.npy": b"x", "o.npy": npy(np.array([{}], object)), "README": b"x"}
    path = archive(tmp_path / "a.npz", {"a.npy": npy(THREE)} | others)
    [found], peak = peak_of(looked_up, path, "a")
    assert found.tolist() == [0, 1, 2]
    assert peak < 1e6
    assert [item.name for item in tmp_path.iterdir()] == ["a.npz"]
    whole = write_npz(tmp_path / "table.npz", table())
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.npy", bomb)
    assert peak_of(read_sequences, whole)[1] < 2e7


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.npy": npy(shape=(2**40,))}, "a claims to be float32 [1099511627776], of 4398046511104 bytes, and has 0"),
        ({"a.npy": npy(shape=(2**62, 2**62))}, "a claims to be float32"),
        ({"a.npy": npy(shape=(3,), content=bytes(11))}, "of 12 bytes, and has 11; it is damaged"),
        ({"a.npy": npy(shape=(3,), content=bytes(10**6))}, "of 12 bytes, and has 1000000"),
        ({"a.npy": npy(shape=(-1, -1), content=bytes(4))}, "a shape of [-1, -1]"),
        ({"a.npy": npy(shape=(-3,), content=bytes(12))}, "a shape of [-3]"),
        ({"a.npy": npy(shape=(1,), descr="<f4" * 5)}, "cannot be read as a .npz (ValueError: descr is not a valid"),
        ({"a.npy": npy(shape=(1,), descr="<U300000000")}, "of 1200000000 bytes, and has 0"),
        ({"a.npy": npy(header="(" * 9000)}, "cannot be read as a .npz"),
        ({"a.npy": npy(header="-" * 9000 + "1")}, "cannot be read as a .npz"),
        ({"a.npy": npy(header="[" * 300 + "]" * 300)}, "cannot be read as a .npz"),
        ({"a.npy": npy(header="{'shape': (1,)}")}, "cannot be read as a .npz"),
        ({"a.npy": npy(header=" " * 50_000)}, "a header of 50000 letters"),
        ({"a.npy": b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(10**7)}, "a header of 4294967295 letters"),
        ({"a.npy": npy(shape=(1,), version=(3, 0), content=bytes(4))}, "format (3, 0)"),
        ({"a.npy": npy(shape=(1,), version=(9, 9), content=bytes(4))}, "format (9, 9)"),
        ({"a.npy": b""}, "cannot be read as a .npz"),
        ({"a.npy": b"\x93NUMPY\x01\x00"}, "cannot be read as a .npz"),
        (
            {"a.npy": npy(np.array([{}], object))},
            "a holds Python objects, which are never loaded from a file of arrays",
        ),
        ({"a.npy": npy(shape=(1,), descr="|O", content=bytes(8))}, "a holds Python objects, which are never loaded"),
        ({"a.npy": npy(shape=(1,), descr="<U1", content=b"\xff" * 4)}, "<U1 with numbers that are no characters"),
        ({"a.npy": npy(shape=(1,), descr=">U1", content=b"\x00\x00\xd8\x00")}, "with numbers that are no characters"),
        ([("a.npy", npy(THREE)), ("a.npy", npy(THREE))], "a is there twice, expected one array of each name"),
        ({"a": npy(THREE), "b/": b""}, "a is no array; it is an archive, but not one of arrays"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_arrays_that_are_not_what_they_claim(members, message, tmp_path):
    path = archive(tmp_path / "a.npz", members)
    said, peak = peak_of(error_of, looked_up, path, "a")
    assert message in said
    assert peak < 3e6


def test_the_second_format_of_headers_is_read(tmp_path):
    path = archive(tmp_path / "a.npz", {"a.npy": npy(shape=(3,), version=(2, 0), content=THREE.tobytes())})
    assert looked_up(path, "a")[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_unpack_all_at_once(compression, tmp_path):
    path = archive(tmp_path / "a.npz", {"a.npy": npy(shape=(10**6,), content=bytes(4 * 10**6))}, compression)
    said, peak = peak_of(error_of, looked_up, path, "a")
    assert "expected what numpy.savez writes" in said
    assert peak < 3e6


def test_all_that_is_read_of_a_file_is_limited_together(tmp_path, monkeypatch):
    """A file of a few kB, whose arrays each are below the limit."""
    zeros = npy(shape=(250_000,), content=bytes(10**6))
    path = archive(tmp_path / "a.npz", {f"{i}.npy": zeros for i in range(5)})
    assert path.stat().st_size < 2e4
    monkeypatch.setenv("GMD_MAX_GB", "0.0035")
    assert len(looked_up(path, "0", "1", "2")) == 3
    message = error_of(looked_up, path, "0", "1", "2", "0", "3")
    assert "a.npz: 3 and what else is read of it would take 0.004 GB of memory" in message


def lying(path, field, value):
    """Changes a number in the archive's directory, where it says what the first member is."""
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + {"flags": 8, "packed": 20, "size": 24, "offset": 42}[field]
    struct.pack_into("<H" if field == "flags" else "<I", content, place, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 200, "cannot be read as a .npz"),
        ("size", 2**32 - 2, "of 4000000 bytes, and has 4294967"),
        ("packed", 10, "cannot be read as a .npz"),
        ("packed", 2**31, "cannot be read as a .npz"),
        ("offset", 10**6, "cannot be read as a .npz"),
        ("flags", 1, "cannot be read as a .npz (RuntimeError"),
        ("flags", 64, "cannot be read as a .npz (NotImplementedError"),
    ],
)
def test_directories_that_lie(field, value, message, tmp_path):
    path = archive(tmp_path / "a.npz", {"a.npy": npy(np.zeros(10**6, "<f4"))})
    said, peak = peak_of(error_of, looked_up, lying(path, field, value), "a")
    assert message in said
    assert peak < 2e7


def test_an_archive_that_inflates_to_more_than_it_says(tmp_path):
    """The directory and the array agree; what is compressed goes on for 20 MB."""
    path = archive(tmp_path / "a.npz", {"a.npy": npy(shape=(1000,), content=bytes(2 * 10**7))})
    said, peak = peak_of(error_of, looked_up, lying(path, "size", len(npy(shape=(1000,))) + 4000), "a")
    assert "Bad CRC-32" in said
    assert peak < 3e6


def test_no_file_that_never_ends_or_never_begins(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for read in (read_sequences, read_digits):
        assert "is a named pipe, expected a file with content" in error_of(read, tmp_path / "pipe.npz")
        assert "is a folder" in error_of(read, tmp_path)
        assert "/dev/zero: is a device" in error_of(read, "/dev/zero")
        assert "there is no such file" in error_of(read, tmp_path / "none.npz")
        assert "there is no such file" in error_of(read, tmp_path / "pipe.npz" / "a.npz")
        assert "cannot be opened" in error_of(read, tmp_path / ("x" * 300))
        assert "cannot be opened" in error_of(read, f"{tmp_path}/a\0b")
        (tmp_path / "circle").unlink(missing_ok=True)
        (tmp_path / "circle").symlink_to(tmp_path / "circle")
        assert "cannot be opened" in error_of(read, tmp_path / "circle")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write_npz(tmp_path / "a.npz", table())
    path.chmod(0)
    assert "cannot be opened" in error_of(read_sequences, path)


@pytest.mark.parametrize(("descr", "shape"), [("<f4", (4, 0)), ("<f4", (10**12, 0)), ("<U0", (10**12,)), ("<U0", (1,))])
def test_entries_with_nothing_in_them(descr, shape, tmp_path):
    """They take no room, and whoever goes through them never ends."""
    path = archive(tmp_path / "a.npz", {"a.npy": npy(shape=shape, descr=descr)})
    with open_npz(path) as arrays:
        said = error_of(check_arrays, path, arrays, {"a": (descr[1].replace("<", ""), len(shape))}, ())
    assert "with nothing in its entries" in said
