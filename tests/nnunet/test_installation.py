"""What keeps nnU-Net from being used, and what is said of it: nothing here needs nnU-Net."""

import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest
import torch

from gmd import cli
from gmd.errors import UserError
from gmd.nnunet import installation


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Lets packages be absent."""
    there = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name in names else there(name, *more))


def with_nnunet(monkeypatch: pytest.MonkeyPatch, version: str = "2.8.1") -> None:
    """Lets nnU-Net be there in a version, as far as anybody asks before it is imported."""
    monkeypatch.setattr(installation, "is_installed", lambda: True)
    told = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == "nnunetv2" else told(name))


@pytest.mark.parametrize(
    ("of_torch", "of_torchvision"),
    [("2.13.0", "0.28.0"), ("2.13.0+cpu", "0.28.0"), ("2.7.1", "0.22.1"), ("2.8.0a0+git12", "0.23.0")],
)
def test_the_torchvision_that_belongs_to_a_torch(of_torch: str, of_torchvision: str):
    assert installation.torchvision_for(of_torch) == of_torchvision


def test_where_it_is_absent_the_line_keeps_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    without(monkeypatch, "nnunetv2")
    assert installation.trouble() is None, "nobody has asked for it"
    with pytest.raises(UserError, match="nnunetv2 is not installed") as error:
        installation.prepare()
    version = torch.__version__.partition("+")[0]
    line = f"pip install torch=={version} torchvision=={installation.torchvision_for(version)} 'nnunetv2>=2.8,<2.9'"
    assert str(error.value).endswith(line)
    assert cli.main(["nnunet"]) == 0
    assert line in capsys.readouterr().out.splitlines()[0]


def test_a_version_that_looks_for_no_trainers_is_refused(monkeypatch: pytest.MonkeyPatch):
    with_nnunet(monkeypatch, "2.6.2")
    with pytest.raises(UserError, match=r"nnunetv2 2\.6\.2: looks for no trainers outside its package, 2\.8 does: pip"):
        installation.prepare()


@pytest.mark.parametrize("error", ["ImportError('undefined symbol: _ZN3c10')", "RuntimeError('operator x::y is old')"])
def test_a_torchvision_that_does_not_fit_is_told_with_the_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str
):
    with_nnunet(monkeypatch)
    told = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.20.1" if name == "torchvision" else told(name))
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy", "torch (==2.5.1)"])
    (tmp_path / "torchvision.py").write_text(f"raise {error}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    trouble = installation.trouble() or ""
    assert "torchvision 0.20.1" in trouble
    assert f"cannot be imported beside torch {torch.__version__}" in trouble
    assert "torchvision 0.20.1 is built for torch 2.5.1. Install those that fit: pip install torch==" in trouble


WITHOUT_OPERATORS = """
import sys

# whatever lets torchvision be imported in this environment steps aside
sys.meta_path = [finder for finder in sys.meta_path if "torchvision" not in repr(finder).lower()]
sys.path.insert(0, sys.argv[1])
from gmd.nnunet import installation
installation._import_torchvision()
import torchvision
assert torchvision.later, "the import went on to its end"
"""
LIKE_TORCHVISION = """
import torch
@torch.library.register_fake("torchvision::nms")
def meta_nms(dets, scores, iou_threshold):
    return dets
@torch.library.register_fake("torchvision::qnms")
def meta_qnms(dets, scores, iou_threshold):
    return dets
later = True
"""


@pytest.mark.slow
def test_operators_that_a_torchvision_lacks_are_declared(tmp_path: Path):
    """In a process of its own, since operators stay. The package says what PyPI's does where its library is none."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(LIKE_TORCHVISION, encoding="utf-8")
    command = [sys.executable, "-c", WITHOUT_OPERATORS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_doctor_tells_what_is_wrong_with_nnunet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    from gmd.cli import doctor

    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    monkeypatch.setattr(installation, "trouble", lambda: "nnU-Net needs another torchvision")
    assert not doctor._report_nnunet()
    assert "nnU-Net needs another torchvision" in capsys.readouterr().out
    monkeypatch.setattr(installation, "trouble", lambda: None)
    assert doctor._report_nnunet()
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    capsys.readouterr()
    assert doctor._report_nnunet()
    assert capsys.readouterr().out == "", "who has no nnU-Net need not know of it"
