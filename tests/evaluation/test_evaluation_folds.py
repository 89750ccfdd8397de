"""The folds of a cross-validation, evaluated as one: every patient tested exactly once, all scores in one table."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.evaluation.segmentation.single_run
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.segmentation.cross_validation import (
    check_tested_once,
    evaluate_folds,
    find_folds,
    unfinished_folds,
)
from gmd.scoring.segmentation.tables import Row, read_cases
from gmd.subsets import all_subsets
from gmd.training.checkpoint import save_checkpoint
from gmd.training.saved_run import read_config
from helpers.evaluation_cases import names, untrained_run

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = ("flair", "t1ce")


@pytest.fixture(scope="module")
def evaluated(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Row]]]:
    """Three untrained folds of two cases each, and what `evaluate_folds` returned. Without the pictures."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "data").symlink_to(phantoms)
    for fold in range(3):
        untrained_run(folder, f"cv/fold{fold}", modalities=TWO, folds=3, fold=fold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])
        yield folder / "cv", evaluate_folds(folder / "cv")


def test_the_pool_is_the_scores_of_all_folds(evaluated: tuple[Path, list[Row]], phantoms: Path):
    folder, rows = evaluated
    folds = [read_cases(folder / f"fold{fold}" / "evaluation/cases.csv") for fold in range(3)]
    pooled = read_cases(folder / "evaluation/cases.csv")
    assert pooled == [score for scores in folds for score in scores]
    assert {score.case for score in pooled} == {path.name for path in phantoms.iterdir()}
    assert [{score.case for score in scores} for scores in folds] == [
        names(folder / f"fold{fold}", "test") for fold in range(3)
    ]
    assert [(row.subset, row.cases) for row in rows] == [(subset, 6) for subset in all_subsets(TWO)]


def test_the_table_is_the_mean_over_all_patients(evaluated: tuple[Path, list[Row]]):
    folder, rows = evaluated
    pooled = read_cases(folder / "evaluation/cases.csv")
    dice = [score.dice for score in pooled if (score.subset, score.region) == (TWO, "WT")]
    assert len(dice) == 6
    assert rows[-1].dice["WT"] == pytest.approx(sum(dice) / 6)
    with open(folder / "evaluation/table.csv", newline="") as file:
        [line] = [line for line in csv.DictReader(file) if line["subset"] == "flair+t1ce"]
    assert (float(line["WT"]), line["cases"]) == (rows[-1].dice["WT"], "6")
    table = (folder / "evaluation/table.md").read_text(encoding="utf-8")
    assert table.startswith("Hard Dice, mean over the 6 cases of 3 folds, each tested by the fold that has not seen")
    assert "best.pt of cv, fp32. Not known to be trained to the end: fold0 (no last.pt), fold1 (no last.pt), " in table


