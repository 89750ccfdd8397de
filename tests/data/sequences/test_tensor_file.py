"""Tensors that torch.save wrote: the same data as arrays, and nothing that is executed or out of proportion."""

import os
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch

from gmd.data.sequences.sequence_files import read_sequences
from gmd.errors import UserError
from helpers.nifti_cases import error_of
from helpers.sequence_cases import assert_same, mmsa, mult, write_pickle


def as_tensors(content):
    kinds = (np.ndarray,)
    return {
        split: {
            key: torch.from_numpy(value) if isinstance(value, kinds) and value.dtype.kind in "biuf" else value
            for key, value in part.items()
            if not (isinstance(value, kinds) and value.dtype.kind not in "biuf")
        }
        for split, part in content.items()
    }


@pytest.mark.parametrize("make", [mmsa, mult])
def test_tensors_are_read_as_arrays(make, tmp_path):
    content = as_tensors(make(ids=False)[0] if make is mult else make()[0])
    torch.save(content, tmp_path / "data.pt")
    expected = read_sequences(write_pickle(tmp_path / "data.pkl", make(ids=False)[0] if make is mult else make()[0]))
    assert_same(read_sequences(tmp_path / "data.pt"), expected)


def test_half_precision_and_lists_of_tensors(tmp_path):
    content = as_tensors(mmsa()[0])
    for part in content.values():
        part["text"] = part["text"].bfloat16()
        part["audio"] = list(part["audio"])
        part["regression_labels"] = part["regression_labels"].half()
    torch.save(content, tmp_path / "data.pt")
    data = read_sequences(tmp_path / "data.pt")
    assert torch.equal(data.splits["train"][0].values["audio"], content["train"]["audio"][0][: len_of(data)])


def len_of(data):
    return len(data.splits["train"][0].values["audio"])


class Touch:
    """What pickle would execute."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(tmp_path, name):
    """Writes a file that has to be refused; returns it and what has to be said of it."""
    path, content = tmp_path / "data.pt", as_tensors(mmsa()[0])
    train = content["train"]
    if name == "code":
        torch.save(content | {"other": Touch(tmp_path / "owned")}, path)
        return path, "holds code, or objects that only code can make; refused, and nothing was executed"
    if name == "a network":
        torch.save(torch.nn.Linear(2, 2), path)
        return path, "holds code, or objects"
    if name == "a program":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
        return path, "holds code, a program of TorchScript"
    if name == "sparse":
        train["text"] = train["text"].to_sparse()
    if name == "complex":
        train["text"] = train["text"].to(torch.complex64)
    if name == "quantized":
        train["text"] = torch.quantize_per_tensor(train["text"], 0.1, 0, torch.qint8)
    if name in ("sparse", "complex", "quantized"):
        torch.save(content, path)
        return path, "is no array of plain numbers"
    if name == "out of nothing":
        train["text"] = torch.ones(1).expand(5, 10**6, 10**3)
        torch.save(content, path)
        return path, "stands for more numbers than the file holds"
    if name == "deep":
        inner = [torch.ones(1)]
        for _ in range(20):
            inner = [inner]
        torch.save(content | {"deep": inner}, path)
        return path, "lists in lists, more than 8 deep"
    if name == "no splits":
        torch.save(torch.ones(3), path)
        return path, "holds a ndarray, expected a dictionary with the dictionaries train"
    torch.save(content, path)
    if name == "packed":
        with zipfile.ZipFile(path) as old:
            entries = {entry: old.read(entry) for entry in old.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for entry, data in entries.items():
                new.writestr(entry, data)
        return path, "its entries are compressed or overlap"
    path.write_bytes(path.read_bytes()[:-3000])
    return path, "cannot be read"


REFUSED = ["code", "a network", "a program", "sparse", "complex", "quantized", "out of nothing", "deep", "no splits"]


@pytest.mark.filterwarnings("ignore")  # of torch, on quantized tensors and TorchScript
@pytest.mark.parametrize("name", [*REFUSED, "packed", "cut off"])
def test_what_is_refused(name, tmp_path):
    path, message = saved(tmp_path, name)
    assert message in error_of(read_sequences, path)
    assert not (tmp_path / "owned").exists()


def test_flipped_bits_are_an_error_or_harmless(tmp_path):
    torch.save(as_tensors(mmsa()[0]), tmp_path / "a.pt")
    content, draw = (tmp_path / "a.pt").read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in draw.integers(0, len(content), 3):
            damaged[at] ^= 1 << int(draw.integers(8))
        (tmp_path / "b.pt").write_bytes(damaged)
        with suppress(UserError):
            read_sequences(tmp_path / "b.pt")
