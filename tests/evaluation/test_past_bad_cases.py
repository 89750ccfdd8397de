"""An evaluation goes on past cases that cannot be scored, keeps the others, and says which are missing and why."""

import csv
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import gmd.cli
import gmd.evaluation.segmentation.case_pictures as case_pictures
import gmd.evaluation.segmentation.case_scores as case_scores
import gmd.report
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.segmentation.cross_validation import score_folds
from gmd.evaluation.segmentation.held_out import NothingScored
from gmd.evaluation.segmentation.single_run import evaluate_run, score_run
from gmd.scoring.segmentation.tables import read_cases
from helpers.bad_images import BAD_IMAGES, spoil
from helpers.evaluation_cases import names, untrained_run
from helpers.report_cases import Page

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two modalities, with one case to train on, one to validate and four to test. No pictures are drawn."""
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
    for split, case in zip(("train", "validation", *["test"] * 4), sorted(phantoms.iterdir()), strict=True):
        shutil.copytree(case, tmp_path / "data" / split / case.name)
    return untrained_run(tmp_path, modalities=("flair", "t1ce"))


def file_of(run: Path, case: str, key: str) -> Path:
    [path] = (run.parent / "data").glob(f"*/{case}/{case}_{key}.nii.gz")
    return path


def relabel(path: Path) -> None:
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[0, 0, 0] = 7
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)


def scored(folder: Path) -> set[str]:
    return {score.case for score in read_cases(folder / "cases.csv")}


def test_each_kind_of_bad_case_is_told_and_the_others_are_scored(run: Path, capsys: pytest.CaptureFixture):
    """A label that the scheme lacks, a file that is cut off, one that is gone."""
    *bad, good = sorted(names(run, "test"))
    relabel(file_of(run, bad[0], "seg"))
    cut = file_of(run, bad[1], "flair")
    cut.write_bytes(cut.read_bytes()[:-50])
    file_of(run, bad[2], "t1ce").unlink()  # else the case would be scored as one that never had a T1ce
    reasons = (
        "label values 0, 1, 2, 4, 7 found",
        "_flair.nii.gz: cannot be read",
        "_t1ce.nii.gz is not there any more",
    )

    assert gmd.cli.main(["evaluate", str(run)]) == 1
    told = capsys.readouterr().err
    table = (run / "evaluation/table.md").read_text(encoding="utf-8")
    page = Page((run / "report.html").read_text(encoding="utf-8")).text()
    for case, reason in zip(bad, reasons, strict=True):
        [line] = [line for line in told.splitlines() if f"gmd: {case} cannot be scored: " in line]
        assert reason in line
        for text in (table, page):
            assert f"{case}: " in text
            assert reason in text
    assert "Hard Dice, mean over 1 of 4 cases of the test split; best.pt (epoch 1) of run, fp32." in table
    assert "\n3 of 4 cases could not be scored: " in table
    assert scored(run / "evaluation") == {good}
    with open(run / "evaluation/table.csv", newline="") as file:
        assert {line["cases"] for line in csv.DictReader(file)} == {"1", ""}


def test_once_mended_nothing_is_missing(run: Path, capsys: pytest.CaptureFixture):
    bad = min(names(run, "test"))
    path = file_of(run, bad, "seg")
    content = path.read_bytes()
    relabel(path)
    assert score_run(run).failed.keys() == {bad}
    path.write_bytes(content)
    assert gmd.cli.main(["evaluate", str(run)]) == 0
    assert scored(run / "evaluation") == names(run, "test")
    assert "could not be scored" not in (run / "evaluation/table.md").read_text(encoding="utf-8")


def test_other_data_are_scored_past_a_bad_case(run: Path, tmp_path: Path):
    first, second, *_ = sorted(names(run, "test"))
    for name, source in (("new1", first), ("new2", second)):
        shutil.copytree(run.parent / "data/test" / source, tmp_path / "clinic" / name)
    relabel(next((tmp_path / "clinic/new2").glob("*_seg.nii.gz")))
    assert score_run(run, tmp_path / "clinic").failed.keys() == {"new2"}
    assert scored(run / "evaluation/clinic") == {"new1"}
    assert f"mean over 1 of 2 cases of {tmp_path / 'clinic'}" in (run / "evaluation/clinic/table.md").read_text("utf-8")


def test_moved_data_may_lack_a_test_case(run: Path, tmp_path: Path):
    lost = min(names(run, "test"))
    (tmp_path / "data").rename(tmp_path / "there")
    shutil.rmtree(tmp_path / "there/test" / lost)
    for split in ("train", "validation"):  # else these would be cases of their own, of which nobody says whose
        for case in (tmp_path / "there" / split).iterdir():
            case.rename(tmp_path / "there/test" / case.name)
    assert score_run(run, tmp_path / "there").failed == {lost: f"is not in {tmp_path / 'there'}"}
    assert scored(run / "evaluation") == names(run, "test") - {lost}


def test_if_nothing_can_be_scored_earlier_results_stay(run: Path):
    evaluate_run(run)
    before = {path: path.read_bytes() for path in (run / "evaluation").iterdir()}
    for case in names(run, "test"):
        relabel(file_of(run, case, "seg"))
    with pytest.raises(NothingScored, match=r"nothing was scored\. 4 of 4 cases could not be scored: ") as error:
        score_run(run)
    assert error.value.failed.keys() == names(run, "test")
    assert gmd.cli.main(["evaluate", str(run)]) == 2
    assert {path: path.read_bytes() for path in (run / "evaluation").iterdir()} == before


class Killed(BaseException):
    """What nothing in the package catches."""


def after_two_cases(monkeypatch: pytest.MonkeyPatch, what: BaseException) -> None:
    """Raises it when the third case is to be scored."""
    real, count = case_scores.evaluate_cases, []

    def scoring(*given, **named):
        count.append(1)
        if len(count) == 3:
            raise what
        return real(*given, **named)

    monkeypatch.setattr(case_scores, "evaluate_cases", scoring)


@pytest.mark.parametrize("what", [Killed(), KeyboardInterrupt(), OSError("disk"), AssertionError("bug")])
def test_a_stopped_evaluation_leaves_what_was_scored(run: Path, monkeypatch: pytest.MonkeyPatch, what: BaseException):
    evaluate_run(run)
    full = (run / "evaluation/cases.csv").read_text()
    after_two_cases(monkeypatch, what)
    with pytest.raises(type(what)):
        evaluate_run(run)
    left = (run / "evaluation/cases.csv").read_text()
    assert full.startswith(left)
    assert scored(run / "evaluation") == set(sorted(names(run, "test"))[:2])
    # a table of all cases beside the scores of some would be taken for theirs
    assert {path.name for path in (run / "evaluation").iterdir()} == {"cases.csv", "scored.txt"}


def test_scores_are_written_as_they_come_of_other_data_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number, case in enumerate(sorted(names(run, "test"))):
        shutil.copytree(run.parent / "data/test" / case, tmp_path / "clinic" / f"new{number}")
    after_two_cases(monkeypatch, Killed())
    with pytest.raises(Killed):
        evaluate_run(run, tmp_path / "clinic")
    assert scored(run / "evaluation/clinic") == {"new0", "new1"}
    evaluate_run(run, tmp_path / "clinic")  # into the same folder
    assert [path.name for path in (run / "evaluation").iterdir()] == ["clinic"]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 GB")]
)
def test_a_case_that_does_not_fit_into_memory_stops_no_other(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    after_two_cases(monkeypatch, error)
    [(case, reason)] = score_run(run).failed.items()
    assert case == sorted(names(run, "test"))[2]
    assert reason.startswith("out of memory (")
    assert len(scored(run / "evaluation")) == 3


def test_runs_with_other_failures_are_compared_on_what_both_have(run: Path, tmp_path: Path):
    other = untrained_run(tmp_path, "other", modalities=("flair", "t1ce"))
    evaluate_run(other)
    relabel(file_of(run, min(names(run, "test")), "seg"))
    score_run(run)
    compare([run, other], tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "3 cases" in text
    assert f"1 case of other left out, which not every run has scored: {min(names(run, 'test'))}" in text


@pytest.fixture
def folds(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three untrained folds of two test cases each."""
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
    shutil.copytree(phantoms, tmp_path / "data")
    for fold in range(3):
        untrained_run(tmp_path, f"cv/fold{fold}", modalities=("flair", "t1ce"), folds=3, fold=fold)
    return tmp_path / "cv"