def test_a_cross_validation_compares_with_another(evaluated: tuple[Path, list[Row]], tmp_path: Path):
    folder, _ = evaluated
    shutil.copytree(folder, tmp_path / "copy")
    compare([folder, tmp_path / "copy"], tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "copy - cv: Dice, mean of the 3 subsets +0.0 points [+0.0, +0.0], 6 cases" in text


@pytest.fixture
def copy(evaluated: tuple[Path, list[Row]], tmp_path: Path) -> Path:
    return shutil.copytree(evaluated[0], tmp_path / "cv")


def edit(path: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_patient_tested_twice_or_never_is_an_error(copy: Path):
    runs = find_folds(copy)
    check_tested_once(runs)
    moved = min(names(runs[2], "test"))

    def take_out(splits: dict) -> None:
        splits["train"] += [case for case in splits["test"] if case["name"] == moved]
        splits["test"] = [case for case in splits["test"] if case["name"] != moved]

    edit(runs[2] / "splits.json", take_out)
    with pytest.raises(UserError, match=f"1 of 6 patients are not tested by exactly one fold, as {moved} by none"):
        evaluate_folds(copy)

    def put_back_in_two(splits: dict) -> None:
        trained = [case for split in ("train", "validation") for case in splits[split]]
        splits["test"] += [case for case in trained if case["name"] == moved]
        for split in ("train", "validation"):
            splits[split] = [case for case in splits[split] if case["name"] != moved]

    for run in runs[1:]:
        edit(run / "splits.json", put_back_in_two)
    with pytest.raises(UserError, match=f"as {moved} by fold1 and fold2"):
        evaluate_folds(copy)


def test_two_examinations_of_a_patient_in_two_folds_are_an_error(copy: Path):
    def one_patient(splits: dict) -> None:
        splits["test"][0]["patient"] = "Anna"

    runs = find_folds(copy)
    for run in runs[:2]:
        edit(run / "splits.json", one_patient)
    with pytest.raises(UserError, match="are not tested by exactly one fold, as Anna by fold0 and fold1"):
        check_tested_once(runs)


def test_a_fold_that_does_not_say_whom_it_tests_is_named(copy: Path):
    edit(copy / "fold1/splits.json", lambda splits: splits["test"][0].pop("patient"))
    with pytest.raises(UserError, match=r"fold1/splits\.json: does not name the test cases, their folders and"):
        evaluate_folds(copy)


def test_folds_that_are_missing_or_of_another_cross_validation_are_named(copy: Path, phantoms: Path):
    shutil.rmtree(copy / "fold2")
    with pytest.raises(UserError, match="fold2: there is no such fold of 3; train it first"):
        evaluate_folds(copy)
    shutil.copytree(copy / "fold1", copy / "fold2")
    with pytest.raises(UserError, match="fold2: was trained as fold 1, expected 2; train it anew"):
        evaluate_folds(copy)
    shutil.rmtree(copy / "fold2")
    (copy.parent / "data").symlink_to(phantoms)
    untrained_run(copy.parent, "cv/fold2", modalities=TWO, folds=3, fold=2, seed=1)
    with pytest.raises(UserError, match=r"fold2: was trained with other settings than fold0 .*: seed: 1 here, 0 there"):
        evaluate_folds(copy)
    shutil.rmtree(copy / "fold0")
    with pytest.raises(UserError, match="fold0: there is no such fold of 3; train it first"):
        evaluate_folds(copy)


@pytest.mark.parametrize(
    ("option", "told"),
    [({"method": "joint"}, "method: joint here, gmd there"), ({"lr": 0.5}, "lr: 0.5 here, 0.001 there")],
)
def test_folds_of_other_settings_are_not_pooled(copy: Path, option: dict, told: str):
    path = copy / "fold1" / CONFIG
    write_config(path, replace(read_config(copy / "fold1"), device="auto", **option))  # the device may differ
    with pytest.raises(UserError, match=f"fold1: was trained with other settings than fold0 .'there'.: {told}; train"):
        find_folds(copy)


def test_folds_that_are_not_finished_are_named(copy: Path):
    """Two of 100 epochs, by --patience, by the epochs; and one of which nobody knows."""
    for fold in range(3):
        write_config(copy / f"fold{fold}" / CONFIG, replace(read_config(copy / f"fold{fold}"), patience=3))
    runs = find_folds(copy)

    def told(*counts: tuple[int, int]) -> list[str]:
        for run, (epochs, not_better) in zip(runs, counts, strict=False):
            state = {"config": read_config(run).to_dict(), "epochs": epochs, "not_better": not_better}
            save_checkpoint(run / "last.pt", state)
        return unfinished_folds(runs)

    assert told((2, 2), (2, 3)) == ["fold0 (2 of 100 epochs)", "fold2 (no last.pt)"]
    assert told((100, 0), (99, 3), (99, 0)) == ["fold2 (99 of 100 epochs)"]
    assert told((100, 0), (100, 0), (100, 0)) == []


def test_a_run_called_fold0_is_no_cross_validation(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    untrained_run(tmp_path, "cv/fold0", modalities=TWO)
    with pytest.raises(UserError, match="fold0: not a fold of a cross-validation; evaluate it as a run by itself"):
        evaluate_folds(tmp_path / "cv")
    with pytest.raises(UserError, match="holds no folds, fold0 and so on; give what --out was in training"):
        evaluate_folds(tmp_path)
