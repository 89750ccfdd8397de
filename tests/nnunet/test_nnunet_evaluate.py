"""`gmd nnunet evaluate`, around a stand-in for nnU-Net's predictor."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import gmd.nnunet.evaluate as module
from gmd import cli
from gmd.errors import UserError
from gmd.nnunet.evaluate import evaluate, scheme_of
from gmd.nnunet.raw_cases import RawDataset
from gmd.scoring.segmentation.tables import read_cases
from helpers.nifti_cases import save
from helpers.nnunet_stand_in import NAMES, Predictor, write_model
from helpers.nnunet_training import DATASET, LABELS, REGIONS

SHAPE = (4, 4, 3)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "load_predictor", lambda model, tta, device: Predictor())
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return write_model(tmp_path)


def write_data(root: Path, held_out: tuple[str, ...] = ("b", "c")) -> dict[str, np.ndarray]:
    """Writes cases a, b, c, of which b has a channel of zeros; the labels are what all channels together give."""
    raw = root / "raw" / DATASET
    truths = {}
    for number, case in enumerate("abc"):
        channels = np.random.default_rng(number).normal(size=(3, *SHAPE)).astype(np.float32)
        if case == "b":
            channels[1] = 0
        for channel, voxels in enumerate(channels):
            save(raw / f"imagesTr/{case}_{channel:04d}.nii.gz", voxels)
        total = channels.sum(axis=0)
        truths[case] = (total > 0).astype(np.uint8) + (total > 1)
        save(raw / f"labelsTr/{case}.nii.gz", truths[case])
    (root / "preprocessed" / DATASET).mkdir(parents=True)
    splits = [{"train": ["a"], "val": list(held_out)}]
    (root / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")
    return truths


def test_every_subset_of_the_channels_that_a_case_has_is_scored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    write_data(tmp_path)
    assert cli.main(["nnunet", "evaluate", "-m", str(model), "-f", "0"]) == 0
    out = model / "fold_0" / "gmd_evaluation"
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = {row["subset"]: row for row in csv.DictReader(file)}
    assert len(rows) == 8, "seven subsets and their mean"
    assert (rows["flair+t1+t2"]["cases"], rows["flair+t2"]["cases"]) == ("1", "2")
    scores = read_cases(out / "cases.csv", NAMES)
    assert {score.region for score in scores} == {"whole", "core"}
    perfect = [score for score in scores if score.subset == {"b": ("flair", "t2"), "c": NAMES}[score.case]]
    assert len(perfect) == 4
    assert all(score.dice == 1 and score.hd95 == 0 for score in perfect), "the labels are what all channels give"
    assert min(score.dice for score in scores) < 1
    printed = capsys.readouterr().out
    assert (
        "Hard Dice, mean over 2 cases of the validation cases of fold 0; checkpoint_final.pth of fold 0 of" in printed
    )
    assert (out / "table.md").read_text(encoding="utf-8") in printed


def test_other_cases_are_given_by_their_folders(model: Path, tmp_path: Path):
    write_data(tmp_path)
    raw = tmp_path / "raw" / DATASET
    out = tmp_path / "tables"
    assert evaluate(model, "0", raw / "imagesTr", raw / "labelsTr", out) == 0
    assert {score.case for score in read_cases(out / "cases.csv")} == {"a", "b", "c"}
    with pytest.raises(UserError, match="--images and --labels: got one of them"):
        evaluate(model, "0", raw / "imagesTr", None, out)
    (raw / "labelsTr/b.nii.gz").unlink()
    with pytest.raises(UserError, match="no image or label map of b; labels are looked for in"):
        evaluate(model, "0", raw / "imagesTr", raw / "labelsTr", out)


def test_a_bad_case_is_told_and_the_others_are_scored(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_data(tmp_path)
    save(tmp_path / "raw" / DATASET / "labelsTr/b.nii.gz", np.zeros((9, 4, 3), np.uint8))
    assert evaluate(model, "0") == 1
    printed = capsys.readouterr()
    assert "b cannot be scored: " in printed.err
    assert "1 of 2 cases could not be scored: b: " in printed.out


def test_voxels_to_ignore_count_for_nothing(model: Path, tmp_path: Path):
    truth = write_data(tmp_path, ("c",))["c"]
    said = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
    said["labels"]["ignore"] = 3
    (model / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    wrong = np.where(truth == 2, 3, truth)
    wrong[0] = 3  # whatever is predicted there
    save(tmp_path / "raw" / DATASET / "labelsTr/c.nii.gz", wrong)
    assert evaluate(model, "0") == 0
    scores = read_cases(model / "fold_0/gmd_evaluation/cases.csv")
    assert {score.region for score in scores} == {"whole", "core"}
    assert all(score.dice == 1 for score in scores if score.subset == NAMES)


@pytest.mark.parametrize(
    ("labels", "values"), [(REGIONS, [(1, 2), (2,)]), (LABELS, [(1,), (2,)])], ids=["regions", "labels"]
)
def test_regions_and_labels_of_a_dataset(labels: dict, values: list, tmp_path: Path):
    dataset = RawDataset(tmp_path, NAMES, ".nii.gz", labels["labels"] | {"ignore": 3})
    assert list(scheme_of(dataset).regions.values()) == values
    with pytest.raises(UserError, match="labels: odd: got 'x', expected numbers from 0 to 255"):
        scheme_of(dataset._replace(labels={"odd": "x"}))


def test_held_out_cases_that_cannot_be_found_are_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=f"raw/{DATASET}: there is no such folder; give --images and --labels"):
        evaluate(model, "0")
    write_data(tmp_path)
    (model / "fold_1").mkdir()
    (model / "fold_1" / "checkpoint_final.pth").touch()
    with pytest.raises(UserError, match=r"splits_final\.json: tells no cases that fold 1 has not seen"):
        evaluate(model, "1")
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match="nnUNet_raw is not set, by which the cases are found"):
        evaluate(model, "0")
