"""What is wrong with the data shows before the first step; what goes wrong later leaves a training that goes on."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import gmd.cli
import gmd.data.segmentation.check
import gmd.training.folds
import gmd.training.loop
from gmd.config import TrainBrats, config_from_dict
from gmd.errors import UserError
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.report import write_report
from gmd.training.checkpoint import load_checkpoint
from gmd.training.folds import train_folds
from gmd.training.loop import train
from gmd.training.saved_run import read_splits
from helpers.nifti_cases import error_of
from helpers.run_cases import assert_same_run

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture(autouse=True)
def no_case_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])


@pytest.fixture
def config(config: TrainBrats, phantoms: Path, tmp_path: Path) -> TrainBrats:
    """On two cases to train on, one to validate, three to test. An epoch is two steps, with a validation after each."""
    splits = ["train", "train", "validation", *["test"] * 3]
    for split, case in zip(splits, sorted(phantoms.iterdir()), strict=True):
        shutil.copytree(case, tmp_path / "data" / split / case.name)
    return replace(config, data=tmp_path / "data", validate_every=1)


def file_of(config: TrainBrats, split: str, key: str = "seg") -> Path:
    """Of the last case of the split."""
    return max(config.data[0].glob(f"{split}/*/*_{key}.nii.gz"))


def change(path: Path, voxel: int) -> None:
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = voxel
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_bad_case_of_any_split_is_told_before_the_first_step(config: TrainBrats, split: str):
    change(file_of(config, split), 7)
    message = error_of(train, config)
    assert message.startswith("1 of 6 cases cannot be used:\n")
    assert f"{file_of(config, split)}: label values 0, 1, 2, 4, 7 found" in message
    assert not config.out.exists()


def test_all_splits_are_told_at_once(config: TrainBrats, capsys: pytest.CaptureFixture):
    for split in ("train", "validation", "test"):
        file_of(config, split, "flair").write_bytes(b"no image")
    assert gmd.cli.main(["train", "brats", "--data", str(config.data[0]), "--out", str(config.out)]) == 2
    told = capsys.readouterr().err
    assert "gmd: error: 3 of 6 cases cannot be used:\n" in told
    assert all(str(file_of(config, split, "flair")) in told for split in ("train", "validation", "test"))
    assert not config.out.exists()


def test_a_run_that_is_there_is_left_as_it_is(config: TrainBrats):
    train(replace(config, epochs=1))
    before = {path: path.read_bytes() for path in config.out.iterdir() if path.is_file()}
    change(file_of(config, "test"), 7)
    assert "1 of 6 cases cannot be used" in error_of(train, replace(config, epochs=1, resume=True))
    assert {path: path.read_bytes() for path in config.out.iterdir() if path.is_file()} == before


def test_folds_are_checked_before_the_first(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    change(file_of(config, "test"), 7)
    monkeypatch.setattr(gmd.training.folds, "train", lambda config: pytest.fail("trained"))
    assert "1 of 6 cases cannot be used" in error_of(train_folds, replace(config, folds=2))
    assert not config.out.exists()


def test_no_check_begins_without(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    change(file_of(config, "test"), 7)
    with pytest.raises(UserError):
        train(config)
    train(replace(config, epochs=1, no_check=True))
    assert all("checksums" not in case for case in read_splits(config.out)["test"])


def test_a_run_lists_its_files_and_what_they_hold(config: TrainBrats):
    splits = read_splits(train(replace(config, epochs=1)))
    for split, count in (("train", 2), ("validation", 1), ("test", 3)):
        assert len(splits[split]) == count
        for case in splits[split]:
            assert case["root"] == str(config.data[0])
            name = case["name"]
            assert case["files"] == {key: f"{split}/{name}/{name}_{key}.nii.gz" for key in ("flair", "t1ce", "seg")}
            assert all((config.data[0] / path).is_file() for path in case["files"].values())
            assert case["checksums"].keys() == case["files"].keys()


def test_runs_of_earlier_versions_have_no_such_option(config: TrainBrats):
    values = config.to_dict()
    del values["no_check"]
    assert config_from_dict(values, "config.yaml") == config


def test_copies_among_the_splits_are_told(config: TrainBrats, capsys: pytest.CaptureFixture):
    """A case of the training tests, too, under another name; links have always been refused."""
    case = max((config.data[0] / "train").iterdir())
    copy = config.data[0] / "test/innocent"
    shutil.copytree(case, copy)
    for path in copy.iterdir():
        path.rename(path.with_name(path.name.replace(case.name, "innocent")))
    run = train(replace(config, epochs=1))
    told = f"1 test case with images of cases that train or validate, as innocent those of {case.name}: "
    assert told in capsys.readouterr().out
    evaluate_run(run)
    note = "Note: 1 case (innocent) with images that have trained or selected this model.\n"
    assert note in (run / "evaluation/table.md").read_text(encoding="utf-8")


# What goes wrong later


@pytest.mark.parametrize(("split", "steps"), [("validation", 2), ("train", 1)])
def test_a_case_that_goes_bad_meanwhile_stops_a_training_that_goes_on(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, split: str, steps: int
):
    """Its file is lost after the check: in the first validation, or when a training case's turn comes."""
    config = replace(config, cache=0)
    straight = train(replace(config, out=config.out.with_name("straight")))
    real = gmd.training.loop.train_step

    def losing(*given):
        turns = real(*given)
        for path in config.data[0].glob(f"{split}/*/*_flair.nii.gz"):
            path.rename(path.with_name(path.name + ".away"))
        return turns

    monkeypatch.setattr(gmd.training.loop, "train_step", losing)
    message = error_of(train, config)
    assert f"{split}/" in message
    assert "_flair.nii.gz: cannot be read" in message
    assert f"stopped at step {steps}, which {config.out / 'last.pt'} holds" in message
    assert "go on with --resume" in message
    assert load_checkpoint(config.out / "last.pt")["steps"] == steps

    monkeypatch.setattr(gmd.training.loop, "train_step", real)
    for no_check in (False, True):
        message = error_of(train, replace(config, resume=True, no_check=no_check))
        assert f"{split} case" in message
        assert "are not those that the run began with" in message
    for path in config.data[0].glob("*/*/*.away"):
        path.rename(path.with_suffix(""))
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


