"""Text: words that are hashed, tokens that are given, files of either, and what is refused."""

import numpy as np
import pytest
import torch

from gmd.data.manifest.cells import Cell, Table, Unreadable
from gmd.data.manifest.read import read_manifest
from gmd.data.manifest.texts import check_text, load_tokens
from gmd.errors import UserError
from helpers.manifest_cases import SMALL, all_kinds, only, write_table
from helpers.nifti_cases import error_of


def cell(folder, text):
    return Cell(Table(folder / "m.csv", folder), 2, "text:x", text)


def tokens(folder, text, vocabulary=50, longest=100):
    return load_tokens(cell(folder, text), vocabulary, longest)


def read(folder, texts):
    rows = only(all_kinds(folder), "text:words")
    for row, text in zip(rows, texts, strict=False):
        row["text:words"] = text
    return read_manifest(write_table(folder / "m.csv", rows), None, SMALL)


def test_words_are_hashed_without_capitals(tmp_path):
    found = tokens(tmp_path, "The cat, the CAT!")
    assert found.dtype == torch.int64
    assert len(found) == 6
    assert found[0] == found[3]
    assert found[1] == found[4]
    assert 1 <= found.min() <= found.max() < 50


def test_hashes_are_the_same_in_every_process(tmp_path):
    assert tokens(tmp_path, "any word", 2**20).tolist() == [514732, 307430]


def test_words_of_all_scripts(tmp_path):
    assert len(tokens(tmp_path, "电影 très-bien हिन्दी 👍")) >= 5


def test_the_first_are_kept(tmp_path):
    assert torch.equal(tokens(tmp_path, "a b c d", longest=2), tokens(tmp_path, "a b"))


@pytest.mark.parametrize("text", ["[101, 7, 0, 2]", "[ 101,7,0,2 ]", "[101, 7, 0, 2, 0, 0]", "x.npy"])
def test_given_tokens_lose_the_padding_behind_them(tmp_path, text):
    np.save(tmp_path / "x.npy", np.array([101, 7, 0, 2, 0], np.int16))
    assert tokens(tmp_path, text, 102).tolist() == [101, 7, 0, 2]


def test_a_token_that_is_not_in_the_vocabulary(tmp_path):
    with pytest.raises(UserError, match="line 2, text:x: has the token 101, expected numbers below 101"):
        tokens(tmp_path, "[101, 7]", 101)


def test_a_file_of_text(tmp_path):
    (tmp_path / "x.txt").write_text("two words", encoding="utf-8")
    assert torch.equal(tokens(tmp_path, "x.txt"), tokens(tmp_path, "two words"))
    assert check_text(cell(tmp_path, "see x.txt")).tokens == 4  # no single word


def test_given_tokens_make_the_vocabulary(tmp_path):
    data = read(tmp_path, ["[5, 70]"] * 7 + ["[99]"])
    assert data.inputs["words"].sizes == {"vocabulary": 100, "longest": 2}
    assert "text:words: tokens as given, below 100, the largest of all rows and one more" in data.notes


def test_empty_texts_count_as_missing(tmp_path):
    (tmp_path / "x.txt").write_text(" \n", encoding="utf-8")
    data = read(tmp_path, ["x.txt", "", "..."])
    assert [sample.name for sample in data.splits["train"]] == ["sample2", "sample3"]
    assert "text:words: 1 texts are empty and count as missing" in data.notes
    assert "2 rows have no modality and are left out" in data.notes


def test_long_texts_are_counted(tmp_path):
    data = read(tmp_path, ["a b c d e f g"])
    assert data.inputs["words"].sizes["longest"] == 6
    assert "text:words: 1 texts have more than 6 tokens and are cut" in data.notes


def test_words_and_tokens_in_one_column_are_refused(tmp_path):
    message = error_of(read, tmp_path, ["a b", "[5, 7]"])
    assert "line 3, text:words: has tokens, and line 2 has words; expected one of the two" in message


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.array([3, -1]), "has tokens from -1 to 3, expected 0 to"),
        (np.array([2**40]), "expected 0 to"),
        (np.array([2**64 - 1], np.uint64), "expected 0 to"),
        (np.array([[1, 2]]), r"is int64 \[1, 2\], expected tokens, int \[L\]"),
        (np.array([1.5]), r"is float64 \[1\], expected tokens"),
    ],
    ids=["negative", "large", "unsigned", "a matrix", "fractions"],
)
def test_arrays_that_are_no_tokens_are_refused(tmp_path, values, sentence):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(Unreadable, match=sentence):
        check_text(cell(tmp_path, "x.npy"))


def test_texts_in_other_encodings_are_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(Unreadable, match=r"x.txt: is no text in UTF-8"):
        check_text(cell(tmp_path, "x.txt"))
    with pytest.raises(Unreadable, match=r"gone.txt: there is no such file; expected a text in UTF-8"):
        check_text(cell(tmp_path, "gone.txt"))
