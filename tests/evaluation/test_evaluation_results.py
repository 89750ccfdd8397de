"""What an evaluation leaves on disk: HD95 beside Dice, pictures of chosen cases, results kept apart by their data."""

import csv
import os
import shutil
from pathlib import Path
from statistics import fmean

import pytest
import torch

import gmd.evaluation.segmentation.case_pictures
import gmd.evaluation.segmentation.single_run
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.results_folder import results_folder, write_texts
from gmd.evaluation.segmentation.case_pictures import choose_cases
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.names import POST_PROCESSED
from gmd.pictures.case import draw_case
from gmd.scoring.segmentation.metrics import hausdorff95
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Score, cases_csv, read_cases
from gmd.training.saved_run import load_run
from helpers.evaluation_cases import names, untrained_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two modalities, evaluated on its one test case."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(phantoms, folder / "data")
    run = untrained_run(folder, modalities=("flair", "t1ce"))
    evaluate_run(run)
    return run


def test_hd95_is_that_of_the_same_masks_in_mm(run: Path):
    """Voxels of 1 x 2 x 3 mm: their size comes from the affine."""
    _, network = load_run(run)
    with torch.no_grad():
        network.head.bias.zero_()  # untrained, it would take almost everything for background
    [test] = names(run, "test")
    cases = find_cases(run.parent / "data" / test)
    case = load_case(cases[0])
    case["affine"] = torch.diag(torch.tensor([-1.0, 2.0, 3.0, 1.0])).double().numpy()
    scheme = case["scheme"]
    outputs = predict_modalities(network, present_volumes(network, case), (32, 32, 32))
    masks = [regions_of(labels, scheme) for _, labels in predict_subsets(outputs, scheme)]
    expected = [distance for mask in masks for distance in hausdorff95(mask, case["target"], (1, 2, 3))]
    scores = evaluate_cases(network, [case], scheme, (32, 32, 32), hd95=True)
    assert [score.hd95 for score in scores if score.region != POST_PROCESSED] == expected
    assert len(set(expected)) > 3
    assert {score.hd95 for score in evaluate_cases(network, [case], scheme, (32, 32, 32))} == {None}


def test_the_tables_hold_the_means_of_cases_csv(run: Path):
    """The first table is Dice, as the README shows it; the second HD95, and it says how it is measured."""
    scores = read_cases(run / "evaluation/cases.csv")
    assert len(scores) == 3 * 4
    with open(run / "evaluation/table.csv", newline="") as file:
        lines = {line["subset"]: line for line in csv.DictReader(file)}
    for score in scores:
        line = lines["+".join(score.subset)]
        assert (float(line[score.region]), float(line[f"hd95_{score.region}"])) == (score.dice, score.hd95)
    mean = fmean(score.hd95 for score in scores if score.region != POST_PROCESSED)
    assert float(lines["mean"]["hd95_mean"]) == pytest.approx(mean)
    dice, hd95 = (run / "evaluation/table.md").read_text(encoding="utf-8").split("\nHD95 in mm, ")
    assert dice.startswith(
        "Hard Dice, mean over 1 case of the test split; best.pt (epoch 1) of run, fp32. Scored are label maps as "
    )
    assert "with one of its label values.\nET_postpro is ET where a prediction of fewer than 500 voxels" in dice
    assert "means over the regions are without it.\n\n| " in dice
    assert (run / "evaluation/checkpoint.txt").read_text() == "best.pt (epoch 1)\n"
    assert "0 where both are empty, the diagonal of the image where only one is." in hd95
    assert f"{mean:.2f} |\n" in hd95


def scores_of(*dice: float) -> list[Score]:
    return [Score(f"case{k}", ("t1",), "WT", value) for k, value in enumerate(dice)]


def test_which_cases_are_drawn():
    assert choose_cases(scores_of(0.5)) == {"median": ("case0", 0.5)}
    assert choose_cases(scores_of(0.5, 0.25)) == {"best": ("case0", 0.5), "worst": ("case1", 0.25)}
    three = choose_cases(scores_of(0.5, 0.75, 0.25))
    assert three == {"best": ("case1", 0.75), "median": ("case0", 0.5), "worst": ("case2", 0.25)}
    assert choose_cases(scores_of(0.2, 0.8, 0.4, 0.6))["median"] == ("case3", 0.6)


