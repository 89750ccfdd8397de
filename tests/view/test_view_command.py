"""`gmd view`: what it shows is what is scored, which case it takes, and what is refused before anything is written."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gmd.cli
import gmd.view.command
from gmd.config import TrainSentiment
from gmd.config.file import CONFIG, write_config
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.trained_network import load_segmentation
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.subsets import subset_name
from gmd.view import view
from gmd.view.run_case import find_case
from gmd.view.voxels import brain_box, grey, region_bits
from helpers.evaluation_cases import names, untrained_run
from helpers.nifti_cases import error_of
from helpers.report_cases import Page, write_run
from helpers.training_cases import TWO
from helpers.view_cases import REGIONS, about_of, captions_of, finding_run, volume_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finding_run(tmp_path_factory.mktemp("viewed"), phantoms, modalities=TWO)


@pytest.fixture
def case(run: Path) -> str:
    return min(names(run, "test"))


def test_what_is_shown_is_what_is_predicted_and_scored(run: Path, case: str, tmp_path: Path):
    text = view(run, case, tmp_path / "page.html").read_text()
    config, network = load_segmentation(run, "best", device="cpu")
    there = load_case(find_case(run, case).case)
    volumes, scheme, box = present_volumes(network, there), config.label_scheme(), brain_box(there)
    outputs = predict_modalities(network, volumes, config.patch)
    expected = {subset_name(subset): labels for subset, labels in predict_subsets(outputs, scheme)}
    told = about_of(text)["predictions"]
    assert sorted(told) == sorted(expected)
    for place, name in enumerate(told):
        bits = region_bits(regions_of(expected[name], scheme), box)
        assert bits.any(), "this test would see nothing"
        assert np.array_equal(volume_of(text, f"prediction-{place}"), bits)
    assert np.array_equal(volume_of(text, "truth"), region_bits(there["target"], box))
    for place, modality in enumerate(TWO):
        assert np.array_equal(volume_of(text, f"image-{place}"), grey(volumes[modality], box))
    scores = evaluate_cases(network, [there], scheme, config.patch)
    dice = {(subset_name(score.subset), score.region): f"{score.dice:.2f}" for score in scores}
    for name, caption in captions_of(text):
        subset = name.replace(" + ", "+")
        assert caption == " ".join(f"{region} {dice[subset, region]}" for region in REGIONS)


def test_the_page_lies_in_the_run_and_is_made_anew_with_the_same_bytes(
    run: Path, case: str, capsys: pytest.CaptureFixture
):
    assert gmd.cli.main(["view", str(run), case]) == 0
    path = run / f"view_{case}.html"
    assert capsys.readouterr().out == f"{path}\n"
    before = path.read_bytes()
    assert view(run, case) == path
    assert path.read_bytes() == before
    assert "best.pt (epoch 1). It is a test case" in before.decode()


WHAT_IT_DID = {
    "train": "It trained the network, so its predictions say nothing about new cases.",
    "validation": "It validated the network while that was trained, and chose the best epoch.",
    "test": "It is a test case: the network has not seen it.",
}


@pytest.mark.parametrize("split", WHAT_IT_DID)
def test_cases_of_every_split_are_shown_for_what_they_are(run: Path, tmp_path: Path, split: str):
    page = Page(view(run, min(names(run, split)), tmp_path / "page.html").read_text()).text()
    assert f"Segmented by {run.name} , best.pt (epoch 1). {WHAT_IT_DID[split]} 32 x 32 x 32 voxels" in page


def test_a_run_that_was_stopped_before_its_first_validation_shows_its_last_epoch(run: Path, case: str, tmp_path: Path):
    stopped = shutil.copytree(run, tmp_path / "stopped")
    (stopped / "best.pt").rename(stopped / "last.pt")
    assert f"last.pt (epoch 1). {WHAT_IT_DID['test']}" in view(stopped, case).read_text()
    validating = view(stopped, min(names(stopped, "validation"))).read_text()
    assert "It is a validation case, and the network has not been validated yet." in validating
    assert "chose the best epoch" not in validating


def test_of_a_cross_validation_the_fold_that_tests_the_case_is_taken(phantoms: Path, tmp_path: Path):
    folds = [
        untrained_run(tmp_path, f"cv/fold{fold}", data=phantoms, modalities=("flair",), folds=2, fold=fold)
        for fold in range(2)
    ]
    for fold in folds:
        found = find_case(tmp_path / "cv", max(names(fold, "test")))
        assert (found.run, found.split) == (fold, "test")
    page = view(tmp_path / "cv", max(names(folds[1], "test"))).read_text()
    assert "Segmented by <code>cv/fold1</code>, best.pt (epoch 1). It is a test case" in page
    error = error_of(view, tmp_path / "cv", "nobody")
    assert f"{tmp_path / 'cv'}: has no case nobody; expected one of these" in error
    assert "other cases" not in error


def test_a_case_whose_fold_is_not_here_is_told_so(phantoms: Path, tmp_path: Path):
    """A bug: it was said to be no case of the run."""
    for fold in (0, 2):
        untrained_run(tmp_path, f"cv/fold{fold}", data=phantoms, modalities=("flair",), folds=3, fold=fold)
    listed = [names(tmp_path / "cv/fold0", split) for split in ("train", "validation", "test")]
    untested = min(set.union(*listed) - listed[2] - names(tmp_path / "cv/fold2", "test"))
    told = f"{tmp_path / 'cv'}: the fold that tests case {untested} is not here"
    advice = "train it, or give one of the folds"
    assert error_of(view, tmp_path / "cv", untested) == f"{told} (fold0, fold2 are); {advice}"
    shutil.rmtree(tmp_path / "cv/fold2")
    assert error_of(view, tmp_path / "cv", untested) == f"{told} (fold0 is); {advice}"


# Refused, before anything is computed or written


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("computed something")

    monkeypatch.setattr(gmd.view.command, "load_segmentation", never)
    monkeypatch.setattr(gmd.view.command, "load_case", never)


@pytest.mark.usefixtures("nothing_is_computed")
def test_an_unknown_case_is_told_with_those_that_are_there(run: Path, case: str):
    error = error_of(view, run, "no\ncase")
    first, tests, others = error.split("\n")
    assert first == f"{run}: has no case no\\ncase; expected one of these"
    assert case in tests
    assert "test cases" in tests
    assert min(names(run, "train")) in others
    listed = json.loads((run / "splits.json").read_text())
    many = [{**listed["test"][0], "name": f"case{number}"} for number in range(20)]
    (run / "splits.json").write_text(json.dumps({**listed, "test": many}))
    try:
        error = error_of(view, run, "nothing")
    finally:
        (run / "splits.json").write_text(json.dumps(listed))
    assert "case7, and 12 more" in error


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_run_of_another_task_is_told_with_what_to_do_instead(tmp_path: Path):
    run = write_run(tmp_path / "run", TrainSentiment(data=Path("mosi.npz")))
    error = error_of(view, run, "test 0")
    assert error.startswith(
        f"{run}: was trained on sentiment, which has no volumes to segment; gmd evaluate {run} scores it"
    )
    assert "gmd report" in error


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    assert "this is not the folder of a run" in error_of(view, tmp_path, "case")


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_page_that_cannot_be_written_is_told(run: Path, case: str, tmp_path: Path):
    assert "expected a name that ends in .html" in error_of(view, run, case, tmp_path / "page.png")
    (tmp_path / "file").write_text("mine")
    assert "is a file; expected a folder" in error_of(view, run, case, tmp_path / "file/page.html")
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in error_of(view, run, case, tmp_path / "folder.html")
    mine = tmp_path / "mine.html"
    mine.write_text("<!DOCTYPE html>\n<p>of somebody else")
    assert "no page that gmd view has written" in error_of(view, run, case, mine)
    assert "somebody else" in mine.read_text()


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_case_that_no_file_can_be_called_like_needs_a_name(run: Path, tmp_path: Path):
    odd = shutil.copytree(run, tmp_path / "odd")
    listed = json.loads((odd / "splits.json").read_text())
    listed["test"][0]["name"] = "../../case"
    (odd / "splits.json").write_text(json.dumps(listed))
    assert "no file can be called so; say --out FILE.html" in error_of(view, odd, "../../case")


@pytest.mark.usefixtures("nothing_is_computed")
def test_files_that_are_gone_are_told(phantoms: Path, tmp_path: Path):
    data = shutil.copytree(phantoms, tmp_path / "data")
    run = untrained_run(tmp_path, modalities=("flair",))
    name = min(names(run, "test"))
    data.rename(tmp_path / "moved")
    error = error_of(view, run, name)
    assert error.startswith(f"case {name}: ")
    assert "is not there any more; gmd view reads it where training did" in error


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_case_without_a_label_map_is_none_that_a_training_has_listed(run: Path, case: str, tmp_path: Path):
    damaged = shutil.copytree(run, tmp_path / "damaged")
    listed = json.loads((damaged / "splits.json").read_text())
    for each in listed["test"]:
        del each["files"]["seg"]
    (damaged / "splits.json").write_text(json.dumps(listed))
    error = error_of(view, damaged, case)
    assert error.startswith(f"{damaged / 'splits.json'}: names no label map of case {case}; damaged, or not written by")


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_case_that_takes_too_much_memory_is_told(
    run: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read, predicted = 3 * 32**3 * 16, 32**3 * (16 * 3 + 9 + 3)  # float32 twice, and thrice; see the command
    monkeypatch.setenv("GMD_MAX_GB", str((read + predicted / 2) / 1e9))
    error = error_of(view, run, case, tmp_path / "page.html")
    assert f"case {case} and its predictions would take" in error
    assert not (tmp_path / "page.html").exists()


OUT_OF_MEMORY = {"host": MemoryError("no room"), "gpu": torch.OutOfMemoryError("CUDA out of memory")}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_a_case_that_runs_out_of_memory_leaves_no_page(
    run: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(gmd.view.command, "see_case", full)
    assert f"case {case}: out of memory" in error_of(view, run, case, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_bugs_are_no_errors_of_the_user(run: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(gmd.view.command, "see_case", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        view(run, case, tmp_path / "page.html")


def test_another_network_than_the_runs_is_refused(run: Path, case: str, tmp_path: Path):
    with pytest.raises(UserError, match="--network"):
        view(run, case, tmp_path / "page.html", named="somebody:network")


def test_code_that_only_the_run_names_is_not_imported(
    run: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "somebody.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    odd = shutil.copytree(run, tmp_path / "odd")
    config = find_case(odd, case).config
    write_config(odd / CONFIG, replace(config, network="somebody:network", width=1.0))
    with pytest.raises(UserError, match="somebody:network") as caught:
        view(odd, case, tmp_path / "page.html")
    assert "--network" in str(caught.value)
    assert "somebody" not in sys.modules
    assert not (tmp_path / "page.html").exists()
