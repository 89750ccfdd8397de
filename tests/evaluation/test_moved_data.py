"""A run's data that lie elsewhere now are known again; what is not the run's own data is not taken for it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

import gmd.cli
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.segmentation.cross_validation import evaluate_folds
from gmd.evaluation.segmentation.held_out import own_test_cases, unseen_cases
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.scoring.segmentation.tables import read_cases
from gmd.training.saved_run import read_config
from helpers.evaluation_cases import names, untrained_run
from helpers.npy_cases import as_rfnet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On six cases in `here/data`, of which one tests. No pictures are drawn."""
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
    shutil.copytree(phantoms, tmp_path / "here/data")
    return untrained_run(tmp_path / "here", modalities=("flair", "t1ce")).rename(tmp_path / "run")


def change(path: Path) -> None:
    """Other voxels, as after another step of preprocessing; of a label map, other labels."""
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj)
    voxels = np.where(voxels > 0, 2, voxels) if "_seg" in path.name else np.where(voxels > 0, voxels + 3, voxels)
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), path)


def only_test(run: Path) -> str:
    [name] = names(run, "test")
    return name


def own_notes(run: Path, data: Path) -> list[str]:
    """What is said of the run's own test cases there. Fails if they are taken for other data."""
    held_out = unseen_cases(run, read_config(run), data)
    assert held_out.data is None
    assert {case.name for case in held_out.cases} == names(run, "test")
    assert not held_out.failed
    assert all(data.resolve() in case.folder.resolve().parents for case in held_out.cases)
    return held_out.notes


def rename_parent(here: Path, there: Path) -> None:
    here.rename(there)


def link(here: Path, there: Path) -> None:
    here.rename(there.with_name("store"))
    there.symlink_to(there.with_name("store"))


def only_tests(here: Path, there: Path) -> None:
    run = there.parent / "run"
    shutil.copytree(here / "data" / only_test(run), there / "data" / only_test(run))
    shutil.rmtree(here)


def in_folders(here: Path, there: Path) -> None:
    """Sorted by what the run made of them."""
    for split in ("train", "validation", "test"):
        for name in names(there.parent / "run", split):
            shutil.copytree(here / "data" / name, there / "data" / split / name)
    shutil.rmtree(here)


def deeper(here: Path, there: Path) -> None:
    shutil.copytree(here / "data", there / "data/site1/brats")
    shutil.rmtree(here)


MOVES = [rename_parent, link, only_tests, in_folders, deeper]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
def test_moved_data_are_the_runs_own(run: Path, tmp_path: Path, move: Callable):
    move(tmp_path / "here", tmp_path / "there")
    with pytest.raises(UserError, match=r"1 of its test cases are not at .*here/data any more; .* --data NEWPLACE"):
        own_test_cases(run, read_config(run))
    assert own_notes(run, tmp_path / "there/data") == []


def test_its_results_are_those_of_the_run(run: Path, tmp_path: Path):
    evaluate_run(run)
    before = {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()}
    shutil.rmtree(run / "evaluation")
    (tmp_path / "here").rename(tmp_path / "there")
    assert gmd.cli.main(["evaluate", str(run)]) == 2
    assert gmd.cli.main(["evaluate", str(run), "--data", str(tmp_path / "there/data")]) == 0
    assert {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()} == before


def test_data_that_have_not_moved_may_be_given(run: Path, tmp_path: Path):
    assert own_notes(run, tmp_path / "here/data") == []


def test_a_copy_with_new_cases_is_the_runs_own(run: Path, tmp_path: Path):
    """They are not scored with its test cases, and that is said."""
    shutil.copytree(tmp_path / "here/data" / only_test(run), tmp_path / "here/data/late")
    for path in (tmp_path / "here/data/late").iterdir():
        change(path)
    assert own_notes(run, tmp_path / "here/data") == [
        f"1 case (late) of {tmp_path / 'here/data'} not scored, as they are none of the run's"
    ]


def test_unpacked_files_are_the_same_case(run: Path, tmp_path: Path):
    for path in (tmp_path / "here/data").glob("*/*.nii.gz"):
        nibabel.save(nibabel.load(path), path.with_suffix(""))
        path.unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    assert own_notes(run, tmp_path / "there/data") == []