def test_a_case_is_judged_by_the_subsets_that_it_has():
    """The mean over all lines, not over as many as the others have."""
    lessened = [Score("few", ("t1",), "WT", 0.5), Score("few", ("t1",), "TC", 0.7)]
    whole = [Score("many", subset, "WT", 0.4) for subset in (("t1",), ("t2",), ("t1", "t2"))]
    assert choose_cases([*whole, *lessened]) == {"best": ("few", 0.6), "worst": ("many", pytest.approx(0.4))}


def test_pictures_of_a_larger_evaluation_do_not_stay(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two other cases, then one of them: the pictures of both would pass for pictures of this evaluation."""
    told = []

    def watched(case: dict, *rest) -> Path:
        told.append((rest[-2].name, case["name"], rest[-1].partition(", ")[0]))
        return draw_case(case, *rest)

    monkeypatch.setattr(gmd.evaluation.segmentation.case_pictures, "draw_case", watched)
    [test] = names(run, "test")
    for k in range(2):
        shutil.copytree(run.parent / "data" / test, tmp_path / "clinic" / f"case{k}")
    evaluate_run(run, tmp_path / "clinic")
    out = run / "evaluation/clinic"
    assert {path.name for path in out.glob("*.png")} == {"case_best.png", "case_worst.png"}
    shutil.rmtree(tmp_path / "clinic/case0")
    evaluate_run(run, tmp_path / "clinic")
    assert [path.name for path in out.glob("*.png")] == ["case_median.png"]
    assert told == [
        ("case_best.png", "case1", "best of 2 cases"),  # of equal ones the last is the best
        ("case_worst.png", "case0", "worst of 2 cases"),
        ("case_median.png", "case1", ""),
    ]


def test_a_case_that_is_lost_after_its_scoring_has_no_picture(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Its scores are written, and the other picture is."""
    [test] = names(run, "test")
    for k in range(2):
        shutil.copytree(run.parent / "data" / test, tmp_path / "lost" / f"case{k}")
    real = gmd.evaluation.segmentation.single_run.draw_cases

    def losing(*given):
        next((tmp_path / "lost/case0").glob("*_flair.nii.gz")).unlink()
        return real(*given)

    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", losing)
    evaluate_run(run, tmp_path / "lost")
    assert "gmd: no picture of case0: " in capsys.readouterr().err
    out = run / "evaluation/lost"
    assert [path.name for path in out.glob("*.png")] == ["case_best.png"]
    assert (out / "table.md").exists()


def test_data_sets_of_one_name_are_kept_apart(tmp_path: Path):
    """`--data a/test` and `--data b/test`; the second time each finds its own folder again."""
    run, data = tmp_path / "run", [tmp_path / place / "test" for place in "abc"]
    for place in data:
        place.mkdir(parents=True)
        write_texts(results_folder(run, place), {"table.md": str(place)}, place)
    folders = [results_folder(run, place) for place in data]
    assert [folder.name for folder in folders] == ["test", "test-2", "test-3"]
    assert [(folder / "table.md").read_text() for folder in folders] == [str(place) for place in data]
    assert results_folder(run, None) == run / "evaluation"


def test_results_that_say_not_what_they_are_about_are_left_alone(tmp_path: Path):
    """Of an earlier version, or of a comparison."""
    (tmp_path / "run/evaluation/mosi").mkdir(parents=True)
    (tmp_path / "mosi.npz").touch()
    assert results_folder(tmp_path / "run", tmp_path / "mosi.npz").name == "mosi-2"


def test_names_in_no_encoding_come_back_from_the_file_of_scores(tmp_path: Path):
    """As a folder's name from an archive in Latin-1: one byte that is no UTF-8."""
    name = os.fsdecode("café".encode("latin-1"))
    scores = [Score(name, ("t1",), "WT", 0.5, 1.0), Score("病例", ("t1",), "WT", 0.25, 2.0)]
    [path] = write_texts(tmp_path, {"cases.csv": cases_csv(scores)})
    assert "caf\udce9" in path.read_text(encoding="utf-8", errors="surrogateescape")
    assert read_cases(path) == scores


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_a_file_in_place_of_the_results_is_an_error_before_anything_is_scored(
    tmp_path: Path, phantoms: Path, kind: str
):
    shutil.copytree(phantoms, tmp_path / "data")
    run = untrained_run(tmp_path, modalities=("flair",))
    if kind == "file":
        (run / "evaluation").touch()
    else:
        (run / "evaluation").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="run/evaluation: is a file or a link to nothing, expected the folder of res"):
        evaluate_run(run)