def test_folds_are_scored_past_bad_cases(folds: Path, capsys: pytest.CaptureFixture):
    """One case of the first fold, and all of the second."""
    bad = {min(names(folds / "fold0", "test")), *names(folds / "fold1", "test")}
    for case in bad:
        relabel(folds.parent / "data" / case / f"{case}_seg.nii.gz")
    assert gmd.cli.main(["evaluate", str(folds)]) == 1
    assert scored(folds / "evaluation") == {path.name for path in (folds.parent / "data").iterdir()} - bad
    assert not (folds / "fold1/evaluation").exists()
    table = (folds / "evaluation/table.md").read_text(encoding="utf-8")
    assert table.startswith("Hard Dice, mean over the 3 of 6 cases of 3 folds, ")
    page = Page((folds / "report.html").read_text(encoding="utf-8")).text()
    told = capsys.readouterr().err
    for text in (table, page):
        assert "3 of 6 cases could not be scored: " in text
        assert all(f"{case}: " in text for case in bad)
    assert all(f"gmd: {case} cannot be scored: " in told for case in bad)


def test_if_no_fold_has_a_case_it_is_an_error(folds: Path):
    for path in (folds.parent / "data").glob("*/*_seg.nii.gz"):
        relabel(path)
    with pytest.raises(UserError, match=r"cv: nothing was scored\. 6 of 6 cases .*--data NEWPLACE"):
        score_folds(folds)
    assert not (folds / "evaluation").exists()