def test_a_training_whose_data_moved_goes_on(
    config: TrainBrats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """From its own config.yaml, with the new place."""
    straight = train(replace(config, out=config.out.with_name("straight")))
    real = gmd.training.loop.run_epoch

    def one_epoch(training, *given):
        if training.epochs == 1:
            raise KeyboardInterrupt
        real(training, *given)

    monkeypatch.setattr(gmd.training.loop, "run_epoch", one_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(gmd.training.loop, "run_epoch", real)
    (tmp_path / "data").rename(tmp_path / "there")
    line = ["train", "brats", "--config", str(config.out / "config.yaml"), "--out", str(config.out), "--resume"]
    assert gmd.cli.main(line) == 2
    assert f"{tmp_path / 'data'}: there is no such folder; if the data moved, give their" in capsys.readouterr().err
    assert gmd.cli.main([*line, "--data", str(tmp_path / "there")]) == 0
    assert_same_run(straight, config.out)
    assert read_splits(config.out)["test"][0]["root"] == str(tmp_path / "there")
    evaluate_run(config.out)


@pytest.mark.parametrize("no_check", [False, True])
def test_a_training_does_not_go_on_with_other_voxels(config: TrainBrats, no_check: bool):
    config = replace(config, epochs=1)
    train(config)
    before = read_splits(config.out)
    change(file_of(config, "train", "flair"), 5)
    again = replace(config, resume=True, no_check=no_check)
    if no_check:  # nobody looks, and nothing is forgotten
        train(again)
        assert read_splits(config.out) == before
    else:
        message = error_of(train, again)
        assert "the files of 1 train case are not those that the run began with, or hold other voxels" in message


# Little data


def test_two_patients_train_without_a_test(config: TrainBrats, tmp_path: Path, capsys: pytest.CaptureFixture):
    for number, case in enumerate(sorted((tmp_path / "data/train").iterdir())):
        case.rename(tmp_path / f"two{number}")
        shutil.move(tmp_path / f"two{number}", tmp_path / "two" / case.name)
    run = config.out
    train(replace(config, data=tmp_path / "two", epochs=1))
    line = ["train", "brats", "--config", str(run / "config.yaml"), "--resume"]
    assert gmd.cli.main(line) == 0
    printed = capsys.readouterr().out
    assert "no test cases: gmd evaluate needs --data" in printed
    assert f"next: gmd evaluate {run} --data UNSEEN_CASES\n" in printed
    assert [len(read_splits(run)[split]) for split in ("train", "validation", "test")] == [1, 1, 0]
    assert "has no test cases" in error_of(evaluate_run, run)
    assert f"gmd evaluate {run} --data FOLDER" in error_of(evaluate_run, run)
    evaluate_run(run, tmp_path / "data")
    write_report(run)


SPOILT: list[Callable[[dict], object]] = [
    lambda splits: splits.pop("train"),
    lambda splits: splits.pop("test"),
    lambda splits: splits.update(train=None),
    lambda splits: splits.update(validation={}),
    lambda splits: splits.update(test=["a"]),
    lambda splits: splits["train"][0].pop("name"),
    lambda splits: splits.pop("data"),
]


def test_splits_that_lack_something_are_named(config: TrainBrats):
    config = replace(config, epochs=1)
    path = train(config) / "splits.json"
    whole = path.read_text()
    for spoil in SPOILT:
        splits = json.loads(whole)
        spoil(splits)
        path.write_text(json.dumps(splits))
        assert str(path) in error_of(write_report, config.out)
        if "data" in splits:  # --resume has its own
            assert str(path) in error_of(train, replace(config, resume=True))


@pytest.mark.parametrize("content", ["[]", "3", "{", b"\xff"])
def test_splits_that_are_none_are_named(tmp_path: Path, content: str | bytes):
    (tmp_path / "splits.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"splits\.json: .*[Rr]estore it from a copy"):
        read_splits(tmp_path)["train"]
