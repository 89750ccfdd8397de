"""What each modality adds, in the files of an evaluation, in its report, and compared between runs."""

import csv
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.evaluation.segmentation.single_run
from gmd.config import TrainDigits, TrainSentiment
from gmd.config.file import CONFIG, write_config
from gmd.data.text_files import write_json
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.results_folder import write_texts
from gmd.evaluation.segmentation.cross_validation import score_folds
from gmd.evaluation.segmentation.single_run import score_run
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.report import write_report
from gmd.scoring.segmentation.tables import Score, cases_csv
from gmd.scoring.shapley import read_shapley, shapley_weights
from gmd.subsets import all_subsets, subset_name
from gmd.training.loop import train
from gmd.training.run_files import SCORED_RECORD
from helpers.evaluation_cases import untrained_run
from helpers.report_cases import Page, brats, write_run

pytestmark = pytest.mark.usefixtures("one_thread")

THREE, TWO = ("text", "audio", "vision"), ("flair", "t1ce")


@pytest.fixture(scope="module")
def run(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An evaluated run on sequences of all three modalities; tests write nothing into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmd.training.loop.draw_pictures", lambda run, task: "not drawn")
        out = tmp_path_factory.mktemp("runs") / "run"
        small = {"width": 16, "layers": 1, "heads": 2, "epochs": 1, "batch": 16, "device": "cpu"}
        train(TrainSentiment(data=sentiment, out=out, **small))
        evaluate_run(out)
        yield out


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_values_are_those_of_the_table(run: Path):
    table = {line["subset"]: line for line in lines_of(run / "evaluation/table.csv")}
    scores = {subset: float(table[subset_name(subset)]["Acc-2 neg/non-neg"]) for subset in all_subsets(THREE)}
    [found] = read_shapley(run / "evaluation/shapley.csv", THREE)
    assert (found.score, found.scored) == ("Acc-2 neg/non-neg", int(table["text"]["scored"]))
    assert 0.5 <= found.nothing <= 1
    for modality, weights in shapley_weights(THREE).items():
        expected = sum(weight * scores[subset] for subset, weight in weights.items()) - found.nothing / 3
        assert found.values[modality] == pytest.approx(expected)
    assert found.whole == pytest.approx(scores[THREE])
    text = (run / "evaluation/table.md").read_text(encoding="utf-8")
    assert f"Shapley value of each modality, over {found.scored} predictions with all of them: what it adds" in text
    assert "| Acc-2 neg/non-neg |" in text


def added_on(page: Page) -> bool:
    return "What each modality adds: Shapley values" in page.text()


def test_the_report_shows_them_and_needs_none(run: Path, tmp_path: Path):
    run = Path(shutil.copytree(run, tmp_path / "run"))
    [found] = read_shapley(run / "evaluation/shapley.csv", THREE)
    for anonymous in (False, True):
        page = Page(write_report(run, anonymous).read_text(encoding="utf-8"))
        assert added_on(page)
        assert f"{found.nothing:.3f} {found.values['text']:+.3f}" in page.text()
    (run / "evaluation/shapley.csv").unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert not added_on(page), "an evaluation of an earlier gmd has none"
    (run / "evaluation/shapley.csv").write_text("rubbish\n1\n")
    with pytest.raises(
        UserError, match=r"shapley\.csv: its columns are rubbish, expected score, scored, nothing, text"
    ):
        write_report(run)


def test_a_table_of_classes_from_an_earlier_gmd_is_shown_without_the_calibration_error(tmp_path: Path):
    path = tmp_path / "digits.npz"
    config = TrainDigits(data=path, out=tmp_path, epochs=1)
    about = {"features": {"image": 64, "sound": 3}, "classes": [str(kind) for kind in range(10)], "per_step": False}
    run = write_run(tmp_path, replace(config, modalities=("image", "sound")), splits={"about": about})
    (run / "evaluation").mkdir()
    header = "subset,image,sound,scored,accuracy,macro F1"
    (run / "evaluation/table.csv").write_text(f"{header}\nimage,1,0,5,0.5,0.25\nmean,,,,0.5,0.25\n")
    text = Page(write_report(run).read_text(encoding="utf-8")).text()
    assert "accuracy macro F1" in text
    assert "ECE" not in text


@pytest.fixture
def no_case_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])


