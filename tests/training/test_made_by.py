"""A run of a later version is refused before anything is computed or written; one of an earlier version is not."""

import json
import shlex
from pathlib import Path

import pytest
import torch

import gmd.cli
from gmd.errors import UserError
from gmd.training.checkpoint import FORMAT, load_checkpoint
from gmd.training.made_by import MARK, check_made_by, check_run_made_by

LATER = ["0.3.0", "1.0.0", "0.10", "0.3.0.dev1", "0.3.0rc1", "12.0.0+cu130"]
OURS = [gmd.__version__, "0.1.0", "0.2.99", "0.0.1", "0.2.0+local"]
NONE = [None, 3, "", "later", "0", "-1.0", "9.x", "٣.٤", {"gmd": "9.0"}, "9." + "0" * 5000]


@pytest.fixture(autouse=True)
def this_is_0_2(monkeypatch: pytest.MonkeyPatch):
    """Whatever it is by now."""
    monkeypatch.setattr("gmd.training.made_by.__version__", "0.2.0")


@pytest.mark.parametrize("version", LATER)
def test_a_later_version_is_refused_with_both_and_what_to_do(version: str):
    with pytest.raises(UserError) as refused:
        check_made_by(Path("run/last.pt"), version)
    assert str(refused.value) == (
        f"run/last.pt: written by gmd {version}, and this is gmd 0.2.0, which does not read runs of later versions; "
        "use it with that gmd, or a later one"
    )


@pytest.mark.parametrize("version", [*OURS, *NONE], ids=range(len(OURS) + len(NONE)))
def test_an_earlier_version_and_what_is_none_says_nothing(version: object):
    check_made_by(Path("run/last.pt"), version)


@pytest.mark.parametrize("content", [None, "", "no json", "[]", "{}", '{"gmd": "0.1.0"}', '{"gmd": [9]}'])
def test_a_mark_that_says_nothing_of_it_is_passed_over(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / MARK).write_text(content)
    check_run_made_by(tmp_path)


COMMANDS = [
    *(
        "evaluate run",
        "report run",
        "advise run",
        "view run case",
        "evaluate folds",
        "view folds case",
        "compare run run2",
        "predict run --t1 t1.nii.gz -o seg.nii.gz",
    ),
    *("train sentiment --data absent.npz --out run --resume", "train sentiment --data absent.npz --out run"),
]


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_begins_with_a_run_of_a_later_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, line: str
):
    """Whatever it holds: options that nobody here knows, for instance."""
    monkeypatch.chdir(tmp_path)
    for run in map(Path, ("run", "run2", "folds/fold0")):
        (run / "evaluation").mkdir(parents=True)
        (run / "config.yaml").write_text("task: telepathy\nthoughts: many\n")
        (run / "last.pt").write_bytes(b"")
        mark = {"format": 1, "id": "0" * 32, "gmd": "0.3.0", "made": "later"}
        (run / MARK).write_text(json.dumps(mark))
    Path("t1.nii.gz").write_bytes(b"")
    before = {path: path.is_dir() or path.read_bytes() for path in Path().rglob("*")}
    assert gmd.cli.main(shlex.split(line)) == 2
    [said] = capsys.readouterr().err.splitlines()
    run = "folds/fold0" if "folds" in line else "run"
    assert said.startswith(f"gmd: error: {run}/{MARK}: written by gmd 0.3.0, and this is gmd 0.2.0, which")
    assert {path: path.is_dir() or path.read_bytes() for path in Path().rglob("*")} == before


def test_a_checkpoint_that_a_later_version_went_on_with_is_refused(tmp_path: Path):
    """The mark is of who began the run."""
    torch.save({"format": FORMAT, "version": "0.3.0", "config": {}}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt: written by gmd 0\.3\.0, and this is gmd 0\.2\.0"):
        load_checkpoint(tmp_path / "last.pt")