def test_changed_voxels_are_said(run: Path, tmp_path: Path):
    """Where they were in training, and elsewhere; of the label map alone, and of everything."""
    told = f"1 case ({only_test(run)}) with other voxels in their files than when the run began"
    change(tmp_path / f"here/data/{only_test(run)}/{only_test(run)}_seg.nii.gz")
    assert own_test_cases(run, read_config(run)).notes == [told]
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert own_notes(run, tmp_path / "there/data") == [told]
    for path in (tmp_path / "there/data").glob("*/*.nii.gz"):
        change(path)
    assert own_notes(run, tmp_path / "there/data") == [told]
    evaluate_run(run, tmp_path / "there/data")
    assert f"\nNote: {told}.\n" in (run / "evaluation/table.md").read_text(encoding="utf-8")


def test_another_case_of_a_tests_name_is_said(run: Path, tmp_path: Path):
    """In the data of another clinic, which are scored as these."""
    shutil.copytree(tmp_path / "here/data" / only_test(run), tmp_path / "clinic" / only_test(run))
    for path in (tmp_path / "clinic").glob("*/*.nii.gz"):
        change(path)
    held_out = unseen_cases(run, read_config(run), tmp_path / "clinic")
    assert held_out.data == tmp_path / "clinic"
    assert held_out.notes == [f"1 case ({only_test(run)}) called like test cases of the run, but with other images"]