@pytest.mark.usefixtures("no_case_pictures")
def test_of_segmentation_they_are_of_each_region(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    rows = score_run(untrained_run(tmp_path, modalities=TWO)).rows
    found = read_shapley(tmp_path / "run/evaluation/shapley.csv", TWO)
    assert [one.score for one in found] == ["WT", "TC", "ET", "mean"]
    flair, t1ce, both = (row.dice["WT"] for row in rows)
    assert found[0].values == pytest.approx({"flair": (flair + both - t1ce) / 2, "t1ce": (t1ce + both - flair) / 2})
    assert found[0].nothing == 0
    text = (tmp_path / "run/evaluation/table.md").read_text(encoding="utf-8")
    assert "`nothing` is no segmentation, which counts 0" in text


@pytest.mark.slow
@pytest.mark.usefixtures("no_case_pictures")
def test_those_of_a_cross_validation_are_of_all_cases(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    for fold in range(2):
        untrained_run(tmp_path, f"cv/fold{fold}", modalities=TWO, folds=2, fold=fold)
    score_folds(tmp_path / "cv")
    assert [one.scored for one in read_shapley(tmp_path / "cv/evaluation/shapley.csv", TWO)] == [6] * 4


# ---- compared ----


def evaluated(run: Path, gain: dict[tuple[str, ...], float], complete: bool = True) -> Path:
    """A run of six cases, whose Dice is that of the case and what the subset gains."""
    subsets = all_subsets(TWO) if complete else [("flair",), ("t1ce",)]
    scores = [
        Score(f"case{case}", subset, "WT", 0.3 + 0.05 * case + gain.get(subset, 0.0), 5.0)
        for case in range(6)
        for subset in subsets
    ]
    write_folder(run, scores)
    return run


def write_folder(run: Path, scores: list[Score]) -> None:
    run.mkdir(parents=True)
    write_config(run / CONFIG, replace(brats(), data=(run,), out=run, modalities=TWO))
    write_json(
        run / "splits.json", {"test": [{"name": f"case{k}", "folder": "/d", "patient": f"case{k}"} for k in range(6)]}
    )
    write_texts(run / "evaluation", {"cases.csv": cases_csv(scores), SCORED_RECORD: "label maps\n"})


def test_what_one_modality_adds_more_is_its_own_difference(tmp_path: Path, capsys: pytest.CaptureFixture):
    """A gain of flair alone counts half for flair, and half against t1ce, which adds less behind it."""
    base, run = evaluated(tmp_path / "base", {}), evaluated(tmp_path / "run", {("flair",): 0.1, TWO: 0.2})
    compare([base, run], tmp_path / "out")
    lines = lines_of(tmp_path / "out/compare_shapley.csv")
    found = {(line["region"], line["modality"]): float(line["difference"]) for line in lines}
    expected = {"flair": (0.1 + 0.2) / 2, "t1ce": (0.2 - 0.1) / 2}
    assert found == pytest.approx({(region, m): expected[m] for region in ("WT", "mean") for m in TWO})
    assert {(line["metric"], line["cases"], line["patients"]) for line in lines} == {("Dice", "6", "6")}
    assert all(float(line["low"]) == pytest.approx(float(line["difference"])) for line in lines)
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "run - base: Shapley value of each modality, in points of Dice, over 6 cases with all modalities;" in text
    assert "+15.0 [+15.0, +15.0] *" in text
    assert str(tmp_path / "out/compare_shapley.csv") in capsys.readouterr().out


def test_without_a_case_with_all_modalities_there_is_a_table_without_lines(tmp_path: Path):
    runs = [evaluated(tmp_path / name, {}, complete=False) for name in ("a", "b")]
    compare(runs, tmp_path / "out")
    assert lines_of(tmp_path / "out/compare_shapley.csv") == []
    assert "Shapley" not in (tmp_path / "out/compare.md").read_text(encoding="utf-8")


def test_a_table_that_is_none_of_ours_is_not_replaced(tmp_path: Path):
    runs = [evaluated(tmp_path / name, {}) for name in ("a", "b")]
    compare(runs, tmp_path / "out")
    compare(runs, tmp_path / "out")
    (tmp_path / "out/compare_shapley.csv").write_text("somebody's\n")
    with pytest.raises(UserError, match=r"compare_shapley\.csv: is there already, and gmd compare has not written it"):
        compare(runs, tmp_path / "out")


def test_an_error_counts_as_what_a_modality_takes_away_from_it(run: Path, tmp_path: Path):
    """In the other run text alone is wrong by one more, of every sample: it takes less away, and the others more."""
    other = Path(shutil.copytree(run, tmp_path / "other"))
    path = other / "evaluation/predictions.csv"
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file))
    target, text = header.index("target"), header.index("text")
    for line in lines:
        line[text] = str(float(line[text]) + math.copysign(1, float(line[text]) - float(line[target])))
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    compare([run, other], tmp_path / "out")
    found = {line["modality"]: float(line["difference"]) for line in lines_of(tmp_path / "out/compare_shapley.csv")}
    assert found == pytest.approx({"text": -1 / 3, "audio": 1 / 6, "vision": 1 / 6})
    assert "in MAE that it takes away" in (tmp_path / "out/compare.md").read_text(encoding="utf-8")
