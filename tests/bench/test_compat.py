"""`make compat`: which environments are tried, what becomes of those that cannot be, and the table."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.compat import __main__ as command
from bench.compat import torch_wheels, trial, wanted
from bench.compat.wanted import NEW_NUMPY, OLD_NUMPY, Wanted, interpreter, minors, spread
from bench.measure.files import write_csv
from bench.tables.compat import NEVER, compat_section, read_compat

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_each_torch_is_tried_once_and_each_python_and_numpy_somewhere():
    torches = minors(["2.15.0", "2.14.1", "2.14.0", "2.10.0", "2.9.1", "2.8.0", "2.7.1", "1.13.1", "2.16.0rc1"])
    assert torches == ["2.8", "2.9", "2.10", "2.14", "2.15"], "as numbers, not as text"
    rows = spread(torches)
    assert [row.torch for row in rows] == torches
    assert {row.python for row in rows} == set(wanted.PYTHONS)
    assert {row.numpy for row in rows} == {OLD_NUMPY, NEW_NUMPY}
    assert all(row.numpy == NEW_NUMPY for row in rows if row.python == "3.13"), "which the old one has no wheels for"
    assert spread(["2.8"]) == [Wanted("3.10", "2.8", OLD_NUMPY)]


def test_an_interpreter_is_one_that_runs(tmp_path, monkeypatch):
    """Pyenv has stand-ins for Pythons that are not chosen, which end with an error."""
    stand_in = tmp_path / f"python{HERE}"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(wanted.Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interpreter(HERE) is None
    stand_in.unlink()
    stand_in.symlink_to(sys.executable)
    assert interpreter(HERE) == stand_in


def test_what_cannot_be_had_is_told_and_nothing_is_installed(tmp_path, monkeypatch):
    row = trial.trial(Wanted("3.99", "2.8", NEW_NUMPY), tmp_path / "none.tar.gz", tmp_path / "env", False, print)
    assert (row["outcome"], row["why"]) == ("not tried", trial.NO_PYTHON)
    assert not (tmp_path / "env").exists()
    monkeypatch.setattr(trial, "_step", lambda *_, **__: 0.0)
    monkeypatch.setattr(trial, "interpreter", lambda python: Path(sys.executable))
    monkeypatch.setattr(torch_wheels, "reachable", lambda index: False)
    monkeypatch.setattr(torch_wheels, "_on_disk", lambda *_: None)
    row = trial.trial(Wanted(HERE, "2.8", NEW_NUMPY), tmp_path / "none.tar.gz", tmp_path / "env", False, print)
    assert (row["outcome"], row["why"]) == ("not tried", trial.NO_TORCH)
    assert torch_wheels.sources(Path(sys.executable), "2.8", tmp_path, True) == ("PyPI", ["torch==2.8.*"])


def no_venv(*_: object) -> float:
    raise trial.StepFailed("venv: no ensurepip")


def broken_torch(*_: object) -> dict:
    raise subprocess.CalledProcessError(1, "python", stderr="Traceback\nImportError: libgomp.so.1 is not there\n")


def none_passed(*_: object, **__: object) -> str:
    return "7 skipped in 0.1s"


@pytest.mark.parametrize(
    ("stands_in", "by", "why"),
    [
        ("_step", no_venv, "venv: no ensurepip"),
        ("what_came", broken_torch, "import torch: ImportError: libgomp.so.1 is not there"),
        ("_output", none_passed, "tests: none passed, all were skipped"),
    ],
)
def test_whatever_fails_is_a_row_and_the_others_are_tried(tmp_path, monkeypatch, stands_in: str, by, why: str):
    (tmp_path / "packed").mkdir()
    archive = shutil.make_archive(str(tmp_path / "gmd"), "gztar", tmp_path, "packed")
    monkeypatch.setattr(trial, "interpreter", lambda python: Path(sys.executable))
    monkeypatch.setattr(trial, "sources", lambda *_: ("PyPI", ["torch"]))
    monkeypatch.setattr(trial, "_step", lambda *_, **__: 0.0)
    monkeypatch.setattr(trial, "what_came", lambda *_: {"torch": "2.8.0"})
    monkeypatch.setattr(trial, stands_in, by)
    row = trial.trial(Wanted(HERE, "2.8", NEW_NUMPY), Path(archive), tmp_path / "env", False, lambda told: None)
    assert (row["outcome"], row["why"]) == ("failed", why)


def test_a_step_that_fails_says_which_and_what_it_printed_last(tmp_path):
    with pytest.raises(trial.StepFailed, match=r"^its name: ValueError: of no use$"):
        trial._output("its name", [sys.executable, "-c", "raise ValueError('of no use')"], tmp_path)
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    assert trial._output("well", [sys.executable, "-c", "print('well')"], tmp_path) == "well\n"


@pytest.mark.parametrize(
    ("line", "alone"), [("Requires-Dist: nvidia-cudnn-cu13", False), ("Requires-Dist: sympy", True)]
)
def test_a_wheel_for_the_cpu_asks_for_nothing_of_nvidia(tmp_path, line: str, alone: bool):
    with zipfile.ZipFile(wheel := tmp_path / "torch-2.8.0.whl", "w") as archive:
        archive.writestr("torch-2.8.0.dist-info/METADATA", f"Name: torch\n{line}\n\nRequires-Dist: nvidia-text\n")
    assert torch_wheels.needs_no_cuda(wheel) is alone


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """What the command was asked to try, without trying it."""
    seen = []

    def stand_in(row, archive, folder, any_build, tell):
        seen.append((row, any_build))
        seconds = {f"{part}_s": 6.0 for part in ("install", "build", "doctor", "tests", "commands")}
        found = {"torch": f"{row.torch}.0", "numpy": "2.1", "build": "CPU", "tests": 7}
        return {"python": row.python, "outcome": "passed"} | found | seconds

    monkeypatch.setattr(command, "trial", stand_in)
    monkeypatch.setattr(command, "source_archive", lambda folder: tmp_path / "none.tar.gz")
    return seen


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.compat", *words])
    return command.main()


def test_one_environment_replaces_its_row_and_leaves_the_others(tried, monkeypatch, tmp_path):
    out = tmp_path / "compat.csv"
    old = {
        "python": "3.12",
        "torch": "2.10.0",
        "numpy": "2.1",
        "outcome": "failed",
        "why": "tests: 1 failed",
        "commit": "1e5",
    }
    other = old | {"torch": "2.1.0"}
    write_csv(out, [old, other], {"date": "2026-01-01 00:00", "system": "Linux", "cores": 2})
    assert run(monkeypatch, "--only", "3.12:2.10", "--out", str(out)) == 0
    assert tried == [(Wanted("3.12", "2.10", NEW_NUMPY), False)]
    rows = read_compat(out).set_index("torch")
    assert list(rows.index) == ["2.1.0", "2.10.0"]
    assert list(rows["outcome"]) == ["failed", "passed"]
    assert rows["commit"]["2.1.0"] == "1e5"


def test_names_that_are_none_and_no_network_are_told(tried, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--only", "2.13")
    assert "'2.13' is no PYTHON:TORCH such as 3.11:2.13" in capsys.readouterr().err
    monkeypatch.setattr(command, "torches", list)
    assert run(monkeypatch) == 2
    assert "is there a network?" in capsys.readouterr().err
    assert not tried


def test_the_table_tells_failures_and_what_was_not_tried(tmp_path):
    assert compat_section(tmp_path) == NEVER
    rows = [
        {"python": "3.10", "torch": "2.10", "numpy": "1.26.*", "outcome": "not tried", "why": trial.NO_TORCH},
        {"python": "3.13", "torch": "2.15.0", "numpy": "2.4", "outcome": "passed", "tests": 812, "build": "CPU"}
        | {f"{part}_s": 12.0 for part in ("install", "build", "doctor", "tests", "commands")},
        {
            "python": "3.12",
            "torch": "2.12.0",
            "numpy": "2.4",
            "outcome": "failed",
            "why": "gmd train: no",
            "build": "CPU",
        }
        | {"tests": 700}
        | {f"{part}_s": 15.0 for part in ("install", "build", "doctor", "tests")},
    ]
    host = {"date": "2026-01-01 00:00", "system": "Linux", "cores": 2, "commit": "abc"}
    write_csv(tmp_path / "compat.csv", rows, host)
    shown = compat_section(tmp_path)
    assert f"| 3.10 | 2.10 | 1.26.* |  | not tried: {trial.NO_TORCH} |  |  |" in shown
    assert "| 3.13 | 2.15.0 | 2.4 | CPU | passed | 812 | 1.0 |" in shown
    assert "| 3.12 | 2.12.0 | 2.4 | CPU | failed: gmd train: no | 700 | 1.0 |" in shown
    assert "gmd abc" in shown