@pytest.mark.parametrize("kept", ["all", "one image", "another name of the image"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_renamed_copy_of_a_seen_case_is_refused(run: Path, tmp_path: Path, split: str, kept: str):
    seen = min(names(run, split))
    folder = shutil.copytree(tmp_path / "here/data" / seen, tmp_path / "clinic/new")
    for path in sorted(folder.iterdir()):
        if kept != "all" and "_flair" not in path.name:
            change(path)
        path.rename(path.with_name(path.name.replace(seen, "new")))
    if kept == "another name of the image":
        (folder / "new_t1ce.nii.gz").unlink()
        (folder / "new_flair.nii.gz").rename(folder / "new_t1ce.nii.gz")
    with pytest.raises(UserError, match=r"1 of its 1 cases have trained or selected this model \(new\)"):
        unseen_cases(run, read_config(run), tmp_path / "clinic")


@pytest.mark.parametrize("listing", ["now", "earlier"])
@pytest.mark.parametrize("way", ["link", "copy"])
def test_a_seen_image_under_a_tests_name_is_refused(run: Path, tmp_path: Path, way: str, listing: str):
    seen, test = min(names(run, "train")), only_test(run)
    folder = shutil.copytree(tmp_path / "here/data" / test, tmp_path / "clinic" / test)
    (folder / f"{test}_flair.nii.gz").unlink()
    put = os.symlink if way == "link" else shutil.copy
    put(tmp_path / f"here/data/{seen}/{seen}_flair.nii.gz", folder / f"{test}_flair.nii.gz")
    if listing == "earlier" and way == "link":  # which knows no copies
        edit(run, as_before)
    with pytest.raises(UserError, match="1 of its 1 cases have trained or selected this model"):
        unseen_cases(run, read_config(run), tmp_path / "clinic")


def test_a_copy_that_tested_when_the_run_began_is_the_runs_own(run: Path, tmp_path: Path):
    """Training has told of it, and so does the table."""
    train = json.loads((run / "splits.json").read_text())["train"][0]
    edit(run, lambda case: case["checksums"].update(train["checksums"]) if case["name"] == only_test(run) else None)
    test = tmp_path / "here/data" / only_test(run)
    for path in test.iterdir():
        seen = path.name.replace(only_test(run), train["name"])
        shutil.copy(tmp_path / "here/data" / train["name"] / seen, path)
    (tmp_path / "here").rename(tmp_path / "there")
    told = f"1 case ({only_test(run)}) with images that have trained or selected this model"
    assert own_notes(run, tmp_path / "there/data") == [told]


def test_advice_leads_out(run: Path, tmp_path: Path):
    """Where the run's own data are gone, "leave --data out" would be none."""
    seen = min(names(run, "train"))
    shutil.copytree(tmp_path / "here/data" / seen, tmp_path / "clinic" / seen)
    with pytest.raises(UserError, match=r"or leave --data out to score the run's test cases"):
        unseen_cases(run, read_config(run), tmp_path / "clinic")
    (tmp_path / "here").rename(tmp_path / "there")
    told = rf"or the folder that the run's own test cases are in now \({only_test(run)}\)"
    with pytest.raises(UserError, match=told):
        unseen_cases(run, read_config(run), tmp_path / "clinic")


def test_a_test_case_beside_new_ones_is_other_data(run: Path, tmp_path: Path):
    for name, source in ((only_test(run), only_test(run)), ("new", only_test(run))):
        shutil.copytree(tmp_path / "here/data" / source, tmp_path / "clinic" / name)
    for path in (tmp_path / "clinic/new").iterdir():
        change(path)
    held_out = unseen_cases(run, read_config(run), tmp_path / "clinic")
    assert (held_out.data, len(held_out.cases), held_out.notes) == (tmp_path / "clinic", 2, [])


def edit(run: Path, change: Callable[[dict], None]) -> None:
    values = json.loads((run / "splits.json").read_text())
    for split in ("train", "validation", "test"):
        for case in values[split]:
            change(case)
    (run / "splits.json").write_text(json.dumps(values))


def as_before(case: dict) -> None:
    """As earlier versions listed a case."""
    for key in ("labels", "root", "files", "checksums"):
        case.pop(key)


def test_runs_of_earlier_versions_know_their_cases_by_name(run: Path, tmp_path: Path):
    edit(run, as_before)
    assert own_test_cases(run, read_config(run)).notes == []
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match="1 of its test cases are not at"):
        own_test_cases(run, read_config(run))
    [note] = own_notes(run, tmp_path / "there/data")
    assert note.endswith("known by their names alone, as the run has no checksums of them")


def test_after_no_check_too(run: Path, tmp_path: Path):
    edit(run, lambda case: case.pop("checksums"))
    (tmp_path / "here").rename(tmp_path / "there")
    [note] = own_notes(run, tmp_path / "there/data")
    assert "known by their names alone" in note


def test_where_a_case_lies_may_be_part_of_its_name(phantoms: Path, tmp_path: Path):
    """Two of one name, in HGG and LGG; then the folder of one alone, whose cases need no such names."""
    for number, case in enumerate(sorted(phantoms.iterdir())):
        group = "HGG" if number < 3 else "LGG"
        folder = shutil.copytree(case, tmp_path / "here/data" / group / f"patient{number % 3}")
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace(case.name, folder.name)))
    run = untrained_run(tmp_path / "here", modalities=("flair", "t1ce")).rename(tmp_path / "run")
    [test] = names(run, "test")
    assert "__" in test
    group, _, name = test.partition("__")
    shutil.copytree(tmp_path / "here/data" / group / name, tmp_path / "there" / name)
    shutil.rmtree(tmp_path / "here")
    assert own_notes(run, tmp_path / "there") == []


def test_data_sets_that_moved_together(phantoms: Path, tmp_path: Path):
    """Two, with cases of the same names; given by the folder that both are in now."""
    for number, case in enumerate(sorted(phantoms.iterdir())):
        folder = shutil.copytree(case, tmp_path / "here/data" / "AB"[number % 2] / f"patient{number // 2}")
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace(case.name, folder.name)))
    roots = tuple(tmp_path / "here/data" / name for name in "AB")
    run = untrained_run(tmp_path / "here", modalities=("flair",), data=roots).rename(tmp_path / "run")
    assert own_test_cases(run, read_config(run)).notes == []
    (tmp_path / "here").rename(tmp_path / "there")
    assert own_notes(run, tmp_path / "there/data") == []


