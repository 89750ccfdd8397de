"""Labels as targets: classes of the training rows, numbers, several outputs, and what is refused."""

import math

import pytest
import torch

from gmd.data.manifest.inputs import Output, Preparation
from gmd.data.manifest.read import read_manifest
from helpers.manifest_cases import write_table
from helpers.nifti_cases import error_of

SPLITS = ("train", "train", "train", "validation", "test")


def read(tmp_path, labels, splits=SPLITS, **options):
    """labels: of each row, or name of an output -> labels"""
    columns = {"label": labels} if not isinstance(labels, dict) else {f"label:{m}": v for m, v in labels.items()}
    rows = [
        {"id": f"s{i}", "split": split, **{name: found[i] for name, found in columns.items()}, "text:a": f"word {i}"}
        for i, split in enumerate(splits)
    ]
    return read_manifest(write_table(tmp_path / "m.csv", rows), None, Preparation(), **options)


def targets(data, split="train"):
    return [sample.target.tolist() for sample in data.splits[split]]


def test_classes_are_numbered_in_the_order_of_their_letters(tmp_path):
    data = read(tmp_path, ["sad", "happy", "sad", "happy", "sad"])
    assert data.outputs == (Output("label", ("happy", "sad")),)
    assert targets(data) == [1, 0, 1]
    assert data.splits["train"][0].target.dtype == torch.int64


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    assert read(tmp_path, ["10", "9", "-1", "9", "10"]).outputs == (Output("label", ("-1", "9", "10")),)


def test_numbers_with_a_fraction_are_numbers(tmp_path):
    data = read(tmp_path, ["1", "-0.5", "2", "1e-1", "3"])
    assert data.outputs == (Output("label", None),)
    assert targets(data) == [1, -0.5, 2]
    assert data.splits["train"][0].target.dtype == torch.float32
    assert data.splits["train"][0].target.shape == ()


def test_the_option_decides(tmp_path):
    labels = ["1", "2", "1", "2", "1"]
    assert read(tmp_path, labels, target="number").outputs == (Output("label", None),)
    assert read(tmp_path, ["0.5", "1.5", "0.5", "1.5", "0.5"], target="class").outputs[0].classes == ("0.5", "1.5")


def test_several_outputs_where_some_labels_are_missing(tmp_path):
    data = read(tmp_path, {"valence": ["0.5", "", "1", "0", "1"], "mood": ["a", "b", "", "a", "b"]})
    assert data.outputs == (Output("valence", None), Output("mood", ("a", "b")))
    found = torch.stack([sample.target for sample in data.splits["train"]])
    expected = torch.tensor([[0.5, 0], [math.nan, 1], [1, math.nan]])
    assert torch.equal(found.nan_to_num(-9), expected.nan_to_num(-9))
    assert found.dtype == torch.float32


def test_a_class_that_is_never_tested_is_told(tmp_path):
    data = read(tmp_path, ["a", "b", "c", "b", "a"])
    assert "label: no row of test is of class 'b', 'c', which training has" in data.notes
    assert "label: no row of validation is of class 'a', 'c', which training has" in data.notes


def test_many_classes_of_numbers_are_told(tmp_path):
    splits = ["train"] * 30 + ["validation", "test"]
    data = read(tmp_path, [str(i % 30) for i in range(32)], splits)
    assert any("taken for 30 classes, all numbers; --target number" in note for note in data.notes)


REFUSED = {
    "a class that training lacks": (
        (["a", "b", "a", "b", "c"], SPLITS),
        "no training row has 'c', which 1 rows of test have (line 6: s4)",
    ),
    "one class": ((["a"] * 5, SPLITS), "classes of the training rows: 'a'; expected two at least"),
    "no label at all": (([""] * 5, SPLITS), "the column of label is empty"),
    "a row without a label": ((["a", "", "b", "a", "b"], SPLITS), "1 rows of train have no label (line 3: s1)"),
    "decimal commas": ((["0,5", "1", "0,1", "2", "1"], SPLITS), "0,5 is written with a comma; write numbers as 0.5"),
    "NaN": ((["0.5", "nan", "1", "2", "1"], SPLITS), "expected a number between"),
    "no test": ((["a", "b"], ("train", "validation")), "no row of split test is left"),
    "no training": ((["a", "b"], ("test", "validation")), "no row of split train is left"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_labels(tmp_path, case):
    (labels, splits), sentence = REFUSED[case]
    assert sentence in error_of(read, tmp_path, labels, splits)


def test_a_word_among_numbers_is_refused_where_numbers_are_asked_for(tmp_path):
    labels = ["0.5", "high", "1", "2", "1"]
    assert "line 3: label is 'high', expected a number" in error_of(read, tmp_path, labels, target="number")


def test_validation_is_held_out_of_each_class(tmp_path):
    splits = ["train"] * 40 + ["test"] * 2
    labels = ["rare" if i % 10 == 0 else "common" for i in range(40)] + ["rare", "common"]
    data = read(tmp_path, labels, splits, seed=3)
    held = [sample.target.item() for sample in data.splits["validation"]]
    assert sorted(held) == [0] * 4 + [1]
    assert len(data.splits["train"]) == 35
    assert "validation: 5 of the 40 training rows, a part of each class, drawn by seed 3" in data.notes
    again, other = read(tmp_path, labels, splits, seed=3), read(tmp_path, labels, splits, seed=4)
    names = [[sample.name for sample in each.splits["validation"]] for each in (data, again, other)]
    assert names[0] == names[1] != names[2]


def test_validation_of_numbers_is_held_out_of_all(tmp_path):
    data = read(tmp_path, [f"{i / 4}" for i in range(21)], ["train"] * 20 + ["test"])
    assert len(data.splits["validation"]) == 2
    assert "validation: 2 of the 20 training rows, a part, drawn by seed 0" in data.notes


def test_too_few_rows_to_hold_any_out(tmp_path):
    message = error_of(read, tmp_path, ["0.5", "1"], ["train", "test"])
    assert "has no row of split validation, and too few of train to hold one out" in message
