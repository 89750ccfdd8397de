"""Files are told by their first bytes, whatever they are called, and the advice follows from these."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors
from scipy.io import savemat

from gmd.config.file import read_yaml
from gmd.data.file_kind import changed_as_text, is_gzip, kind_of, other_kind, unreadable
from gmd.data.segmentation.nifti import read_volume
from gmd.data.sequences.sequence_files import read_sequences
from gmd.training.checkpoint import load_checkpoint
from gmd.training.saved_run import read_splits
from helpers.nifti_cases import error_of, random_image, save


def written(write):
    """What a function writes into a file that is open."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def archive(*names):
    def write(file):
        with zipfile.ZipFile(file, "w") as opened:
            for name in names:
                opened.writestr(name, b"content")

    return written(write)


def tar(file):
    with tarfile.open(fileobj=file, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("case/t1.nii"))


HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
NIFTI = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_bytes()
PAGE = b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"
KIND_OF_PAGE = "a web page (HTML), perhaps of a login or of a download that asks for a confirmation"
KINDS = {
    "empty": (b"", "empty"),
    "zeros": (bytes(1000), "nothing but zeros, as a download that broke off leaves it"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "a pointer of git-lfs"),
    "git-annex": (b"/annex/objects/MD5E-s12--9e1.nii.gz\n", "a pointer of git-annex"),
    "a page": (PAGE, KIND_OF_PAGE),
    "a page with a byte order mark": (b"\xef\xbb\xbf<HTML>\r\n", KIND_OF_PAGE),
    "an error of a cloud": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML file"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "dicom": (bytes(128) + b"DICM" + bytes(50), "a DICOM file"),
    "nrrd": (b"NRRD0004\ntype: float\n", "a NRRD image"),
    "mha": (b"ObjectType = Image\nNDims = 3\nBinaryData = True\n\x00\x01\xff", "a MetaImage (.mha, .mhd)"),
    "mat": (written(lambda file: savemat(file, {"a": np.zeros(3)})), "a Matlab file (.mat)"),
    "mat 7.3": (b"MATLAB 7.3 MAT-file".ljust(512) + HDF5, "a Matlab file (.mat, HDF5)"),
    "hdf5": (HDF5, "an HDF5 file"),
    "hdf5 behind a block": (b"\x01" * 512 + HDF5, "an HDF5 file"),
    "minc": (HDF5 + b"minc-2.0", "a MINC image (HDF5)"),
    "minc 1": (b"CDF\x01" + bytes(40), "a MINC or NetCDF file"),
    "npy": (written(lambda file: np.save(file, np.zeros(3))), "a single array of numpy (.npy)"),
    "npz": (written(lambda file: np.savez(file, a=np.zeros(3))), "a .npz of arrays"),
    "torch": (written(lambda file: torch.save({"a": torch.ones(1)}, file)), "what torch.save writes"),
    "safetensors": (safetensors({"a": torch.ones(2)}), "weights in safetensors"),
    "zip": (archive("a/t1.nii.gz"), "a zip archive (a/t1.nii.gz)"),
    "zip of odd names": (archive("a\x1b[2J"), r"a zip archive (a\x1b[2J)"),
    "an empty zip": (archive(), "a zip archive (with nothing in it)"),
    "tar": (written(tar), "a tar archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(9), "a 7-Zip archive"),
    "bzip2": (b"BZh91AY&SY", "compressed by bzip2"),
    "gzip": (gzip.compress(b"\x01\x02\x03"), "compressed by gzip"),
    "gzip of nifti": (gzip.compress(NIFTI), "compressed by gzip"),
    "gzip of a page": (gzip.compress(PAGE), f"compressed by gzip, and {KIND_OF_PAGE} inside"),
    "gzip of a pickle": (gzip.compress(pickle.dumps({"a": 1})), "compressed by gzip, and a pickle inside"),
    "nifti": (NIFTI, "a NIfTI image"),
    "json": (json.dumps({"train": []}).encode(), "JSON"),
    "csv": (b"video,utt,label\na,1,2\n", "a table of text (CSV)"),
    "text": ("größe: 3".encode(), "text, beginning with 'größe: 3'"),
    "noise": (bytes(range(1, 200)), None),
    **{f"pickle {p}": (pickle.dumps({"train": np.ones(3)}, protocol=p), "a pickle") for p in range(6)},
    "pickle of a list": (pickle.dumps([1, 2], protocol=0), "a pickle"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name, tmp_path):
    content, kind = KINDS[name]
    path = tmp_path / "called.nii.gz"
    path.write_bytes(content)
    assert kind_of(path) == kind
    assert is_gzip(path) == name.startswith("gzip")


def test_a_computational_sequence_is_told_by_its_name_too(tmp_path):
    path = tmp_path / "CMU_MOSI_COVAREP.csd"
    path.write_bytes(HDF5)
    assert kind_of(path) == "a computational sequence of CMU's MultimodalSDK (.csd, HDF5)"
    assert f"{path}: cannot be read as an HDF5 file" in error_of(read_sequences, path)


EXPLAINED = [
    name for name in KINDS if not name.startswith(("nifti", "gzip", "noise", "pickle", "npz", "zip", "an empty"))
]


@pytest.mark.parametrize("name", EXPLAINED)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_images_that_are_something_else(name, ending, tmp_path):
    content, kind = KINDS[name]
    path = tmp_path / f"t1{ending}"
    path.write_bytes(content)
    message = error_of(read_volume, path)
    assert message.startswith(f"{path}: cannot be read: it is {kind}, not a NIfTI image; ")
    assert ("download it anew" in message) == (name in ("empty", "zeros"))


@pytest.mark.parametrize("name", [name for name in [*EXPLAINED, "gzip of a page", "nifti", "zip"] if name != "npz"])
def test_sequences_that_are_something_else(name, tmp_path):
    content, kind = KINDS[name]
    path = tmp_path / "mosi.pkl"
    path.write_bytes(content)
    message = error_of(read_sequences, path)
    if name not in ("torch", "zip", "hdf5", "hdf5 behind a block", "csv"):  # which are read, in some layouts
        assert message.startswith(f"{path}: cannot be read: it is {kind}, not a pickle; ")


@pytest.mark.parametrize("name", ["git-lfs", "a page", "safetensors", "hdf5"])
def test_checkpoints_and_texts_that_are_something_else(name, tmp_path):
    content, kind = KINDS[name]
    for file, read, path in (
        ("last.pt", load_checkpoint, tmp_path / "last.pt"),
        ("config.yaml", read_yaml, tmp_path / "config.yaml"),
        ("splits.json", read_splits, tmp_path),
    ):
        (tmp_path / file).write_bytes(content)
        if (name, file) != ("git-lfs", "config.yaml"):  # which is YAML
            assert f"; it is {kind}" in error_of(read, path)


@pytest.mark.parametrize("made", [".nii", ".nii.gz"])
@pytest.mark.parametrize("called", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_an_image_is_read_whether_it_is_called_compressed_or_not(made, called, kind, tmp_path):
    nibabel.save(kind(random_image().astype(np.float32), np.eye(4)), tmp_path / f"made{made}")
    path = tmp_path / called
    (tmp_path / f"made{made}").rename(path)
    assert np.array_equal(read_volume(path).data, random_image())
    path.write_bytes(path.read_bytes()[:-1])
    assert "cut off or damaged: copy or download it anew" in error_of(read_volume, path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_an_image_that_was_changed_as_text(ending, tmp_path):
    path = save(tmp_path / f"t1{ending}", np.random.default_rng(0).standard_normal((12, 12, 12)).astype(np.float32))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    if ending == ".nii.gz":
        assert "line ends were converted (Windows, git autocrlf, FTP in text mode)" in error_of(read_volume, path)
    assert changed_as_text(path).endswith("get the file in binary mode")
    path.write_bytes(content.decode("utf-8", "replace").encode())
    assert changed_as_text(path).startswith("it was saved as text")


def test_what_a_reader_reads_explains_no_error(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([1]))
    message = unreadable(path, "a pickle", EOFError("a\r\x1b[2J" + "x" * 999), own=("a pickle",))
    assert message.startswith(rf"{path}: cannot be read as a pickle (EOFError: a\r\x1b[2Jxxx")
    assert message.endswith("it may be cut off or damaged: copy or download it anew")
    assert len(message) < len(str(path)) + 400


def test_a_file_that_cannot_be_read_at_all(tmp_path):
    """Its reader's error says why; nothing else is known of it."""
    for path, error in ((tmp_path / "none", FileNotFoundError("gone")), (tmp_path, IsADirectoryError("a folder"))):
        message = unreadable(path, "a pickle", error)
        assert message == f"{path}: cannot be read as a pickle ({type(error).__name__}: {error})"


def test_no_look_at_a_pipe_or_a_device(tmp_path):
    """Whoever opened a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "a.nii")
    for path in (tmp_path / "a.nii", Path("/dev/zero")):
        for look in (kind_of, is_gzip, changed_as_text):
            assert "expected a file with content" in error_of(look, path)
        assert other_kind(path) == ""
        assert (
            unreadable(path, "a pickle", ValueError("why")) == f"{path}: cannot be read as a pickle (ValueError: why)"
        )