def test_folds_whose_data_moved(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
    shutil.copytree(phantoms, tmp_path / "data")
    for fold in range(2):
        untrained_run(tmp_path, f"cv/fold{fold}", modalities=("flair",), folds=2, fold=fold)
    rows = evaluate_folds(tmp_path / "cv")
    (tmp_path / "data").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"cv: nothing was scored\. 6 of 6 .* gmd evaluate .*cv --data NEWPLACE"):
        evaluate_folds(tmp_path / "cv")
    assert evaluate_folds(tmp_path / "cv", data=tmp_path / "there") == rows
    assert {score.case for score in read_cases(tmp_path / "cv/evaluation/cases.csv")} == set(os.listdir(phantoms))
    for path in phantoms.glob("*/*"):
        target = tmp_path / "clinic" / f"new{path.parent.name}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        change(target)
    with pytest.raises(UserError, match=r"clinic: not the data that the folds .* gmd evaluate .*fold0 --data"):
        evaluate_folds(tmp_path / "cv", data=tmp_path / "clinic")


def test_runs_are_compared_by_what_the_cases_hold(run: Path, tmp_path: Path):
    """Not by where they were when the run began."""
    evaluate_run(run)
    moved = shutil.copytree(run, tmp_path / "moved")
    edit(moved, lambda case: case.update(folder=case["folder"].replace("here", "there")))
    compare([run, moved], tmp_path / "out")
    assert "Note: paired by name alone" not in (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    edit(moved, lambda case: case["checksums"].update(flair="0", t1ce="1"))
    compare([run, moved], tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert f"Note: 1 case of run and moved share the name but not the images ({only_test(run)}): " in text


def test_runs_that_read_labels_otherwise_are_not_compared_in_silence(run: Path, tmp_path: Path):
    evaluate_run(run)
    other = shutil.copytree(run, tmp_path / "other")
    told = f"Note: 1 case of run and other had other --labels in each ({only_test(run)}), so that the regions are not"
    edited = {
        "{values: {1: a, 2: b, 4: c}, regions: {WT: [1, 2, 4], TC: [1, 4], ET: [1]}}": told,
        "{values: {1: a, 2: b, 4: c}, regions: {WT: [1, 2, 4], TC: [4, 1], ET: [4]}}": "",
    }
    for labels, note in edited.items():
        edit(other, lambda case, labels=labels: case.update(labels=labels))
        compare([run, other], tmp_path / "out")
        text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
        assert note in text
        assert ("had other --labels" in text) == bool(note)


def test_a_patient_of_two_lists_is_tested_where_the_data_lie_now(phantoms: Path, tmp_path: Path):
    """Published lists of BraTS 2023 may have one examination of a patient to train on, and another to test."""
    as_rfnet(phantoms, tmp_path / "data")
    called = [f"BraTS-GLI-0000{number // 2}-00{number % 2}" for number in range(6)]
    for kind in ("vol", "seg"):
        for path, name in zip(sorted((tmp_path / "data" / kind).iterdir()), called, strict=True):
            path.rename(path.with_name(f"{name}_{kind}.npy"))
    lists = {"train_list": called[:4:2], "val_list": called[4:5], "test_list": called[1::2]}
    for option, those in lists.items():
        (tmp_path / option).write_text("\n".join(those))
    run = untrained_run(
        tmp_path, modalities=("flair", "t1ce"), method="joint", **{option: tmp_path / option for option in lists}
    )
    assert names(run, "test") == {"BraTS-GLI-00000-001", "BraTS-GLI-00001-001", "BraTS-GLI-00002-001"}
    (tmp_path / "data").rename(tmp_path / "moved")
    held_out = unseen_cases(run, read_config(run), tmp_path / "moved")
    assert (held_out.data, held_out.failed, held_out.notes) == (None, {}, [])
    assert {case.name for case in held_out.cases} == names(run, "test")
    # a copy of what trained is refused as ever
    (tmp_path / "others/vol").mkdir(parents=True)
    (tmp_path / "others/seg").mkdir()
    for kind in ("vol", "seg"):
        source = tmp_path / "moved" / kind / f"{called[0]}_{kind}.npy"
        shutil.copy(source, tmp_path / "others" / kind / f"new_{kind}.npy")
    with pytest.raises(UserError, match="have trained or selected this model"):
        unseen_cases(run, read_config(run), tmp_path / "others")
