"""The folder that nnU-Net finds our trainers in, and what else nnUNet_extTrainer may say."""

import os
from pathlib import Path

import pytest

import gmd
from gmd import cli
from gmd.errors import UserError
from gmd.nnunet.trainer_folder import TRAINERS, VARIABLE, check_folders, use_trainers

PACKAGE = Path(gmd.__file__).parent


def test_the_folder_holds_the_trainers_and_nothing_else():
    assert sorted(path.name for path in TRAINERS.glob("*.py")) == ["__init__.py", "gmd_trainers.py"]


def test_path_prints_the_folder_alone(capsys: pytest.CaptureFixture):
    """As `export nnUNet_extTrainer=$(gmd nnunet path)` needs it."""
    assert cli.main(["nnunet", "path"]) == 0
    assert capsys.readouterr().out == f"{TRAINERS}\n"


def test_our_folder_comes_before_those_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for before, after in {
        "": str(TRAINERS),
        str(tmp_path): f"{TRAINERS}{os.pathsep}{tmp_path}",
        f"{tmp_path}{os.pathsep}{TRAINERS}": f"{tmp_path}{os.pathsep}{TRAINERS}",
    }.items():
        monkeypatch.setenv(VARIABLE, before)
        use_trainers()
        assert os.environ[VARIABLE] == after


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (str(TRAINERS / "gmd_trainers.py"), "gmd_trainers.py is a file, in which nnU-Net finds nothing"),
        ("nowhere/at/all", "there is no nowhere/at/all, which nnU-Net does not tell"),
        (str(PACKAGE), "is gmd itself, and nnU-Net would import all of it"),
        (str(PACKAGE.parent), "holds more than trainers, and nnU-Net would import all of it"),
        (f"{TRAINERS}{os.pathsep}nowhere", "there is no nowhere"),
    ],
    ids=["a file", "nothing", "gmd", "its parent", "a second one"],
)
def test_a_value_that_finds_nothing_or_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, reason: str):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(UserError) as error:
        use_trainers()
    assert reason in str(error.value)
    assert str(TRAINERS) in str(error.value), "what to give instead"
    assert os.environ[VARIABLE] == value


def test_a_link_to_gmd_is_gmd(tmp_path: Path):
    (tmp_path / "link").symlink_to(PACKAGE)
    with pytest.raises(UserError, match="is gmd itself"):
        check_folders(str(tmp_path / "link"))
