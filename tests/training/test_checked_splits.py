"""What `splits.json` says is held against itself and against the configuration of the run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gmd.config import TrainBrats, TrainConfig, TrainSentiment
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError
from gmd.training.saved_run import read_splits

BRATS = TrainBrats(data=Path("data"), labels="brats2018", modalities=("flair", "t1"))
SENTIMENT = TrainSentiment(data=Path("data.npz"))
ABOUT = {"features": {"text": 5, "audio": 4, "vision": 3}, "classes": None, "per_step": False}


def case(called: str, **more: object) -> dict:
    files = {"flair": f"{called}/flair.nii.gz", "seg": f"{called}/seg.nii.gz"}
    known = {"folder": f"/data/{called}", "patient": called, "labels": "brats2018", "root": "/data", "files": files}
    return {"name": called, "channels": {}} | known | more


def splits(**more: object) -> dict:
    return {"data": "/data", "train": [case("a")], "validation": [case("b")], "test": [case("c")]} | more


def read(run: Path, config: TrainConfig, values: object) -> dict:
    write_config(run / CONFIG, config)
    (run / "splits.json").write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return read_splits(run)


def test_whatever_a_training_writes_is_read(tmp_path: Path):
    assert read(tmp_path, BRATS, splits(folds=None, fold=None))["test"] == [case("c")]
    assert read(tmp_path, BRATS, splits(test=[]))["test"] == []
    odd = case("../../<b>\x1b\udcff", checksums={"flair": "00"}, channels={"flair": 1})
    assert read(tmp_path, BRATS, splits(test=[odd])).cases("test") == [odd]
    later = splits(version=7, test=[case("c", scanner=5)])
    assert read(tmp_path, BRATS, later) == later
    named = {split: [{"name": split}] for split in ("train", "validation", "test")}
    assert read(tmp_path, SENTIMENT, {"data": "x", "about": ABOUT, "notes": ["n"]} | named)["about"] == ABOUT
    numbers = ABOUT | {"unit": [1000.0, 5.5]}
    assert read(tmp_path, SENTIMENT, {"data": "x", "about": numbers, "notes": ["n"]} | named)["about"] == numbers


@pytest.mark.parametrize(
    "unit", [[], [1.0], [0.0, 0.0], [0.0, -1.0], [0.0, 1e300, 1.0], "ab", [0.0, "1"], None], ids=str
)
def test_a_unit_that_is_none_is_refused(tmp_path: Path, unit: object):
    named = {split: [{"name": split}] for split in ("train", "validation", "test")}
    with pytest.raises(UserError, match="unit"):
        read(tmp_path, SENTIMENT, {"data": "x", "about": ABOUT | {"unit": unit}, "notes": []} | named)


def test_a_file_of_several_modalities_has_others_than_the_runs(tmp_path: Path):
    """Two of four along its fourth axis: such a run could be trained, and not evaluated."""
    four = case("c", channels={"flair": 0, "t1": 1, "t1ce": 2, "t2": 3})
    assert read(tmp_path, BRATS, splits(test=[four])).cases("test") == [four]


def test_a_patient_may_be_in_two_lists(tmp_path: Path):
    both = splits(test=[case("c", patient="a")])
    assert read(tmp_path, replace(BRATS, train_list=Path("train.txt")), both) == both


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "expected its content to be keys and values"),
        (None, "expected its content to be keys and values"),
        ("[" * 100_000, "nested too deep"),
        ('{"train": [], "train": []}', "given twice"),
        ("NaN", "NaN is no number"),
        (splits(train="a"), "is not a list"),
        (splits(train=["a"]), "is not a dict"),
        (splits(test=[{}]), "expected a list of cases, each with its name, for 'test'"),
        (splits(test=[case("c", name=["c"])]), "case 0 of 'test'.*name"),
        (splits(test=[case("c", name=5)]), "case 0 of 'test'.*name"),
        (splits(test=[case("c"), case("d", files=[1])]), "case 1 of 'test'.*files"),
        (splits(test=[case("c", files={"flair": None})]), "case 0 of 'test'.*files"),
        (splits(test=[case("c", checksums={"flair": 1})]), "checksums"),
        (splits(test=[case("c", folder=None)]), "folder"),
        (splits(test=[case("c", name="a\0b")]), "which no name can be"),
        (splits(test=[case("c", folder="\ud800")]), "which no name can be"),
        (splits(test=[case("c", channels={"flair": -1})]), "channel -1"),
        (splits(test=[case("c", channels={"flair": 10**6})]), "channel 1000000"),
        (splits(test=[case("a")]), "name 'a' is in 'train' and in 'test'"),
        (splits(test=[case("c"), case("c")]), "name 'c' is in 'test' and in 'test'"),
        (splits(test=[case("c", patient="a")]), "patient 'a' is in 'train' and in 'test'"),
        (splits(test=[case("c", files={"t2": "t2.nii"})]), "case 'c' of 'test' has 't2', which is none of flair, mask"),
        (splits(test=[case("c", labels="nonsense")]), "labels 'nonsense'"),
        (splits(folds=5, fold=1), "folds is 5, but None in the run's configuration"),
        (splits(notes="x"), "notes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_no_training_writes_is_named(tmp_path: Path, values: object, said: str):
    with pytest.raises(UserError, match=rf"splits\.json: .*{said}.*Restore it from a copy"):
        read(tmp_path, BRATS, values)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (None, "key 'about' of dict is not a dict"),
        ({"features": {"text": 5}}, "about"),
        (ABOUT | {"features": {"text": 5, "audio": 4}}, "has features of .*, but .* are the run's"),
        (ABOUT | {"features": {"audio": 4, "text": 5, "vision": 3}}, "has features of"),
        (ABOUT | {"features": {"text": 0, "audio": 4, "vision": 3}}, "features of 'text' are 0"),
        (ABOUT | {"features": {"text": True, "audio": 4, "vision": 3}}, "features of 'text' are True"),
        (ABOUT | {"features": {"text": 2**40, "audio": 4, "vision": 3}}, "features of 'text' are 1099511627776"),
        (ABOUT | {"classes": []}, "classes are"),
        (ABOUT | {"classes": ["a", "a"]}, "classes are"),
        (ABOUT | {"classes": "ab"}, "classes"),
        (ABOUT | {"per_step": 1}, "per_step"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_go_with_a_run_on_sequences(tmp_path: Path, about: object, said: str):
    with pytest.raises(UserError, match=rf"splits\.json: .*{said}"):
        read(tmp_path, SENTIMENT, {"data": "x", "about": about})


def test_splits_of_another_run_are_not_believed(tmp_path: Path):
    with pytest.raises(UserError, match=r"splits\.json: expected 'about' to be"):
        read(tmp_path, SENTIMENT, splits())
