"""`gmd predict` on a folder of cases: what counts as one, what stops none of the others, where the outputs may lie."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import gmd.predict.predictor
from gmd.predict import predict
from helpers.nifti_cases import error_of
from helpers.predict_cases import copy_cases, files, image_of, voxels, write_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def cases(phantoms: Path, tmp_path: Path) -> list[Path]:
    """Three case folders in a folder of their own."""
    return copy_cases(phantoms, tmp_path / "cases")


def test_a_directory_skips_what_is_done_and_goes_on_where_a_case_fails(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = tmp_path / "out"
    predict(run, cases[0], {}, out / "case0.nii.gz")
    capsys.readouterr()
    done = (out / "case0.nii.gz").read_bytes()
    (out / "case2.nii.gz").write_bytes(done[:-9])  # cut off: to be done anew
    image_of(cases[1], "t1").write_bytes(b"<html>404</html>")
    assert predict(run, cases[0].parent, {}, out) == 1
    assert files(out) == ["case0.nii.gz", "case2.nii.gz"]
    assert (out / "case0.nii.gz").read_bytes() == done
    printed = capsys.readouterr().out
    assert "1 done, 1 skipped (their files are there" in printed
    assert f"1 failed:\n  case1: {image_of(cases[1], 't1')}: cannot be read" in printed
    image_of(cases[1], "t1").unlink()
    assert predict(run, cases[0].parent, {}, out) == 0
    assert "1 done, 2 skipped (their files are there; delete them to have them done anew), 0 failed" in (
        capsys.readouterr().out
    )
    predict(run, cases[1], {}, tmp_path / "alone.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "alone.nii.gz"), voxels(out / "case1.nii.gz"))


def test_probabilities_that_are_not_there_yet_are_made(run: Path, cases: list[Path], tmp_path: Path):
    for folder in cases[1:]:
        shutil.rmtree(folder)
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 0
    assert predict(run, cases[0].parent, {}, tmp_path / "out", probabilities=True) == 0
    assert files(tmp_path / "out") == ["case0.nii.gz", "case0_probabilities.nii.gz"]


def test_a_folder_that_is_no_case_does_not_stop_the_others(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Found while looking for cases, before any is read; however deep they lie, as in HGG/ and LGG/."""
    shutil.copy(image_of(cases[0], "t1"), cases[0] / "again_t1.nii.gz")
    for grade in ("HGG", "LGG"):
        shutil.copytree(cases[2], cases[2].parent / grade / "same name")
    cases[0].rename(cases[2].parent / "HGG" / "case0")
    (cases[2].parent / "documents").mkdir()
    (cases[2].parent / "documents" / "read me.txt").touch()
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 1
    assert files(tmp_path / "out") == [
        f"{name}.nii.gz" for name in ("HGG__same name", "LGG__same name", "case1", "case2")
    ]
    printed = capsys.readouterr().out
    assert "4 done, 0 skipped, 1 failed:" in printed
    folder = cases[2].parent / "HGG" / "case0"
    assert f"HGG/case0: {folder}: again_t1.nii.gz and case0_t1.nii.gz both match 't1'" in printed


