"""Food-101 and MVSA: MMBT's lines of JSON, MLA's tokens, CGGM's objects, BalanceBenchmark's tables."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gmd.errors import UserError
from helpers.layout_cases import (
    PARTS,
    PICTURE,
    food101_of_balancebenchmark,
    food101_of_cggm,
    food101_of_mla,
    food101_of_mmbt,
    made,
    mvsa,
    write,
    write_array,
    write_lines,
)

COUNTS = {"train": 12, "validation": 3, "test": 6}


def counts(rows: list[dict[str, str]]) -> dict[str, int]:
    return {split: sum(row["split"] == split for row in rows) for split in COUNTS}


def test_lines_of_json_as_mmbt_has_them(tmp_path: Path):
    rows, said = made("food101", food101_of_mmbt(tmp_path / "d"))
    assert counts(rows) == COUNTS
    for row in rows:
        assert (tmp_path / "d" / row["image:image"]).read_bytes() == PICTURE
        assert row["text:text"] == f"a recipe of {Path(row['image:image']).stem}"
        assert row["id"] == f"{row['label']}_{Path(row['image:image']).name}"
    assert "lists: mmbt (train.jsonl, dev.jsonl, test.jsonl)\nsplit: published\n" in said
    assert "leaks: none of the 6 texts, word for word, of test trains or validates" in said


def test_a_text_that_trains_and_tests_is_told(tmp_path: Path):
    root = food101_of_mmbt(tmp_path / "d")
    text = (root / "test.jsonl").read_text().replace("a recipe of apple_pie_20", "a recipe of apple_pie_0")
    write(root / "test.jsonl", text)
    _, said = made("food101", root)
    assert "leaks: 1 of the 6 texts, word for word, of test train or validate too\n" in said


def test_tokens_of_mla_are_kept_without_what_fills_them_up(tmp_path: Path):
    rows, said = made("food101", food101_of_mla(tmp_path / "d"))
    assert counts(rows) == {"train": 9, "validation": 3, "test": 6}
    row_of = {row["id"]: row for row in rows}
    for part in ("train", "test"):
        for number, (label, name) in enumerate(PARTS[part]):
            assert row_of[name]["label"] == label
            assert row_of[name]["image:image"] == f"visual/{part}_imgs/{name}.jpg"
            assert row_of[name]["text:text"] == f"[2003, 1037, 0, {number + 5}]"
    assert "text:text: 18, such as [2003, 1037, 0, 5]" in said


def test_tokens_without_their_mask_end_with_the_last_that_is_none_of_padding(tmp_path: Path):
    root = food101_of_mla(tmp_path / "d")
    for mask in root.glob("text_token/*/*_pm.npy"):
        mask.unlink()
    rows, _ = made("food101", root)
    assert {row["text:text"] for row in rows} == {f"[2003, 1037, 0, {number + 5}]" for number in range(12)}


def test_tokens_of_nothing_are_no_text(tmp_path: Path):
    root = food101_of_mla(tmp_path / "d")
    write_array(root / "text_token/train_token/ramen_0_token.npy", np.zeros((1, 8), np.int64))
    rows, said = made("food101", root)
    assert [row["id"] for row in rows if not row["text:text"]] == ["ramen_0"]
    assert "1 are missing: ramen_0" in said


def test_lists_of_mla_beside_the_pictures_of_mmbt(tmp_path: Path):
    root = food101_of_mmbt(tmp_path / "d")
    for part in ("train", "test"):
        write_lines(root / f"my_{part}_food.txt", [f"{name}.jpg {label}" for label, name in PARTS[part]])
    rows, said = made("food101", root, whose="mla")
    assert all((root / row["image:image"]).is_file() for row in rows)
    assert "text: none; looked for the list itself, text_token/{part}_token/{name}_token.npy" in said


@pytest.mark.parametrize("dev", [True, False])
def test_objects_of_cggm(tmp_path: Path, dev: bool):
    rows, said = made("food101", food101_of_cggm(tmp_path / "d", dev))
    assert counts(rows) == (COUNTS if dev else {"train": 9, "validation": 3, "test": 6})
    for row in rows:
        assert row["text:text"] == f"best recipe {row['id']}"
        assert row["image:image"] == f"img/{row['id']}.jpg"
    assert ("no list says who validates" in said) is not dev


def test_numbers_in_the_list_are_tokens(tmp_path: Path):
    root = food101_of_cggm(tmp_path / "d")
    values = json.loads((root / "test.json").read_text())
    for value in values:
        value["text_tokens"] = [101, 7592, 102]
    write(root / "test.json", json.dumps(values))
    rows, _ = made("food101", root)
    assert {row["text:text"] for row in rows if row["split"] == "test"} == {"[101, 7592, 102]"}


@pytest.mark.parametrize("header", ["Image_path,text,label", "image path,text,label", None])
def test_tables_of_balancebenchmark(tmp_path: Path, header: str | None):
    rows, _ = made("food101", food101_of_balancebenchmark(tmp_path / "d", header))
    assert counts(rows) == {"train": 9, "validation": 3, "test": 6}
    for row in rows:
        part = "test" if row["split"] == "test" else "train"
        assert row["text:text"] == f"{row['label']}, the best"
        assert row["image:image"] == f"images/{part}/{row['label']}/{row['id']}"


def test_a_header_says_the_order_of_the_cells(tmp_path: Path):
    root = food101_of_balancebenchmark(tmp_path / "d")
    for part in ("train", "test"):
        write_lines(
            root / f"texts/{part}_titles.csv",
            ["label,text,image_path", *(f'{label},"a ""b""\nc",{name}.jpg' for label, name in PARTS[part])],
        )
    rows, _ = made("food101", root)
    assert {row["text:text"] for row in rows} == {'a "b" c'}
    assert all(row["image:image"].endswith(row["id"]) for row in rows)


def test_mvsa(tmp_path: Path):
    rows, said = made("mvsa", mvsa(tmp_path / "d"))
    assert counts(rows) == COUNTS
    assert {row["label"] for row in rows} == {"positive", "neutral", "negative"}
    assert all(row["text:text"] == f"@you #{row['label']} {row['id']}" for row in rows)
    assert all(row["image:image"] == f"data/{row['id']}.jpg" for row in rows)
    assert "classes: 3: negative 7, neutral 7, positive 7" in said


def test_mvsa_as_mla_has_it(tmp_path: Path):
    root = food101_of_mla(tmp_path / "d", "mvsa")
    for part in ("train", "test"):
        path = root / f"my_{part}_mvsa.txt"
        text = path.read_text()
        for dish, label in (("apple_pie", "positive"), ("baklava", "neutral"), ("ramen", "negative")):
            text = text.replace(f" {dish}\n", f" {label}\n")
        write(path, text)
    rows, _ = made("mvsa", root)
    assert counts(rows) == {"train": 9, "validation": 3, "test": 6}
    assert all(row["image:image"] and row["text:text"].startswith("[2003, ") for row in rows)


def test_texts_that_a_manifest_would_take_for_something_else(tmp_path: Path):
    root = mvsa(tmp_path / "d")
    texts = [
        "notes.txt",
        "[101, 2054]",
        "tokens.NPY",
        "a\nb\tc\0d",
        "\ud800 half",
        "",
        None,
        "see notes.txt",
        "[LAUGHTER]",
    ]
    lines = [
        json.dumps({"id": f"t{i}", "label": "neutral", "text": text, "img": "data/1.jpg"})
        for i, text in enumerate(texts)
    ]
    write_lines(root / "dev.jsonl", lines)
    rows, said = made("mvsa", root)
    found = [row["text:text"] for row in rows if row["id"].startswith("t")]
    expected = [
        "notes.txt .",
        "[101, 2054] .",
        "tokens.NPY .",
        "a b c d",
        "? half",
        "",
        "",
        "see notes.txt",
        "[LAUGHTER]",
    ]
    assert found == expected
    assert "2 are missing: t5, t6" in said


def test_a_sample_without_a_picture(tmp_path: Path):
    root = mvsa(tmp_path / "d")
    lines = [
        json.dumps({"id": "t0", "label": "neutral", "text": "only words", "img": None}),
        json.dumps({"id": 17000, "label": "neutral", "text": "a name that is a number", "img": "data/1.jpg"}),
        json.dumps({"id": "t1", "label": "neutral", "text": "", "img": "data/gone.jpg"}),
    ]
    write_lines(root / "dev.jsonl", lines)
    rows, said = made("mvsa", root)
    row_of = {row["id"]: row for row in rows}
    assert row_of["t0"]["image:image"] == ""
    assert row_of["17000"]["image:image"] == "data/1.jpg"
    assert "left out, without any modality: 1: t1" in said


def changed(**values) -> str:
    return json.dumps({"id": "x", "label": "neutral", "text": "t", "img": "data/1.jpg"} | values)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ('{"id": "x", "id": "y"}', "no JSON .*given twice"),
        ("[1, 2]", r"got \[1, 2\], expected {\"id\": ..., \"label\": ..., text, img}"),
        ('{"id": "x", "label": "neutral", "text": "t"}', "expected {"),
        (changed(label="happy"), "got the label 'happy', expected one of positive, neutral, negative"),
        (changed(label=["neutral"]), "got the label"),
        (changed(id=""), "got the name '', expected the name of a file"),
        (changed(id=None), "got the name None"),
        (changed(id="a/b"), "got the name 'a/b'"),
        (changed(id="a\nb"), "which no file can have"),
        (changed(img="../secret.jpg"), "got the path '../secret.jpg', expected one below"),
        (changed(img="data/../../secret.jpg"), "expected one below the data set's folder"),
        (changed(img="/etc/passwd"), "got the path '/etc/passwd'"),
        (changed(img="C:\\x.jpg"), "got the path"),
        (changed(img=""), "got the path ''"),
        (changed(img=3), "got the path 3"),
        (changed(img="a\0.jpg"), "got the path"),
        (changed(img="\ud800.jpg"), "got the path"),
        (changed(text=3), "got the text 3, expected text, or a list of words or of tokens"),
        (changed(text=["a", 1]), "got the text"),
        (changed(text=[-1]), "got the text"),
    ],
    ids=[f"line{number}" for number in range(21)],
)
def test_lines_of_json_that_are_refused(tmp_path: Path, line: str, said: str):
    root = mvsa(tmp_path / "d")
    write_lines(root / "dev.jsonl", [changed(id="fine"), "", line])
    with pytest.raises(UserError, match=f"dev.jsonl:3: .*{said}"):
        made("mvsa", root)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "train.json: no JSON"),
        ("{}", "train.json: got {}, expected a list of objects"),
        ("[3]", "train.json: entry 0: got 3, expected"),
        ('[{"id": "a", "text_tokens": [], "img_path": null, "label": "Not A Dish"}]', "got the label 'Not A Dish'"),
        (
            '[{"id": "a", "text_tokens": [], "img_path": null, "label": 3}]',
            "got the label 3, expected the name of a dish",
        ),
        ("\0", "train.json: no JSON"),
    ],
    ids=range(6),
)
def test_objects_that_are_refused(tmp_path: Path, content: str, said: str):
    root = food101_of_cggm(tmp_path / "d")
    write(root / "train.json", content)
    with pytest.raises(UserError, match=said):
        made("food101", root)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.jpg;text;ramen", "expected three cells"),
        ("a.jpg,b,c,ramen", "expected three cells"),
        ("../a.jpg,text,ramen", "got the path '../a.jpg'"),
        ("a.jpg,text,", "got the label ''"),
        ('a.jpg,"text', "is no line of a table"),
    ],
    ids=range(5),
)
def test_lines_of_a_table_that_are_refused(tmp_path: Path, line: str, said: str):
    root = food101_of_balancebenchmark(tmp_path / "d")
    with open(root / "texts/train_titles.csv", "a", encoding="utf-8") as file:
        file.write(line)
    with pytest.raises(UserError, match=f"train_titles.csv:14: .*{said}"):
        made("food101", root)


def no_numpy(path: Path) -> None:
    write(path, b"no array")


def a_pickle(path: Path) -> None:
    np.save(path, np.array([print], object), allow_pickle=True)


def floats(path: Path) -> None:
    write_array(path, np.ones((1, 8)))


def several(path: Path) -> None:
    write_array(path, np.ones((2, 8), np.int64))


def negative(path: Path) -> None:
    write_array(path, np.full((1, 8), -1))


def longer(path: Path) -> None:
    write_array(path, np.ones((1, 9), np.int64))


def a_claim(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"(1, 8)", b"(9, 8)"))


def huge(path: Path) -> None:
    write_array(path, np.ones((1, 2**18), np.int64))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_numpy, "cannot be read: it is text, beginning with 'no array', not a .npy"),
        (a_pickle, "holds Python objects, which are never loaded from a file of arrays"),
        (floats, r"is float64 \[1, 8\], expected tokens, whole numbers from 0 on"),
        (several, r"is int64 \[2, 8\], expected tokens"),
        (negative, "expected tokens, whole numbers from 0 on"),
        (longer, "_pm.npy: has 8 entries, expected 9 as "),
        (a_claim, r"claims to be int64 \[9, 8\], of 576 bytes, and has 64"),
        (huge, r"is int64 \[1, 262144\], expected tokens, whole numbers from 0 on \[1, L\], 65536 at most"),
    ],
)
def test_tokens_that_are_refused(tmp_path: Path, damage: Callable[[Path], None], said: str):
    root = food101_of_mla(tmp_path / "d")
    damage(root / "text_token/train_token/apple_pie_1_token.npy")
    with pytest.raises(UserError, match=f"apple_pie_1.*{said}"):
        made("food101", root)


def test_a_pipe_is_no_file(tmp_path: Path):
    root = food101_of_mla(tmp_path / "d")
    a_pipe(root / "text_token/train_token/apple_pie_1_token.npy")
    rows, _ = made("food101", root)
    assert [row["id"] for row in rows if not row["text:text"]] == ["apple_pie_1"]
