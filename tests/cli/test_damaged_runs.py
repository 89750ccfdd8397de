"""Every file of a run in turn is replaced by something else: each command says so, and none ends in a traceback."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.training.loop
from gmd.config import TrainBrats, TrainConfig, TrainSentiment
from gmd.config.checks import option_text
from gmd.training.tasks import Validation
from helpers.damaged_runs import RUBBISH, call, copy_of, files_of
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import TWO

pytestmark = pytest.mark.usefixtures("one_thread")

# what a command does not read, it may do without
NOT_READ = ("curves.png", "cosines.png", "dominance.png")


def arguments(config: TrainConfig) -> list[str]:
    names = ["data", "modalities", "width", "epochs", "validate_every", "device"]
    names += ["patch", "steps_per_epoch"] if isinstance(config, TrainBrats) else ["layers", "heads", "batch"]
    names += [] if isinstance(config, TrainBrats) else ["dropout", "missing"]
    options = [[f"--{name.replace('_', '-')}", *option_text(getattr(config, name)).split()] for name in names]
    return ["train", config.TASK, *(word for words in options for word in words)]


def make_run(config: TrainConfig) -> TrainConfig:
    """Trained, evaluated, and such that its first epoch is the best one, from which --resume has something to do."""
    with pytest.MonkeyPatch.context() as patch:
        scores = Validation(0.5, {"WT": 0.5, "TC": 0.5, "ET": 0.5})
        patch.setattr(gmd.training.loop, "validate", lambda *_: scores)
        assert call(*arguments(config), "--out", config.out)[0] == 0
    assert call("evaluate", config.out)[0] == 0
    shutil.copy(config.out / "best.pt", config.out / "last.pt")
    return config


@pytest.fixture(scope="module")
def runs(phantoms: Path, sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainConfig]:
    folder = tmp_path_factory.mktemp("runs")
    small = {"width": 0.125, "patch": (16, 16, 16), "epochs": 2, "steps_per_epoch": 1, "validate_every": 1}
    brats = TrainBrats(data=phantoms, out=folder / "brats", modalities=TWO, device="cpu", **small)
    return {
        "brats": make_run(brats),
        "sentiment": make_run(replace(tiny_sentiment(sentiment, folder / "sentiment"), validate_every=1)),
    }


def commands(config: TrainConfig, run: Path, work: Path) -> dict[str, list]:
    """Every command that reads a run, on a copy of it; comparing is with the whole one."""
    found = {
        "report": ["report", run],
        "compare": ["compare", config.out, run, "--out", work / "compared"],
        "resume": [*arguments(config), "--out", run, "--resume"],
        "config": ["train", config.TASK, "--config", run / "config.yaml", "--out", run],
        "evaluate": ["evaluate", run],
    }
    if isinstance(config, TrainBrats):
        first = sorted(config.data[0].iterdir())[0]
        found["predict"] = ["predict", run, first, "-o", work / "predicted.nii.gz"]
    return found


def try_some(config: TrainConfig, name: str, what: str, work: Path, start: int) -> None:
    """Tries every third command on a run with a file that is replaced, from the one at `start` on."""
    every = list(commands(config, work / "run", work))
    for command in every[start % 3 :: 3]:
        run = copy_of(config.out, work / "run")
        RUBBISH[what](run / name)
        status, said = call(*commands(config, run, work)[command])
        assert status in (0, 1, 2), command
        assert "Traceback" not in said
        assert "weights_only" not in said, "torch's advice would execute what is in the file"
        shutil.rmtree(run)
        assert not (Path.cwd() / "executed").exists(), command
        for path in (work / "predicted.nii.gz", work / "predicted.json"):
            path.unlink(missing_ok=True)
        shutil.rmtree(work / "compared", ignore_errors=True)


def test_the_files_are_those_that_are_meant(runs: dict[str, TrainConfig]):
    names = set(files_of(runs["brats"].out))
    assert names >= {"config.yaml", "splits.json", "metrics.jsonl", "best.pt", "last.pt", "dominance.txt"}
    assert names >= {f"evaluation/{name}" for name in ("cases.csv", "table.csv", "checkpoint.txt", "case_median.png")}
    assert "evaluation/predictions.csv" in files_of(runs["sentiment"].out)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("best.pt", "a program"),
        ("config.yaml", "deep lists"),
        ("splits.json", "null"),
        ("metrics.jsonl", "a huge number"),
        ("evaluation/table.csv", "not UTF-8"),
        ("evaluation/shapley.csv", "deep lists"),
        ("evaluation/checkpoint.txt", "a pipe"),
        ("evaluation/case_median.png", "a link to endless zeros"),
    ],
)
def test_some_files_replaced(runs: dict[str, TrainConfig], tmp_path: Path, name: str, what: str):
    config = runs["brats"]
    run = copy_of(config.out, tmp_path / "run")
    RUBBISH[what](run / name)
    status, said = call("report", run)
    picture = name.endswith(".png")
    assert status == (0 if picture else 2), said
    assert picture or f"gmd: error: {run / name}: " in said


@pytest.mark.slow
@pytest.mark.parametrize("what", RUBBISH)
@pytest.mark.parametrize("task", ["brats", "sentiment"])
def test_every_file_replaced(
    runs: dict[str, TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, what: str
):
    monkeypatch.chdir(tmp_path)
    config = runs[task]
    # one after the other, so that each file meets each command with a third of the rubbish
    for number, name in enumerate(files_of(config.out), start=sorted(RUBBISH).index(what)):
        if name not in NOT_READ:
            try_some(config, name, what, tmp_path, number)


def test_options_of_a_run_are_of_its_task(runs: dict[str, TrainConfig], tmp_path: Path):
    """Files of two runs that are each whole do not make one."""
    brats, sentiment = runs["brats"], runs["sentiment"]
    assert isinstance(sentiment, TrainSentiment)
    commands = {
        "splits.json": ["evaluate"],
        "metrics.jsonl": ["report"],
        "best.pt": ["evaluate"],
        "config.yaml": ["evaluate"],
        "evaluation/table.csv": ["report"],
    }
    for name, words in commands.items():
        run = copy_of(sentiment.out, tmp_path / Path(name).stem)
        shutil.copy(brats.out / name, run / name)
        status, said = call(*words, run)
        assert (status, name in said) == (2, True), (name, said)
