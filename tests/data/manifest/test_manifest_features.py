"""Features in files of numpy: vectors and sequences, rows of larger arrays, and what is refused."""

import numpy as np
import pytest
import torch

from gmd.data.manifest import arrays
from gmd.data.manifest.cells import Cell, Table, Unreadable
from gmd.data.manifest.features import check_array, load_features
from gmd.data.manifest.read import read_manifest
from gmd.errors import UserError
from helpers.manifest_cases import SMALL, all_kinds, only, write_table

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def cell(folder, text):
    return Cell(Table(folder / "m.csv", folder), 2, "features:x", text)


def load(folder, text, longest=100):
    check_array(cell(folder, text))
    return load_features(cell(folder, text), longest)[0]


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "three.npy", VALUES)
    np.save(tmp_path / "columns.npy", np.asfortranarray(VALUES))
    np.save(tmp_path / "vector.npy", VALUES[0, 0].astype(np.float64))
    np.save(tmp_path / "numbers.npy", VALUES[0].astype(">i2"))
    np.savez(tmp_path / "one.npz", only=VALUES[0])
    np.savez_compressed(tmp_path / "several.npz", a=VALUES, **{"b c": VALUES[1]})
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("three.npy[1]", VALUES[1]),
        ("columns.npy[1]", VALUES[1]),
        ("vector.npy", VALUES[0, :1]),
        ("numbers.npy", VALUES[0]),
        ("numbers.npy[2]", VALUES[0, 2:]),
        ("one.npz", VALUES[0]),
        ("one.npz[1]", VALUES[0, 1:2]),
        ("several.npz#a[0]", VALUES[0]),
        ("several.npz#b c", VALUES[1]),
        ("several.npz#b c[2]", VALUES[1, 2:]),
    ],
)
def test_what_a_cell_may_name(folder, text, expected):
    found = load(folder, text)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(expected.copy()))
    assert check_array(cell(folder, text))[1:] == expected.shape


def test_the_first_steps_are_kept(folder):
    assert torch.equal(load(folder, "three.npy[0]", 2), torch.from_numpy(VALUES[0, :2]))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("three.npy", r"the array is \[2, 3, 4\], expected \[F\] or \[L, F\]"),
        ("three.npy[2]", r"is \[2, 3, 4\], and has no row 2"),
        ("vector.npy[0]", r"the row is \[\], expected"),
        ("several.npz", r"has 2 arrays, expected several.npz#NAME; there is a, b c"),
        ("several.npz#d", "has no array d; there is a, b c"),
        ("vector.npy#a", "is a single array; expected a .npz before #a"),
        ("gone.npz#a", "there is no such file; expected an array"),
        ("text.npy", r"holds <U1; expected an array of numbers"),
        ("empty.npy", r"the array is \[0, 4\], expected"),
        ("wide.npy", "has 2097152 features, expected at most 1048576"),
    ],
)
def test_what_cannot_be_read_is_refused(folder, text, sentence):
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "empty.npy", np.zeros((0, 4)))
    np.save(folder / "wide.npy", np.zeros(2**21, np.int8))
    with pytest.raises(Unreadable, match=f"line 2, features:x: .*{sentence}"):
        check_array(cell(folder, text))


@pytest.mark.parametrize("text", ["x", "x.csv", "x.npy[-1]", "x.npz[a]", "x.npy[1][2]", "x.h5#a"])
def test_other_cells_are_refused(folder, text):
    with pytest.raises(UserError, match=r"expected a file of numpy: FILE.npy, FILE.npz#NAME, or a row of one"):
        check_array(cell(folder, text))


@pytest.mark.parametrize("name", ["three.npy", "one.npz"])
def test_files_that_are_cut_off(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Unreadable, match=f"line 2, features:x: .*{name}: "):
        check_array(cell(folder, f"{name}[0]"))


def test_a_header_that_claims_terabytes(folder):
    content = (folder / "three.npy").read_bytes()
    (folder / "three.npy").write_bytes(
        content.replace(b"(2, 3, 4), }" + b" " * 20, b"(2, 3, 4000000000000), }" + b" " * 8)
    )
    with pytest.raises(Unreadable, match="claims to be float32"):
        check_array(cell(folder, "three.npy[0]"))


def test_what_is_not_finite_is_replaced_and_counted(folder):
    np.save(folder / "bad.npy", np.array([np.nan, 1, -np.inf, 1e30, 2]))
    values, replaced = load_features(cell(folder, "bad.npy"), 10)
    assert values.tolist() == [[0, 1, 0, 0, 2]]
    assert replaced == 3


def test_of_archives_little_is_kept_in_memory(folder, monkeypatch):
    monkeypatch.setattr(arrays, "KEPT", VALUES.nbytes)
    arrays._kept.clear()
    for _ in range(2):
        load(folder, "several.npz#a[0]")
        load(folder, "several.npz#b c[0]")
    assert sum(array.nbytes for array in arrays._kept.values()) <= VALUES.nbytes
    assert len(arrays._kept) == 1


def test_a_file_that_changes_is_read_anew(folder):
    load(folder, "one.npz")
    np.savez(folder / "one.npz", only=2 * VALUES[:, 0])
    assert torch.equal(load(folder, "one.npz"), torch.from_numpy(2 * VALUES[:, 0]))


def test_another_number_of_features_is_refused_or_skipped(folder):
    rows = only(all_kinds(folder), "features:given")
    rows[2]["features:given"] = "wider.npy"
    np.save(folder / "wider.npy", np.zeros(5))
    path = write_table(folder / "m.csv", rows)
    with pytest.raises(UserError, match=r"line 4, features:given: has 5 features, expected 4 as in line 2"):
        read_manifest(path, None, SMALL)
    assert len(read_manifest(path, None, SMALL, "skip").splits["train"]) == 3


def test_long_sequences_are_counted(folder):
    rows = only(all_kinds(folder), "features:given")
    np.save(folder / "long.npy", np.zeros((9, 4)))
    rows[0]["features:given"] = "long.npy"
    data = read_manifest(write_table(folder / "m.csv", rows), None, SMALL)
    assert data.inputs["given"].sizes == {"features": 4, "longest": 6}
    assert "features:given: 1 have more than 6 steps and are cut" in data.notes
