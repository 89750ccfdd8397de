"""Runs of 0.1: read by every command that can, and refused by one sentence by those that cannot. See README.md here."""

import shlex
import shutil
import zipfile
from pathlib import Path

import pytest

import gmd.cli
from gmd.training.checkpoint import load_checkpoint
from helpers.places import TESTS

OLD_NETWORK = "trained with the network of an earlier gmd, which this gmd"


def gmd_command(line: str) -> int:
    return gmd.cli.main(shlex.split(line))


def unpacked(name: str, folder: Path) -> None:
    with zipfile.ZipFile(TESTS / "old_runs" / name) as archive:
        archive.extractall(folder)


@pytest.fixture
def sentiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on sequences, evaluated, with one of its three epochs trained; Python is in the folder that holds it."""
    unpacked("sentiment_0.1.zip", tmp_path)
    shutil.copyfile(tmp_path / "sentiment/last.pt", tmp_path / "sentiment/best.pt")
    monkeypatch.chdir(tmp_path)
    return Path("sentiment")


@pytest.fixture
def brats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on volumes, evaluated, whose network gmd no longer builds."""
    unpacked("brats_0.1.zip", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("brats")


def test_they_are_of_0_1(sentiment: Path, brats: Path):
    assert load_checkpoint(sentiment / "last.pt")["version"] == "0.1.0"
    assert load_checkpoint(brats / "best.pt")["version"] == "0.1.0"
    assert not list(Path().glob("*/gmd_run.json")), "runs had no mark then"


# On sequences


def predictions(run: Path) -> dict[str, list[float]]:
    """Sample -> what was predicted of it, subset by subset."""
    _, *rows = (run / "evaluation/predictions.csv").read_text(encoding="utf-8").splitlines()
    return {row.split(",")[0]: [float(cell) for cell in row.split(",")[2:]] for row in rows}


def test_a_run_on_sequences_is_evaluated_as_it_was(sentiment: Path):
    then = predictions(sentiment)
    shutil.rmtree(sentiment / "evaluation")
    assert gmd_command("evaluate sentiment") == 0
    now = predictions(sentiment)
    assert now.keys() == then.keys()
    assert len(now) == 2
    for sample in then:
        assert now[sample] == pytest.approx(then[sample], abs=1e-4), "the same network predicts the same"
    assert (sentiment / "report.html").exists()


def test_its_results_of_then_are_reported_and_advised_on(sentiment: Path, capsys: pytest.CaptureFixture):
    assert gmd_command("report sentiment") == 0
    assert gmd_command("advise sentiment") == 0
    assert "sentiment" in capsys.readouterr().out


def test_its_results_of_then_are_compared(sentiment: Path):
    shutil.copytree(sentiment, "other")
    assert gmd_command("compare sentiment other") == 0
    assert (sentiment / "evaluation/compare_other/compare.md").exists()


def test_a_run_on_sequences_goes_on(sentiment: Path):
    assert gmd_command("train sentiment --config sentiment/config.yaml --out sentiment --resume") == 0
    state = load_checkpoint(sentiment / "last.pt")
    assert (state["epochs"], state["version"]) == (3, gmd.__version__)


# On volumes


def test_results_of_a_run_on_volumes_are_reported_and_advised_on(brats: Path, capsys: pytest.CaptureFixture):
    assert gmd_command("report brats") == 0
    assert gmd_command("advise brats") == 0
    page = (brats / "report.html").read_text(encoding="utf-8")
    assert "an earlier gmd scored the network&#39;s channels" in page
    assert "a network of gmd 0.1 has to be trained anew first" in page, "gmd evaluate refuses it"


def test_results_of_a_run_on_volumes_are_compared(brats: Path):
    shutil.copytree(brats, "other")
    assert gmd_command("compare brats other") == 0


@pytest.mark.parametrize("line", ["evaluate brats", "predict brats --t1 t1.nii.gz -o seg.nii.gz"])
def test_what_needs_the_network_of_a_run_on_volumes_is_refused(brats: Path, capsys: pytest.CaptureFixture, line: str):
    Path("t1.nii.gz").write_bytes(b"")
    assert gmd_command(line) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"gmd: error: brats/best.pt: {OLD_NETWORK} {gmd.__version__} no longer builds")
    assert said.endswith("use it with the gmd that wrote it, or train anew")
