"""`gmd predict`: no case stops the others, whatever it does, and nor does what is only told beside a segmentation."""

import os
from pathlib import Path

import pytest
import torch

import gmd.predict.predictor
from gmd.decoration import decoration
from gmd.predict import predict
from gmd.predict.summary import score_line
from helpers.bad_images import BAD_IMAGES, spoil
from helpers.nifti_cases import error_of
from helpers.predict_cases import copy_cases, files, image_of, write_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run", modalities=("flair", "t1"))


@pytest.fixture
def cases(phantoms: Path, tmp_path: Path) -> list[Path]:
    """Three case folders in a folder of their own."""
    return copy_cases(phantoms, tmp_path / "cases")


def test_a_folder_goes_on_past_each_kind_of_bad_image(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    for number, kind in enumerate(BAD_IMAGES):
        case = tmp_path / f"cases/bad{number}"
        case.mkdir()
        for modality in ("flair", "t1"):
            os.link(image_of(cases[0], modality), image_of(case, modality))
        spoil(image_of(case, ("flair", "t1")[number % 2]), kind)
    assert predict(run, tmp_path / "cases", {}, tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["case0.nii.gz", "case1.nii.gz", "case2.nii.gz"]
    printed = capsys.readouterr().out
    assert f"3 done, 0 skipped, {len(BAD_IMAGES)} failed:" in printed
    for number, (_, reason) in enumerate(BAD_IMAGES.values()):
        [line] = [line for line in printed.splitlines() if line.startswith(f"  bad{number}: {tmp_path}")]
        assert reason in line


@pytest.mark.parametrize("kind", ["claims 32767 voxels along each axis", "a pipe", "links in circles", "bomb"])
def test_a_single_case_is_an_error_with_its_file(run: Path, cases: list[Path], tmp_path: Path, kind: str):
    spoil(path := image_of(cases[0], "t1"), kind)
    for given in ((cases[0], {}), (None, {"flair": image_of(cases[0], "flair"), "t1": path})):
        assert f"{path}: " in error_of(predict, run, *given, tmp_path / "seg.nii.gz")
    assert not (tmp_path / "seg.nii.gz").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 GB")]
)
def test_a_case_that_there_is_no_memory_for_stops_no_other(
    run: Path, cases: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    real = gmd.predict.predictor.load_case

    def loading(case, *given):
        if case.name == "case1":
            raise error
        return real(case, *given)

    monkeypatch.setattr(gmd.predict.predictor, "load_case", loading)
    assert predict(run, tmp_path / "cases", {}, tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["case0.nii.gz", "case2.nii.gz"]
    assert "case case1: out of memory (" in error_of(predict, run, cases[1], {}, tmp_path / "case1.nii.gz")


def test_a_bug_stops_all(run: Path, tmp_path: Path, cases: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.predict.predictor, "predict_modalities", lambda *_, **__: {}["bug"])
    with pytest.raises(KeyError):
        predict(run, tmp_path / "cases", {}, tmp_path / "out")


def test_an_image_that_has_gone_when_its_case_is_predicted(
    run: Path, tmp_path: Path, cases: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """The header of its file is that of the segmentation: it is read before anything is written."""
    real = gmd.predict.predictor.predict_label_map

    def predicting(*given):
        if cases[1].exists():
            image_of(cases[0], "flair").unlink(missing_ok=True)
        return real(*given)

    monkeypatch.setattr(gmd.predict.predictor, "predict_label_map", predicting)
    assert predict(run, tmp_path / "cases", {}, tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["case1.nii.gz", "case2.nii.gz"]


HEAD = "subset,flair,t1,cases,WT,TC,ET,mean\n"
TABLES = {
    "in no encoding": b"\xff\xfe",
    "cut off": HEAD.encode(),
    "no number": (HEAD + "flair+t1,1,1,x,0.5,0.5,0.5,0.5\n").encode(),
    "no score": (HEAD + "flair+t1,1,1,2,nan,0.5,7.5,0.5\n").encode(),
    "twice": (HEAD + "flair+t1,1,1,2,0.5,0.5,0.5,0.5\n" * 2).encode(),
    "of another table": b"a,b\n1,2\n",
    "a cell too long": (HEAD + f"flair+t1,1,1,2,{'1' * 200_000}\n").encode(),
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("scored") / "run", modalities=("flair", "t1"))
    (run / "evaluation").mkdir()
    return run


@pytest.mark.parametrize("kind", [*TABLES, "a pipe", "a device", "a folder", "links in circles", "huge"])
def test_scores_that_are_damaged_are_not_told(scored: Path, kind: str, capsys: pytest.CaptureFixture):
    table = scored / "evaluation/table.csv"
    if kind in TABLES:
        table.write_bytes(TABLES[kind])
    elif kind == "huge":
        with table.open("wb") as file:
            file.truncate(2**40)
    else:
        BAD_IMAGES[kind][0](table)
    both = ("flair", "t1")
    assert decoration("no score is told", lambda: score_line(scored, both, both, ("WT", "TC", "ET"))) is None
    told = capsys.readouterr().err
    assert told.startswith("gmd: no score is told: ")
    assert str(table) in told
    table.rmdir() if table.is_dir() else table.unlink()


@pytest.mark.parametrize("name", ["table.csv", "checkpoint.txt"])
def test_a_segmentation_is_written_whatever_there_is_to_tell(
    cases: list[Path], scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
):
    (scored / "evaluation/table.csv").write_text(HEAD + "flair+t1,1,1,2,0.5,0.5,0.5,0.5\n")
    (scored / "evaluation" / name).write_bytes(b"\xff\xfe")
    assert predict(scored, tmp_path / "cases", {}, tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["case0.nii.gz", "case1.nii.gz", "case2.nii.gz"]
    told = capsys.readouterr()
    assert told.err.count("gmd: no score is told: ") == 1
    assert "mean Dice" not in told.out
