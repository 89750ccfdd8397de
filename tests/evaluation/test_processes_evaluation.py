"""Several processes evaluate: each scores some of the cases, and what one of them writes is what one alone writes."""

import contextlib
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

import gmd.cli
import gmd.training.loop
from gmd.config import TrainBrats
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.training import train, train_folds
from helpers.evaluation_cases import names, untrained_run
from helpers.run_cases import tiny_sentiment
from helpers.together_cases import together
from helpers.training_cases import TWO

pytestmark = pytest.mark.slow

COMMANDS = {
    "sentiment": ["--missing", "0.3", "--missing-curve", "0", "0.5"],
    "cases/run": [],
    "bad/run": [],
    "folds": [],
    "nothing": [],
}


class Evaluated(NamedTuple):
    """An exit status, and what was printed."""

    status: int
    text: str


def evaluated(folder: Path, name: str) -> Evaluated:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        status = gmd.cli.main(["evaluate", str(folder / name), *COMMANDS[name]])
    return Evaluated(status, stream.getvalue())


def all_evaluated(folder: Path) -> dict[str, Evaluated]:
    """After the training of the folds, which several processes make too."""
    gmd.training.loop.draw_pictures = lambda run, task: "not drawn"
    options = {"width": 0.125, "patch": (16, 16, 16), "epochs": 1, "batch": 2, "steps_per_epoch": 1, "device": "cpu"}
    train_folds(TrainBrats(data=(folder / "phantoms",), out=folder / "folds", modalities=TWO, folds=2, **options))
    return {name: evaluated(folder, name) for name in COMMANDS}


def write_run(folder: Path, phantoms: Path, spoilt: int) -> Path:
    """An untrained run with four cases to test on, of which the images of some are cut off. Returns its folder."""
    for split, case in zip(("train", "validation", *["test"] * 4), sorted(phantoms.iterdir()), strict=True):
        shutil.copytree(case, folder / "data" / split / case.name)
    run = untrained_run(folder, modalities=TWO)
    for name in sorted(names(run, "test"))[1 : 1 + spoilt] if spoilt < 4 else names(run, "test"):
        for path in (folder / "data").glob(f"*/{name}/*.nii.gz"):
            path.write_bytes(path.read_bytes()[:-50])
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process: of more samples than are predicted at once, of cases of which one is bad, of bad ones."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_sentiment_phantom(folder / "sentiment.npz", samples=1000, seed=0)
    config = tiny_sentiment(folder / "sentiment.npz", folder / "sentiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.training.loop, "draw_pictures", lambda run, task: "not drawn")
        train(replace(config, epochs=1, batch=256))
    write_phantoms(folder / "phantoms", cases=6, shape=(32, 32, 32), seed=0)
    write_run(folder / "cases", folder / "phantoms", spoilt=1)
    write_run(folder / "bad", folder / "phantoms", spoilt=4)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path, one_thread: None) -> dict[str, Evaluated]:
    """By one process; the results are put aside."""
    found = {}
    for name in ("sentiment", "cases/run"):
        found[name] = evaluated(folder, name)
        shutil.move(folder / name / "evaluation", folder / name / "by one")
    return found


@pytest.fixture(scope="module")
def several(folder: Path, alone: dict[str, Evaluated]) -> list[dict[str, Evaluated]]:
    (folder / "joined").mkdir()
    return together(2, folder / "joined", all_evaluated, folder)


@pytest.mark.parametrize("name", ["sentiment", "cases/run"])
def test_the_results_are_those_of_one_process_bit_for_bit(several, alone, folder: Path, name: str):
    ours, theirs = folder / name / "by one", folder / name / "evaluation"
    files = sorted(path.name for path in ours.iterdir())
    assert sorted(path.name for path in theirs.iterdir()) == files
    for file in files:
        if not file.endswith(".png"):  # which holds the time
            assert (theirs / file).read_bytes() == (ours / file).read_bytes(), file
    assert several[0][name].status == several[1][name].status == alone[name].status


def test_one_process_tells(several, alone):
    """The bar of the cases aside, it tells what one by itself does."""
    for name in ("sentiment", "cases/run"):
        first, other = (each[name].text for each in several)
        told = [line for line in alone[name].text.splitlines() if "case/s" not in line]
        assert [line for line in first.splitlines() if "case/s" not in line] == told
        assert [line for line in other.splitlines() if line.strip() and "case/s" not in line] == []


def test_folds_are_trained_and_scored(several, folder: Path):
    assert [each["folds"].status for each in several] == [0, 0]
    lines = (folder / "folds" / "evaluation" / "cases.csv").read_text().splitlines()
    assert len({line.split(",")[0] for line in lines[1:]}) == 6
    assert (folder / "folds" / "report.html").exists()


@pytest.mark.parametrize(("name", "text"), [("bad/run", "nothing was scored"), ("nothing", "nothing: no config.yaml")])
def test_an_error_is_told_once(several, name: str, text: str):
    first, other = (each[name] for each in several)
    assert (first.status, other.status) == (2, 2)
    assert first.text.count("gmd: error: ") == 1
    assert text in first.text
    assert "error" not in other.text
