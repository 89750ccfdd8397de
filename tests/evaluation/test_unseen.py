"""Which cases a run may be scored on: what trained or selected it is known again, whatever leads to it."""

import json
import shutil
from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.evaluation.segmentation.held_out import own_test_cases, unseen_cases
from gmd.training.saved_run import read_config
from helpers.evaluation_cases import names, untrained_run


@pytest.fixture
def run(phantoms: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms, tmp_path / "data")
    return untrained_run(tmp_path)


def link(source: Path, name: str, folder: Path) -> Path:
    """`folder` with links to the files of a case, which is called `name` there."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name.replace(source.name, name)).symlink_to(path)
    return folder


def names_in(run: Path, data: Path) -> list[str]:
    return [case.name for case in unseen_cases(run, read_config(run), data).cases]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_links_to_files_are_known_by_what_they_lead_to(run: Path, tmp_path: Path, split: str):
    case = min(names(run, split))
    link(run.parent / "data" / case, "innocent", tmp_path / "linked/innocent")
    shutil.copytree(run.parent / "data" / case, tmp_path / "linked/copied", copy_function=shutil.copy)
    if split == "test":
        assert names_in(run, tmp_path / "linked") == ["copied", "innocent"]
        return
    with pytest.raises(UserError, match=r"2 of its 2 cases have trained or selected this model \(copied, innocent\)"):
        names_in(run, tmp_path / "linked")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_one_modality_that_was_seen_is_enough(run: Path, tmp_path: Path, split: str):
    """Here the three others are copies."""
    case = min(names(run, split))
    new = shutil.copytree(run.parent / "data" / case, tmp_path / "linked/new")
    (new / f"{case}_t2.nii.gz").unlink()
    (new / f"{case}_t2.nii.gz").symlink_to(run.parent / "data" / case / f"{case}_t2.nii.gz")
    if split == "test":
        assert names_in(run, tmp_path / "linked") == ["new"]
        return
    with pytest.raises(UserError, match="1 of its 1 cases"):
        names_in(run, tmp_path / "linked")


def test_a_store_that_all_data_are_links_to_does_not_make_them_one(phantoms: Path, tmp_path: Path):
    """All files lie in one folder; the training data and the new ones are links to them."""
    store = tmp_path / "store"
    for case in sorted(phantoms.iterdir()):
        shutil.copytree(case, store, dirs_exist_ok=True)
        (tmp_path / "data" / case.name).mkdir(parents=True)
        for path in case.iterdir():
            (tmp_path / "data" / case.name / path.name).symlink_to(store / path.name)
    run = untrained_run(tmp_path)
    for split in ("train", "test"):
        case = min(names(run, split))
        link(tmp_path / "data" / case, "new", tmp_path / f"new_{split}" / "new")
    assert names_in(run, tmp_path / "new_test") == ["new"]
    with pytest.raises(UserError, match="1 of its 1 cases"):
        names_in(run, tmp_path / "new_train")


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({}, "does not name the {} cases, their folders and"),
        ({"train": None}, "its content: value of key 'train' of dict is not a list"),
        ({"test": [{"name": "a"}]}, "does not name the {} cases, their folders and"),
        ([], "expected its content to be keys and values"),
    ],
)
def test_splits_that_do_not_say_which_cases_they_hold_are_an_error(run: Path, splits: dict | list, told: str):
    (run / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(UserError, match=rf"splits\.json: {told.format('test')}"):
        own_test_cases(run, read_config(run))
    with pytest.raises(UserError, match=rf"splits\.json: {told.format('train')}"):
        unseen_cases(run, read_config(run), run.parent / "data")
