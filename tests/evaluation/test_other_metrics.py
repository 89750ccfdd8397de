"""What --metrics adds to an evaluation: columns of every score, tables, a part of the report."""

import csv
import math
import shutil
from pathlib import Path
from statistics import fmean

import pytest
import torch

import gmd.cli
import gmd.evaluation.segmentation.single_run
from gmd.config import TrainDigits
from gmd.config.file import CONFIG, write_config
from gmd.config.metrics import Metrics
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.segmentation.cross_validation import score_folds
from gmd.evaluation.segmentation.single_run import score_run
from gmd.names import POST_PROCESSED
from gmd.report import write_report
from gmd.scoring.segmentation.lesion_wise_2023 import lesion_scores_2023
from gmd.scoring.segmentation.metrics import surface_dice, volumes
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import read_cases
from gmd.training.run_files import FURTHER_TABLES
from gmd.training.saved_run import load_run
from helpers.evaluation_cases import names, untrained_run

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = ("flair", "t1ce")
ALL = Metrics(("lesion-wise", "lesion-wise-2023", "surface-dice", "volume"), 2.0)
COLUMNS = [column for metric in ALL.chosen for column in ALL.columns_of(metric)]


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two modalities, which predicts something everywhere, evaluated by all metrics on its one test case."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(phantoms, folder / "data")
    run = untrained_run(folder, modalities=TWO)
    state = torch.load(run / "best.pt", weights_only=True)
    state["network"] = {name: value * (name != "head.bias") for name, value in state["network"].items()}
    torch.save(state, run / "best.pt")
    score_run(run, metrics=ALL)
    return run


def test_cases_csv_has_the_numbers_of_the_same_masks(run: Path):
    scores = read_cases(run / "evaluation" / "cases.csv", TWO)
    config, network = load_run(run)
    [name] = names(run, "test")
    [case] = map(load_case, find_cases(run.parent / "data" / name))
    scheme = config.label_scheme()
    outputs = predict_modalities(network, present_volumes(network, case), config.patch)
    for subset, labels in predict_subsets(outputs, scheme):
        pair = regions_of(labels, scheme), case["target"]
        lesions, boxes = lesion_scores_2023(*pair, (1, 1, 1), scheme.name), volumes(*pair, (1, 1, 1))
        for place, region in enumerate(scheme.regions):
            [found] = [dict(s.further) for s in scores if (s.subset, s.region) == (subset, region)]
            assert list(found) == COLUMNS
            assert found["surface_dice_2mm"] == surface_dice(*pair, (1, 1, 1), 2.0)[place]
            assert {column: found[column] for column in lesions[place]} == pytest.approx(lesions[place])
            assert found["true_ml"] == pytest.approx(boxes[place]["true_ml"])
    assert any(s.region == POST_PROCESSED for s in scores)
    assert all(s.further == () for s in scores if s.region == POST_PROCESSED)


def test_the_tables_hold_their_means(run: Path):
    scores = read_cases(run / "evaluation" / "cases.csv")
    with open(run / "evaluation" / "other_metrics.csv", newline="") as file:
        lines = {line["subset"]: line for line in csv.DictReader(file)}
    assert [*lines] == ["flair", "t1ce", "flair+t1ce", "mean"]
    regions = dict.fromkeys(s.region for s in scores if s.region != POST_PROCESSED)
    for score in (s for s in scores if s.region != POST_PROCESSED):
        for column, number in score.further:
            cell = float(lines["+".join(score.subset)][f"{score.region} {column}"])
            assert cell == number if number is not None else math.isnan(cell)
    for column in ("surface_dice_2mm", "error_ml", "lesion2023_hd95"):
        cells = [float(lines["flair"][f"{region} {column}"]) for region in regions]
        assert float(lines["flair"][f"mean {column}"]) == pytest.approx(fmean(cells))
    text = (run / "evaluation" / "other_metrics.md").read_text(encoding="utf-8")
    assert text.startswith("Means over 1 case, those of which a number is defined")
    said = ("https://github.com/BrainLesion/panoptica#citation", "by the rule of BraTS 2023", "It is 2 mm.", "in ml")
    assert all(words in text for words in said)
    assert text.count("| flair | t1ce |") == 3 + 2 + 1 + 2


def test_the_report_shows_them(run: Path):
    text = write_report(run).read_text(encoding="utf-8")
    assert text.count('<table class="heat">') == 1 + 3 + 2 + 1 + 2
    assert "Normalised surface Dice: the share of both surfaces within the tolerance. It is 2 mm." in text
    title = text.index(">lesion2023_dice<")
    assert ">WT</button>" in text[title : text.index("</table>", title)], "the score is told once, above its regions"
    hidden = write_report(run, anonymous=True).read_text(encoding="utf-8")
    assert hidden.count('<table class="heat">') == 9
    with open(run / "evaluation" / "other_metrics.csv", "a") as file:
        file.write(f"{'flair'},1,0,1{',7.5' * 4 * len(COLUMNS)}\n")
    with pytest.raises(UserError, match=r"other_metrics.csv: line 6: .*lesion_dice is '7.5', expected a number in"):
        write_report(run)
    score_run(run, metrics=ALL)


def test_runs_with_and_without_them_compare(run: Path, tmp_path: Path):
    other = shutil.copytree(run, tmp_path / "other")
    shutil.copytree(run.parent / "data", tmp_path / "data")
    score_run(other)
    compare([run, other], tmp_path / "out")
    assert "Dice" in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")


def test_an_evaluation_without_them_leaves_none(run: Path, tmp_path: Path):
    other = shutil.copytree(run, tmp_path / "other")
    assert all((other / "evaluation" / name).exists() for name in FURTHER_TABLES)
    score_run(other, metrics=Metrics(("legacy",)))
    assert not any((other / "evaluation" / name).exists() for name in FURTHER_TABLES)
    header = (other / "evaluation" / "cases.csv").read_text(encoding="utf-8").split("\n")[0]
    assert header == "case,subset,region,dice,hd95"
    assert 'class="heat"' in write_report(other).read_text(encoding="utf-8")


def test_folds_are_pooled(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    for fold in range(3):
        untrained_run(tmp_path, f"cv/fold{fold}", modalities=("flair",), folds=3, fold=fold)
    score_folds(tmp_path / "cv", metrics=Metrics(("volume",)))
    pooled = read_cases(tmp_path / "cv" / "evaluation" / "cases.csv")
    assert len({score.case for score in pooled if dict(score.further)}) == 6
    expected = fmean(dict(s.further)["true_ml"] for s in pooled if s.region == "WT")
    with open(tmp_path / "cv" / "evaluation" / "other_metrics.csv", newline="") as file:
        flair, _ = csv.DictReader(file)
    assert (flair["cases"], float(flair["WT true_ml"])) == ("6", pytest.approx(expected))
    assert (tmp_path / "cv" / "fold1" / "evaluation" / "other_metrics.md").exists()


def test_a_run_without_masks_has_none(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_config(tmp_path / CONFIG, TrainDigits(data=tmp_path, out=tmp_path))
    assert gmd.cli.main(["evaluate", str(tmp_path), "--metrics", "volume"]) == 2
    assert "is no run of brats, and volume is of masks; leave it out" in capsys.readouterr().err
