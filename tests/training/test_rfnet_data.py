"""A training as the missing-modality field sets it up: `.npy` volumes, lists, masks; and what comes after it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from gmd.cli import main
from gmd.config import TrainBrats
from gmd.config.file import CONFIG, as_arguments, read_yaml, write_config
from gmd.errors import UserError
from gmd.training.loop import train
from gmd.training.tasks import open_task
from helpers.npy_cases import as_rfnet

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

MASKS = ('"[True, False, False, False]"', '"[True, True, False, False]"', '"[False, True, True, True]"')


@pytest.fixture(scope="module")
def field(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as their repositories have it, and lists with IM-Fuse's and PASSION's masks."""
    root = tmp_path_factory.mktemp("field")
    names = as_rfnet(phantoms, root / "npy", prefix="HG_")
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names[:3]))
    (root / "val.txt").write_text(f"{names[3].removeprefix('HG_')}\n")
    lines = [f"{name},{mask}\n" for name, mask in zip(names[4:], MASKS, strict=False)]
    (root / "test.csv").write_text("case,mask\n" + "".join(lines))
    lines = [f"{name},0,{mask},[0]\n" for name, mask in zip(names, MASKS, strict=False)]
    (root / "mr2468.csv").write_text("data_name,mask_id,mask,pos_mask_ids\n" + "".join(lines))
    return root


@pytest.fixture
def of_field(config: TrainBrats, field: Path) -> TrainBrats:
    """On two modalities, which two of the masks leave one or none of."""
    lists = {"train_list": field / "train.txt", "val_list": field / "val.txt", "test_list": field / "test.csv"}
    return replace(config, data=(field / "npy",), **lists)


@pytest.mark.slow
def test_train_evaluate_and_predict(of_field: TrainBrats, field: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    run = train(replace(of_field, missing_list=field / "mr2468.csv"))
    said = capsys.readouterr().out
    assert "labels are read as rfnet" in said
    assert "3 of 3 training cases have the modalities that" in said
    assert "6 cases are arrays of numpy" in said
    splits = json.loads((run / "splits.json").read_text())
    images = [sorted(case["files"].keys() - {"seg"}) for case in splits["train"]]
    assert images == [["flair"], ["flair", "t1ce"], ["t1ce"]], "fixed for the whole training"
    assert all({"flair", "t1ce"} <= case["files"].keys() for case in (*splits["validation"], *splits["test"]))
    again = TrainBrats.from_dict(read_yaml(run / CONFIG), "config.yaml")
    assert (again.train_list, again.test_list) == (field / "train.txt", field / "test.csv")
    assert main(["evaluate", str(run), "--missing-list", str(field / "test.csv")]) == 0
    with open(run / "evaluation/table.csv", newline="") as file:
        lines = {line["subset"]: line for line in csv.DictReader(file)}
    assert list(lines) == ["flair", "t1ce", "flair+t1ce", "mean", "test.csv"]
    with open(run / "evaluation/cases.csv", newline="") as file:
        scores = {(s["case"], s["subset"], s["region"]): float(s["dice"]) for s in csv.DictReader(file)}
    first, second = (case["name"] for case in splits["test"])
    for region in ("WT", "TC", "ET", "ET_postpro"):
        listed = scores[first, "flair", region], scores[second, "flair+t1ce", region]
        assert float(lines["test.csv"][region]) == pytest.approx(sum(listed) / 2)
    assert "2 of 2 cases of the row test.csv have the modalities" in (run / "evaluation/table.md").read_text()
    assert "test.csv" in (run / "report.html").read_text(encoding="utf-8")
    assert main(["predict", str(run), str(field / "npy"), "-o", str(tmp_path / "out")]) == 0
    written = nibabel.load(tmp_path / "out" / f"{first}.nii.gz")
    assert written.shape == (32, 32, 32)
    assert np.array_equal(written.affine, np.eye(4))
    assert set(np.unique(np.asarray(written.dataobj))) <= {0, 1, 2, 3}


def test_what_training_cases_lack_is_never_read(of_field: TrainBrats, field: Path):
    """All batches are those of cases without it, and validation has it."""
    lessened = open_task(replace(of_field, missing_list=field / "mr2468.csv"))
    whole = open_task(of_field)
    inputs = [batch[0] for batch in lessened.batches(0)]
    assert [list(each.values) for each in inputs].count(["flair"]) == 1
    assert [list(each.values) for each in inputs].count(["flair", "t1ce"]) < len(inputs)
    assert lessened.splits.validation == whole.splits.validation
    assert lessened.splits.test == whole.splits.test


def test_rates_for_each_modality(of_field: TrainBrats):
    task = open_task(replace(of_field, missing=("flair=1", "t1ce=0"), batch=3))
    [(inputs, targets)] = list(task.batches(0))[:1]
    assert list(inputs.values) == ["t1ce"]
    assert inputs.samples["t1ce"] == [0, 1, 2]
    assert torch.is_tensor(targets)
    assert "training cases lack modalities at random: flair=1 t1ce=0; decided by --seed" in " ".join(task.notes())
    assert all("flair" in case.images for case in task.splits.validation)


def test_lists_hold_for_files_in_any_layout(of_field: TrainBrats, phantoms: Path):
    """The lists' HG_ is before no name of the original data."""
    task = open_task(replace(of_field, data=(phantoms,)))
    assert [case.name for case in task.splits.validation] == ["Phantom_000_00003"]
    assert len(task.splits.train) == 3
    assert len(task.splits.test) == 2


def test_a_config_with_lists_comes_back_from_its_file(of_field: TrainBrats, tmp_path: Path):
    write_config(tmp_path / CONFIG, of_field)
    assert f"--train-list={of_field.train_list}" in as_arguments(tmp_path / CONFIG, TrainBrats)
    before = {k: v for k, v in of_field.to_dict().items() if k not in ("train_list", "val_list", "test_list")}
    assert TrainBrats.from_dict(before, "of an earlier version").train_list is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"train_list": None}, "--val-list: got .*val.txt, expected --train-list with it"),
        ({"folds": 2}, "--train-list: got .*train.txt, expected no --folds with it"),
        ({"folds": 2, "fold": 0}, "expected no --folds with it"),
    ],
    ids=["no train", "folds", "one fold"],
)
def test_lists_beside_options_that_say_otherwise(of_field: TrainBrats, options: dict, told: str):
    with pytest.raises(UserError, match=told):
        replace(of_field, **options).check()


def test_a_list_of_masks_for_others_is_refused(of_field: TrainBrats, field: Path):
    with pytest.raises(UserError, match=r"test\.csv: names no sample that there is"):
        open_task(replace(of_field, missing_list=field / "test.csv"))