def test_folders_with_images_of_other_names_are_told_of(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """They were left out in silence as long as nothing else was wrong."""
    for path in cases[1].iterdir():
        path.rename(cases[1] / path.name.replace("_", "-").replace("t", "T"))
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["case0.nii.gz", "case2.nii.gz"]
    printed = capsys.readouterr().out
    assert "2 done, 0 skipped, 1 failed:" in printed
    assert f"case1: {cases[1]}: no case found" in printed


def test_a_case_with_other_images_below_is_one_case(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    (cases[0] / "raw").mkdir()
    shutil.copy(image_of(cases[0], "t1"), cases[0] / "raw" / "scan.nii.gz")
    assert predict(run, cases[0], {}, tmp_path / "seg.nii.gz") == 0
    assert files(tmp_path / "cases" / "case0" / "raw") == ["scan.nii.gz"]
    assert f"left out: raw: {cases[0] / 'raw'}: no case found" in capsys.readouterr().out
    # what is wrong with the case itself is told first
    shutil.copy(image_of(cases[0], "t1"), cases[0] / "again_t1.nii.gz")
    message = error_of(predict, run, cases[0], {}, tmp_path / "seg.nii.gz")
    assert f"{cases[0]}: again_t1.nii.gz and case0_t1.nii.gz both match 't1'" in message


@pytest.mark.parametrize("patterns", [(), ("t1=*.nii.gz",)], ids=["BraTS", "any name"])
def test_outputs_inside_the_folder_of_the_cases_are_no_cases(
    cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, patterns: tuple[str, ...]
):
    """The same command goes on with the rest: the segmentations are not what it segments next."""
    run = write_run(tmp_path / "run", patterns=patterns)
    for folder in cases:
        for path in folder.iterdir():
            if path != image_of(folder, "t1"):
                path.unlink()
    out = cases[0].parent / "seg"
    assert predict(run, cases[0].parent, {}, out) == 0
    for name in ("case1.nii.gz", "case2.nii.gz"):  # as if interrupted after the first
        (out / name).unlink()
    capsys.readouterr()
    assert predict(run, cases[0].parent, {}, out) == 0
    assert "2 done, 1 skipped" in capsys.readouterr().out
    assert files(out) == ["case0.nii.gz", "case1.nii.gz", "case2.nii.gz"]
    message = error_of(predict, run, cases[0].parent, {}, cases[0].parent)
    assert f"{cases[0].parent}: is the folder of the cases itself; give another, e.g. {out.parent}" in message
    message = error_of(predict, run, cases[0].parent, {}, cases[1])
    assert f"{cases[1]}: is itself a case of {cases[1].parent}; give another folder" in message
    # what lies below the folder of the outputs is none of them
    shutil.rmtree(out)
    for done, skipped in ((3, 0), (0, 3)):
        assert predict(run, tmp_path, {}, cases[0].parent) == 0
        assert f"{done} done, {skipped} skipped" in capsys.readouterr().out


def test_a_case_that_is_alone_in_its_directory_is_a_directory(run: Path, cases: list[Path], tmp_path: Path):
    for folder in cases[1:]:
        shutil.rmtree(folder)
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["case0.nii.gz"]
    # no case at all
    shutil.rmtree(cases[0])
    message = error_of(predict, run, cases[0].parent, {}, tmp_path / "out")
    assert "no case found" in message
    assert "Or give the files one by one: --image flair=FILE" in message


def test_no_output_of_a_directory_may_be_an_input(cases: list[Path], tmp_path: Path):
    """Nor a label map, whatever way leads to it; nothing else is written either."""
    run = write_run(tmp_path / "run", modalities=("flair",), patterns=("flair=*_flair.nii.gz", "seg=case2.nii.gz"))
    image_of(cases[2], "seg").rename(cases[2] / "case2.nii.gz")
    (tmp_path / "out").symlink_to(cases[2])
    before = files(tmp_path)
    message = error_of(predict, run, cases[0].parent, {}, tmp_path / "out")
    assert f"{tmp_path / 'out'}: is itself a case of {cases[0].parent}" in message
    assert files(tmp_path) == before


def test_interrupted_in_the_middle(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    predict_case = gmd.predict.predictor.Predictor.predict_case

    def interrupted(self, job):
        if job.case.name == "case1":
            raise KeyboardInterrupt
        return predict_case(self, job)

    monkeypatch.setattr(gmd.predict.predictor.Predictor, "predict_case", interrupted)
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 130
    assert files(tmp_path / "out") == ["case0.nii.gz"]
    captured = capsys.readouterr()
    assert "1 done, 0 skipped, 0 failed" in captured.out
    assert "interrupted; what is written is whole" in captured.err


def test_a_disk_that_fills_up_stops_a_directory(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Every case after it would be computed in vain."""
    replacing = gmd.predict.grid.replacing

    def full(path: Path):
        if path.name.startswith("case1"):
            raise OSError(28, "No space left on device")
        return replacing(path)

    monkeypatch.setattr("gmd.predict.grid.replacing", full)
    message = error_of(predict, run, cases[0].parent, {}, tmp_path / "out")
    assert "case1.nii.gz: cannot be written (No space left on device)" in message
    assert files(tmp_path / "out") == ["case0.nii.gz"]
    assert "1 done, 0 skipped, 0 failed" in capsys.readouterr().out