def test_other_data_are_scored_past_what_no_name_explains(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """A case without labels, one of two images of one modality, one whose image is a pipe."""
    for name, source in zip(("bare", "good", "pipe", "twice"), sorted(names(run, "test")), strict=True):
        shutil.copytree(run.parent / "data/test" / source, tmp_path / "clinic" / name)
    [path] = (tmp_path / "clinic/bare").glob("*_seg.nii.gz")
    path.unlink()
    [path] = (tmp_path / "clinic/pipe").glob("*_flair.nii.gz")
    spoil(path, "a pipe")
    [path] = (tmp_path / "clinic/twice").glob("*_t1ce.nii.gz")
    shutil.copy(path, path.with_name("twice_t1ce.nii.gz"))
    failed = score_run(run, tmp_path / "clinic").failed
    assert scored(run / "evaluation/clinic") == {"good"}
    assert "no label map (" in failed["bare"]
    assert "_flair.nii.gz: is a named pipe" in failed["pipe"]
    assert "both match 't1ce'" in failed["twice"]
    assert "mean over 1 of 4 cases" in (run / "evaluation/clinic/table.md").read_text("utf-8")
    for name in ("bare", "good", "pipe"):
        shutil.rmtree(tmp_path / "clinic" / name)
    with pytest.raises(UserError, match="both match 't1ce'"):
        score_run(run, tmp_path / "clinic")


def test_each_kind_of_bad_image_is_told_and_the_others_are_scored(run: Path, capsys: pytest.CaptureFixture):
    kinds = ("claims 32767 voxels along each axis", "a socket", "bomb")
    *bad, good = sorted(names(run, "test"))
    for case, key, kind in zip(bad, ("seg", "flair", "t1ce"), kinds, strict=True):
        spoil(file_of(run, case, key), kind)
    failed = score_run(run).failed
    assert scored(run / "evaluation") == {good}
    for case, kind in zip(bad, kinds, strict=True):
        assert BAD_IMAGES[kind][1] in failed[case]


def test_pictures_and_reports_that_cannot_be_made_leave_the_tables(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", case_pictures.draw_cases)
    for where, name in ((case_pictures, "draw_case"), (gmd.report, "write_report")):
        monkeypatch.setattr(where, name, lambda *_, name=name: (_ for _ in ()).throw(ZeroDivisionError(name)))
    assert gmd.cli.main(["evaluate", str(run)]) == 1
    assert scored(run / "evaluation") == names(run, "test")
    assert (run / "evaluation/table.md").exists()
    told = capsys.readouterr().err
    assert told.count("gmd: no picture of ") == 3
    assert "gmd: no report is written: ZeroDivisionError: write_report" in told
