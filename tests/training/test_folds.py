"""Cross-validation: a run for each fold, each tested on what it has not seen, resumed where it stopped."""

from dataclasses import replace
from pathlib import Path

import pytest

import gmd.training.folds
from gmd.config import TrainBrats, TrainSentiment
from gmd.data.segmentation.cross_validation import fold_cases
from gmd.data.segmentation.data_sets import DataSet
from gmd.training.folds import train_folds
from gmd.training.loop import train
from gmd.training.run_mark import write_mark
from gmd.training.saved_run import cross_validation_config, read_config, read_splits
from helpers.nifti_cases import error_of, names

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture
def folds(config: TrainBrats) -> TrainBrats:
    """Two folds of one step each, on three patients each."""
    return replace(config, out=config.out / "cv", folds=2, epochs=1, steps_per_epoch=1, validate_every=1)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainBrats]:
    """What would have been trained: each leaves the beginning of a run."""

    def begin(config: TrainBrats) -> Path:
        configs.append(config)
        write_mark(config.out)
        (config.out / "last.pt").touch()
        return config.out

    configs = []
    monkeypatch.setattr(gmd.training.folds, "train", begin)
    return configs


def test_interrupted_folds_go_on_where_they_stopped(folds: TrainBrats, monkeypatch: pytest.MonkeyPatch, capsys):
    def interrupted(config: TrainBrats) -> Path:
        if config.fold == 1:
            raise KeyboardInterrupt
        return train(config)

    monkeypatch.setattr(gmd.training.folds, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_folds(folds)
    monkeypatch.setattr(gmd.training.folds, "train", train)
    finished = (folds.out / "fold0" / "best.pt").read_bytes()
    assert not (folds.out / "fold1").exists()
    assert "already holds a run" in error_of(train_folds, folds)

    runs = train_folds(replace(folds, resume=True))
    assert runs == [folds.out / "fold0", folds.out / "fold1"]
    assert (runs[0] / "best.pt").read_bytes() == finished
    assert (runs[1] / "best.pt").exists()
    printed = capsys.readouterr().out
    assert f"fold 1 of 2: 3 test cases, {runs[0]}\n" in printed
    assert f"fold 2 of 2: 3 test cases, {runs[1]}\n" in printed
    check_folders(runs)


def check_folders(runs: list[Path]) -> None:
    """Each run says which fold it is, and the folds test on everybody once."""
    tested = []
    for fold, run in enumerate(runs):
        config, splits = read_config(run), read_splits(run)
        assert (config.folds, config.fold) == (splits["folds"], splits["fold"]) == (2, fold)
        of_split = {name: {case["patient"] for case in splits[name]} for name in ("train", "validation", "test")}
        assert [len(patients) for patients in of_split.values()] == [2, 1, 3]
        assert len(set.union(*of_split.values())) == 6
        tested += of_split["test"]
    assert len(set(tested)) == len(tested) == 6


def test_folds_with_other_settings_are_not_mixed(folds: TrainBrats):
    train(replace(folds, fold=0, out=folds.out / "fold0"))
    message = error_of(train_folds, replace(folds, resume=True, lr=0.5))
    assert "lr: 0.5 here, 0.001 there" in message
    assert not (folds.out / "fold1").exists()


def test_begun_folds_resume_and_others_start(folds: TrainBrats, trained: list[TrainBrats]):
    train_folds(folds)
    assert [(config.fold, config.resume, config.out.name) for config in trained] == [
        (0, False, "fold0"),
        (1, False, "fold1"),
    ]
    (folds.out / "fold1" / "last.pt").unlink()
    train_folds(replace(folds, resume=True))
    assert [(config.fold, config.resume) for config in trained[2:]] == [(0, True), (1, False)]


def test_errors_come_before_anything_is_trained(folds: TrainBrats, trained: list[TrainBrats], tmp_path: Path):
    assert "no fold to resume" in error_of(train_folds, replace(folds, resume=True))
    assert "--folds: got 7" in error_of(train_folds, replace(folds, folds=7))
    assert "--lr: got -1" in error_of(train_folds, replace(folds, lr=-1))
    # a fold that this cross-validation would not write over, but whose scores would be counted with it
    write_mark(folds.out / "fold6")
    (folds.out / "fold6" / "last.pt").touch()
    assert f"{folds.out / 'fold6'}: already holds a run" in error_of(train_folds, folds)
    write_mark(folds.out)
    for name in ("last.pt", "config.yaml"):  # the latter alone is that of a run that was stopped early
        (folds.out / name).touch()
        assert "holds a run of its own" in error_of(train_folds, folds)
        (folds.out / name).unlink()
    assert not trained


def test_one_fold_alone(folds: TrainBrats, phantoms: Path):
    """`--fold 1` trains as any run does, on what the whole cross-validation gives that fold."""
    tested = read_splits(train(replace(folds, fold=1)))["test"]
    expected = fold_cases([DataSet(phantoms, folds.modalities)], folds=2, fold=1, seed=folds.seed).test
    assert [case["name"] for case in tested] == names(expected)


def test_folds_without_their_number_are_an_error(folds: TrainBrats, trained: list[TrainBrats]):
    assert "--folds: got None, expected the number of runs" in error_of(train_folds, replace(folds, folds=None))
    assert trained == []


def test_folds_are_not_one_run(folds: TrainBrats):
    """The command line trains all of them; who calls `train` has to say which."""
    assert "--fold for one" in error_of(train, folds)
    assert not folds.out.exists()


@pytest.mark.parametrize("task", ["brats", "sentiment"])
def test_a_run_that_is_called_like_a_fold_belongs_to_no_cross_validation(config: TrainBrats, task: str):
    out = config.out / "fold0"
    run = replace(config, out=out) if task == "brats" else TrainSentiment(data=config.data, out=out)
    assert "no folds of a cross-validation" in error_of(cross_validation_config, run, config.out)


def test_a_fold_belongs_to_the_cross_validation_without_its_number(folds: TrainBrats):
    assert cross_validation_config(replace(folds, fold=1, out=folds.out / "fold1"), folds.out) == folds
