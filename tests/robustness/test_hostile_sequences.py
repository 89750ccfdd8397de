"""Pickles and arrays of sequences from somebody else: data, or a line; in bounded time and memory; nothing executed."""

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from helpers.attacks import SENTIMENT, done, ended_well, huge, refused
from helpers.sequence_cases import mmsa, write_pickle
from helpers.sequence_layouts import csd_folder, mfn_arrays, write_mfn

pytestmark = pytest.mark.slow

MOST = 1_500_000_000
QUICK = 20.0  # seconds, where a second is usual


def zeros_deflated(gigabytes: int) -> tuple[bytes, int, int]:
    """So many GB of zeros as deflate packs them, their checksum and their number."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(2**20))
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(1024 * gigabytes):
        crc = zlib.crc32(bytes(2**20), crc)
    return block * (1024 * gigabytes) + b"\x03\x00", crc, 2**30 * gigabytes


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def with_members(path: Path, members: dict[str, bytes], replace: bool = True) -> None:
    """Puts members into a .npz, in the place of those of the same name or beside them."""
    with zipfile.ZipFile(path) as old:
        kept = {name: old.read(name) for name in old.namelist() if not (replace and name in members)}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in kept.items():
            new.writestr(name, data)
        for name, data in members.items():
            new.writestr(name, data)


def with_bomb(path: Path, name: str, start: bytes) -> None:
    """Puts 2 GB of zeros behind `start` into a .npz as a deflated member, written by hand."""
    with zipfile.ZipFile(path) as old:
        kept = {one: old.read(one) for one in old.namelist() if one != name}
    zeros, _, size = zeros_deflated(2)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + zeros
    crc = zlib.crc32(start)
    for _ in range(2048):
        crc = zlib.crc32(bytes(2**20), crc)
    size += len(start)
    local, central = b"", b""
    members = [(one, content, 0, zlib.crc32(content), len(content)) for one, content in kept.items()]
    for one, content, method, check, long in [*members, (name, data, 8, crc, size)]:
        at, sizes = len(local), (check, len(content), long, len(one), 0)
        local += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, method, 0, 0, *sizes) + one.encode() + content
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, method, 0, 0, *sizes, 0, 0, 0, 0, at)
        central += one.encode()
    count = len(members) + 1
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(central), len(local), 0)
    path.write_bytes(local + central + end)


def edited(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with np.load(path) as arrays:
            found = dict(arrays)
        change(found)
        np.savez(path, **found)

    return edit


def lengths(*first: int, kind: type = np.int64) -> Callable[[Path], None]:
    """Whose sum wraps around to the right total."""

    def change(found: dict[str, np.ndarray]) -> None:
        length = found["text_length"]
        total = int(length.sum())
        new = [int(value) for value in first] + [0] * (len(length) - len(first))
        new[len(first)] = total - sum(first) if kind is not np.int64 else (total - sum(first)) % 2**64 % 2**62
        found["text_length"] = np.array([value % 2**64 for value in new], np.uint64).view(np.int64).astype(kind)

    return edited(change)


def setting(**arrays: object) -> Callable[[Path], None]:
    return edited(lambda found: found.update({name: np.asarray(value) for name, value in arrays.items()}))


def changing(name: str, change: Callable[[np.ndarray], object]) -> Callable[[Path], None]:
    return edited(lambda found: found.update({name: np.asarray(change(found[name]))}))


def written(name: str, at: int, value: object) -> Callable[[Path], None]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(object) if isinstance(value, str) and array.dtype.kind != "U" else array.copy()
        array.flat[at] = value
        return array

    return changing(name, change)


WRONG: dict[str, Callable[[Path], object]] = {
    "lengths that wrap": lengths(2**62, 2**62, 2**62, 2**62),
    "lengths that wrap, by other numbers": lengths(2**63 - 1, 2**63 - 1, 2),
    "lengths below zero": lengths(-5, 5),
    "lengths beyond the rows": changing("text_length", lambda length: length + 1),
    "lengths without a sign": changing("text_length", lambda length: length.astype(np.uint64) + np.uint64(2**63)),
    "lengths of real numbers": changing("text_length", lambda length: length + 0.5),
    "lengths of NaN": changing("text_length", lambda length: length * np.nan),
    "lengths of text": changing("text_length", lambda length: length.astype(str)),
    "lengths in a table": changing("text_length", lambda length: length[:, None]),
    "a split of nobody": written("split", 0, "nobody"),
    "a name twice": changing("name", lambda names: np.repeat(names[:1], len(names))),
    "targets of NaN": written("target", 0, np.nan),
    "targets of infinity": written("target", 0, np.inf),
    "targets beyond the scale": written("target", 0, 1e30),
    "features of NaN": changing("text", lambda values: values * np.nan),
    "features beyond single precision": changing("text", lambda values: values.astype(np.float64) * 1e300),
    "no features": changing("text", lambda values: values[:, :0]),
    "no samples": changing("name", lambda names: names[:0]),
    "objects": setting(text=np.array([{}], object)),
    "modalities that lead out": setting(modalities=["../x", "audio", "vision"]),
    "modalities of reserved names": setting(modalities=["name", "split", "target"]),
    "modalities with a separator": setting(modalities=["text+audio", "audio", "vision"]),
    "a version of text": setting(version="one"),
    "a version of 10^18": setting(version=10**18),
    "a claim of 2^40 rows": lambda path: with_members(path, {"text.npy": npy_header((2**40, 16))}),
    "a claim of 20 GB": lambda path: with_members(path, {"text.npy": npy_header((5 * 10**8, 10))}),
    "a negative shape": lambda path: with_members(path, {"text.npy": npy_header((-1, 16))}),
    "a shape that wraps": lambda path: with_members(path, {"text.npy": npy_header((2**62, 2**62))}),
    "code for a type": lambda path: with_members(path, {"text.npy": npy_header((1,), "__import__('os').system('x')")}),
    "a header of 2 GB": lambda path: with_members(path, {"text.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)}),
    "a deep header": lambda path: with_members(
        path, {"text.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"(" * 9000}
    ),
    "a bomb for features": lambda path: with_bomb(path, "text.npy", npy_header((600, 16))),
    "a bomb for names": lambda path: with_bomb(path, "name.npy", npy_header((60,), "<U9")),
    "a bomb of names": lambda path: with_bomb(path, "name.npy", npy_header((60,), "<U8900000")),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "no arrays": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a circle": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "huge": lambda path: os.truncate(path, 2**34),
}


@pytest.mark.parametrize("attack", WRONG.values(), ids=WRONG)
def test_a_file_of_sequences_that_is_none(gmd, copied, tmp_path, attack):
    path = copied("sequences.npz")
    attack(path)
    run = tmp_path / "run"
    for words in (
        ("train", "sentiment", "--data", path, "--out", run, *SENTIMENT),
        ("convert", path, tmp_path / "out.npz"),
    ):
        outcome = refused(gmd(*words, seconds=QUICK), "sequences.npz")
        assert outcome.peak < MOST, outcome.peak
    assert not run.exists()
    assert not (tmp_path / "out.npz").exists()


HARMLESS: dict[str, Callable[[Path], object]] = {
    "2 GB that nobody asks for": lambda path: with_bomb(path, "spare.npy", npy_header((2**29,))),
    "objects that nobody asks for": setting(spare=np.array([{}], object)),
    "a path for a name": lambda path: with_members(path, {"../../spare.npy": npy_header((0,))}),
    "no array": lambda path: with_members(path, {"README": b"about"}),
}


@pytest.mark.parametrize("attack", HARMLESS.values(), ids=HARMLESS)
def test_what_nobody_asks_for_is_not_read(gmd, copied, tmp_path, attack):
    path = copied("sequences.npz")
    attack(path)
    outcome = done(gmd("train", "sentiment", "--data", path, "--out", tmp_path / "run", *SENTIMENT, seconds=QUICK))
    assert outcome.peak < MOST, outcome.peak
    assert not (tmp_path.parent / "spare.npy").exists()


# Pickles


def u64(opcode: bytes, size: int) -> bytes:
    return b"\x80\x04" + opcode + struct.pack("<Q", size) + b"abc."


def nested(last: bytes) -> bytes:
    """40 tuples (x, x), each of the one before, which has 2^40 ends; `last` does something with it."""
    return b"\x80\x04)\x94" + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(40)) + last


def lists(depth: int) -> bytes:
    return b"\x80\x04]\x94" + b"".join(b"](h%ch%ce\x94" % (i, i) for i in range(depth)) + b"."


CODE = {
    "REDUCE": b"cos\nsystem\n(S'touch /tmp/gmd-owned'\ntR.",
    "INST": b"(S'touch /tmp/gmd-owned'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch /tmp/gmd-owned'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85\x81.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "dots": b"\x80\x04\x8c\x04gmd.\x8c\x13files.os.system     \x93\x8c\x04true\x85R.",
    "builtins": b"c__builtin__\neval\n(S'1'\ntR.",
    "BUILD": b"\x80\x02cbuiltins\nobject\n)\x81}X\x09\x00\x00\x00__class__cos\nsystem\nsb.",
    "numpy": b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x001}\x86R.",
}
COSTLY = {
    "a key of 2^40 ends": nested(b"}h(Ns."),
    "a key of 2^40 ends, among others": nested(b"}(h(NK\x01Nu."),
    "a key of 2^40 ends, DICT": nested(b"(h(Nd."),
    "a set of 2^40 ends": nested(b"\x8f(h(\x90."),
    "a frozen set of 2^40 ends": nested(b"(h(\x91."),
    "an ordered dictionary": nested(b"ccollections\nOrderedDict\n]h(N\x86a\x85R."),
    "a counter": nested(b"ccollections\nCounter\n]h(a\x85R."),
    "a set that is called for": nested(b"cbuiltins\nset\n]h(a\x85R."),
    "2^40 ends": nested(b"."),
    "lists of 2^60 ends": lists(60),
    "a bytearray of 6 GB": u64(b"\x96", 6 * 2**30),
    "bytes of 6 GB": u64(b"\x8e", 6 * 2**30),
    "text of 6 GB": u64(b"\x8d", 6 * 2**30),
    "a frame of 2^60": u64(b"\x95", 2**60),
    "bytes of 4 GB": b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"abc.",
    "text of 4 GB": b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"abc.",
    "a string of 2 GB": b"T" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "a number of 2 GB": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "a number of 10^7 digits": b"I" + b"9" * 10**7 + b"\n.",
    "a long of 10^7 digits": b"L" + b"9" * 10**7 + b"L\n.",
    "a memo of 2^32": b"\x80\x02N" + b"r" + b"\xff\xff\xff\xff" + b".",
    "a hundred memos": b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - i) for i in range(100)) + b".",
    "a depth of 300 000": b"\x80\x02" + b"(" * 300_000 + b"t" * 300_000 + b".",
    "a bytearray through a call": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x80\x01\x85R.",
    "an array of 2^40": b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85\x85R.",
}


@pytest.mark.parametrize("content", CODE.values(), ids=CODE)
def test_a_pickle_that_asks_for_code(gmd, tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    refused(gmd("convert", tmp_path / "x.pkl", tmp_path / "x.npz", seconds=QUICK), "x.pkl")
    assert not Path("/tmp/gmd-owned").exists()
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("content", COSTLY.values(), ids=COSTLY)
def test_a_pickle_of_little_size_costs_little(gmd, tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    outcome = refused(gmd("convert", tmp_path / "x.pkl", tmp_path / "x.npz", seconds=QUICK), "x.pkl")
    assert outcome.peak < MOST, outcome.peak
    assert len(outcome.err) < 5000


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "empty", "circle", "huge"])
def test_a_pickle_that_is_no_file(gmd, tmp_path, kind):
    path = tmp_path / "x.pkl"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": lambda: path.mkdir(),
        "empty": lambda: path.write_bytes(b""),
        "circle": lambda: path.symlink_to(path.name),
        "huge": lambda: huge(path),
    }[kind]()
    outcome = refused(gmd("convert", path, tmp_path / "x.npz", seconds=QUICK), "x.pkl")
    assert outcome.peak < MOST
    refused(gmd("train", "sentiment", "--data", path, "--out", tmp_path / "run", *SENTIMENT, seconds=QUICK), "x.pkl")
    refused(gmd("train", "digits", "--data", path, "--out", tmp_path / "run", seconds=QUICK), "x.pkl")


class OfAnotherPackage:
    """A class that the reader must not import, though here it could."""


@pytest.mark.parametrize(
    "odd",
    [OfAnotherPackage(), {("a", ("b", 1)): 2}, {1, 2.5, None}, float("nan"), "\x1b[2J", 10**400, {b"x": [None] * 9}],
)
def test_entries_that_nobody_reads_disturb_nothing(gmd, tmp_path, odd):
    content, _ = mmsa()
    content["about"] = odd
    for split in content.values():
        if isinstance(split, dict) and "text" in split:
            split["odd"] = odd
    write_pickle(tmp_path / "x.pkl", content)
    done(gmd("convert", tmp_path / "x.pkl", tmp_path / "x.npz"))
    plain, _ = mmsa()
    write_pickle(tmp_path / "plain.pkl", plain)
    done(gmd("convert", tmp_path / "plain.pkl", tmp_path / "plain.npz"))
    with np.load(tmp_path / "x.npz") as one, np.load(tmp_path / "plain.npz") as other:
        for name in other:
            if name != "notes":
                assert np.array_equal(one[name], other[name]), name


@pytest.mark.parametrize("protocol", range(6))
def test_real_data_that_were_cut_or_flipped_are_data_or_a_line(gmd, tmp_path, protocol):
    content, _ = mmsa()
    whole = pickle.dumps(content, protocol=protocol)
    draw = np.random.default_rng(protocol)
    for _ in range(4):
        damaged = bytearray(whole[: int(draw.integers(1, len(whole)))] if draw.random() < 0.3 else whole)
        for at in draw.integers(0, min(len(damaged), 4000), 3):
            damaged[at] = int(draw.integers(256))
        (tmp_path / "x.pkl").write_bytes(bytes(damaged))
        (tmp_path / "x.npz").unlink(missing_ok=True)
        outcome = ended_well(gmd("convert", tmp_path / "x.pkl", tmp_path / "x.npz", seconds=QUICK))
        assert outcome.status in (0, 2)
        assert outcome.peak < MOST


# HDF5, tensors, tables, folders


def hdf5_with(put: Callable[[h5py.File], object]) -> Callable[[Path], Path]:
    """A folder of MFN, of whose training data `put` makes something else."""

    def write(place: Path) -> Path:
        with h5py.File(place / "other.h5", "w") as file:
            file["data"] = np.ones((5, 7, 325))
        folder = write_mfn(place / "mfn", mfn_arrays())
        with h5py.File(folder / "X_train.h5", "w") as file:
            put(file)
        return folder

    return write


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((5, 7, 325), "f8")
    layout[:] = h5py.VirtualSource("../other.h5", "data", (5, 7, 325))
    file.create_virtual_dataset("data", layout)


def tensors(place: Path) -> Path:
    class Owned:
        def __reduce__(self) -> tuple:
            return os.system, ("touch /tmp/gmd-owned",)

    torch.save({"train": Owned(), "valid": {}, "test": {}}, place / "x.pt")
    return place / "x.pt"


def expanded(place: Path) -> Path:
    part = {"text": torch.ones(1).expand(10**4, 10**4, 300), "labels": torch.zeros(10**4)}
    torch.save({"train": part, "valid": part, "test": part}, place / "x.pt")
    return place / "x.pt"


def table_of(text: str) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        (place / "x.csv").write_text(text)
        return place / "x.csv"

    return write


def with_pipe(place: Path) -> Path:
    folder = csd_folder(place / "csd")
    (folder / "CMU_MOSI_COVAREP.csd").unlink()
    os.mkfifo(folder / "CMU_MOSI_COVAREP.csd")
    return folder


OTHER: dict[str, Callable[[Path], Path]] = {
    "a link to another file": hdf5_with(lambda file: file.update({"data": h5py.ExternalLink("../other.h5", "/data")})),
    "a soft link": hdf5_with(lambda file: file.update({"data": h5py.SoftLink("/elsewhere")})),
    "a virtual data set": hdf5_with(virtual),
    "numbers in another file": hdf5_with(
        lambda file: file.create_dataset("data", (5, 7, 325), "f4", external=[("/etc/passwd", 0, 45500)])
    ),
    "objects": hdf5_with(lambda file: file.create_dataset("data", data=["a"], dtype=h5py.string_dtype())),
    "a claim of terabytes": hdf5_with(
        lambda file: file.create_dataset("data", (2**40, 7, 325), "f4", chunks=(1, 7, 325), compression="gzip")
    ),
    "tensors with code": tensors,
    "tensors that stand for terabytes": expanded,
    "a column of 10^6": table_of("id,split,score,x_0,x_999999\na,train,1,1,1\n"),
    "a cell without an end": table_of('id,split,score,x_0\na,train,1,"' + "1" * 10**6),
    "another encoding": lambda place: (
        (place / "x.csv").write_bytes("id,split\n".encode("utf-16")),
        place / "x.csv",
    )[1],
    "a pipe among the files": with_pipe,
    "a folder of nothing": lambda place: (place / "nothing").mkdir() or place / "nothing",
}


@pytest.mark.parametrize("write", OTHER.values(), ids=OTHER)
def test_other_files_from_somebody_else(gmd, tmp_path, write):
    path = write(tmp_path)
    outcome = refused(gmd("convert", path, tmp_path / "out.npz", seconds=QUICK), path.name)
    assert outcome.peak < MOST, outcome.peak
    words = ("train", "sequences", "--data", path, "--out", tmp_path / "run", *SENTIMENT)
    refused(gmd(*words, seconds=QUICK), path.name)
    assert not Path("/tmp/gmd-owned").exists()
    assert not (tmp_path / "out.npz").exists()
    assert not (tmp_path / "run").exists()
