"""What the environment asks for is checked before a run has a folder."""

from pathlib import Path

import pytest
import torch

import gmd.cli
from gmd.config.environment import check_environment
from gmd.errors import UserError

WRONG = {
    "no backend": ("GMD_BACKEND", "evil\x1b[2J", r"GMD_BACKEND: got 'evil\\x1b\[2J', expected cuda, cpu, triton or"),
    "no GPU": ("GMD_BACKEND", "cuda", "GMD_BACKEND: got 'cuda', which cannot be used: "),
    "no instruction set": ("GMD_CPU_ISA", "sse9", "GMD_CPU_ISA: got 'sse9', expected generic, avx2 or avx512"),
    "nothing": ("GMD_CPU_ISA", "", "GMD_CPU_ISA: got '', expected generic"),
    "no number": ("GMD_MAX_GB", "much", "GMD_MAX_GB: got 'much', expected the most that a file may take"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_there_is_not_is_refused(case: str, monkeypatch: pytest.MonkeyPatch):
    variable, value, message = WRONG[case]
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        check_environment(torch.device("cpu"))


def test_a_backend_of_another_device_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GMD_BACKEND", "reference")
    check_environment(torch.device("cuda"))
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    with pytest.raises(UserError, match="cannot be used"):
        check_environment(torch.device("cuda"))


def test_training_does_not_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("GMD_BACKEND", "evil")
    run = tmp_path / "run"
    assert gmd.cli.main(["train", "brats", "--data", str(tmp_path), "--out", str(run)]) == 2
    assert capsys.readouterr().err.startswith("gmd: error: GMD_BACKEND: got 'evil', expected")
    assert not run.exists()


@pytest.mark.parametrize("where", ["out", "data"])
@pytest.mark.parametrize("task", ["brats", "sentiment"])
def test_a_path_in_no_encoding_is_refused(where: str, task: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """TensorBoard cannot write there, and config.yaml could not name it."""
    paths = {"out": str(tmp_path / "run"), "data": str(tmp_path)} | {where: str(tmp_path / "gr\udcf6sse")}
    assert gmd.cli.main(["train", task, "--data", paths["data"], "--out", paths["out"]]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gmd: error: --{where}: got ")
    assert r"gr\xf6sse, expected a path in UTF-8" in error
    assert list(tmp_path.iterdir()) == []
