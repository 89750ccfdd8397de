"""Manifests and their files from somebody else: nothing outside is read, nothing executed, in bounded memory."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers.attacks import done, huge, refused
from helpers.manifest_cases import Mark, all_kinds, write_table

pytestmark = pytest.mark.slow

SMALL = "--image-size 32 --rate 8000 --seconds 0.2 --mels 8 --width 16 --layers 1 --heads 2 --batch 4 --epochs 1"
OPTIONS = [*SMALL.split(), "--pictures", "strip-mlp:32:1-1-1-1", "--method", "joint", "--device", "cpu"]
MOST = 1_500_000_000


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims so many pixels, and has some bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def pickled(path: Path) -> None:
    np.save(path, np.array([Mark(path.with_name("executed"))], object))


def archived(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("picture.png", png_of(1, 1))


def claiming(path: Path) -> None:
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64))


ATTACKS: dict[str, tuple[str, str, Callable[[Path], object], str]] = {
    "a bomb": ("image:face", "x.png", lambda path: path.write_bytes(png_of(60_000, 60_000)), "decompression bomb"),
    "a picture that claims 2^31 pixels a side": (
        "image:face",
        "x.png",
        lambda path: path.write_bytes(png_of(2**31 - 1, 2**31 - 1)),
        "cannot be read as a picture",
    ),
    "a huge picture": ("image:face", "x.png", huge, "zeros"),
    "an archive": ("image:face", "x.png", archived, "it is a zip archive"),
    "a pipe of sound": ("audio:voice", "x.wav", os.mkfifo, "is a named pipe"),
    "huge sound": ("audio:voice", "x.wav", huge, "zeros"),
    "a rate of sound": ("audio:voice", "x.wav", lambda path: soundfile.write(path, np.zeros(9), 3), "3 samples per"),
    "a pickle": ("features:given", "x.npy", pickled, "Python objects, which are never loaded"),
    "terabytes": ("features:given", "x.npy", claiming, "claims to be float32"),
    "a huge text": ("text:words", "x.txt", huge, "far more than such a file has"),
    "tokens of objects": ("text:words", "x.npy", pickled, "Python objects, which are never loaded"),
}


def prepared(folder: Path, column: str, text: str) -> Path:
    rows = all_kinds(folder)
    rows[2][column] = text
    return write_table(folder / "m.csv", rows)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_file_is_refused_or_skipped(gmd, tmp_path, name):
    column, file, make, sentence = ATTACKS[name]
    path = prepared(tmp_path, column, file)
    make(tmp_path / file)
    words = ("train", "classify", "--data", path, "--out", tmp_path / "run", *OPTIONS)
    outcome = refused(gmd(*words), f"m.csv: line 4, {column}: {tmp_path / file}", sentence)
    assert outcome.peak < MOST
    assert not (tmp_path / "run").exists()
    skipped = done(gmd(*words, "--unreadable", "skip"))
    assert skipped.peak < MOST
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["../secret.png", "/etc/passwd", "link/secret.png", "a.zip", "a.pkl"])
def test_a_path_that_may_not_be_is_refused_whatever_is_asked(gmd, tmp_path, text):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    path = prepared(folder, "image:face", text)
    words = ("train", "classify", "--data", path, "--out", tmp_path / "run", *OPTIONS, "--unreadable", "skip")
    refused(gmd(*words), f"m.csv: line 4, image:face: {text}")
    assert not (tmp_path / "run").exists()
