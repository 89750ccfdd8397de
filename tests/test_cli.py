"""The command line: what it teaches, what it hands on, and how it fails."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import gmd.cli
import gmd.evaluation.brats
import gmd.train
import gmd_kernels as gk
from gmd.config import TASKS, TrainBrats
from gmd.errors import UserError
from gmd.run_folder import write_json


def help_of(capsys: pytest.CaptureFixture, *command: str) -> str:
    with pytest.raises(SystemExit) as left:
        gmd.cli.main([*command, "--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


COMMANDS = [["phantom"], *(["train", task] for task in TASKS), ["evaluate"], ["convert"], ["doctor"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does_and_how_to_call_it(capsys: pytest.CaptureFixture, command: list[str]):
    assert f"Example: gmd {' '.join(command)}" in help_of(capsys, *command)
    assert command[0] in help_of(capsys)


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_of_training_is_explained(capsys: pytest.CaptureFixture, task: str):
    text = help_of(capsys, "train", task)
    for name in (field.name for field in fields(TASKS[task])):
        _, _, after = text.partition(f"--{name.replace('_', '-')} ")
        explanation = after.partition("(default" if name != "data" else "(required")[0]
        assert len(explanation.split()) > 3, name  # the first is the type


def test_help_does_not_wait_for_monai():
    code = (
        "import sys, gmd.cli\n"
        "try: gmd.cli.main(['train', 'brats', '--help'])\n"
        "except SystemExit: print({'monai', 'matplotlib', 'nibabel'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "set()"


def test_phantom_writes_cases(tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "phantoms"
    assert gmd.cli.main(["phantom", str(out), "--cases", "2", "--shape", "16", "18", "20", "--seed", "3"]) == 0
    assert len(list(out.glob("*/*_t1ce.nii.gz"))) == 2
    assert f"gmd train brats --data {out}" in capsys.readouterr().out
    assert gmd.cli.main(["phantom", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"gmd: error: {out}: already holds cases")


def test_settings_reach_the_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    seen = []
    monkeypatch.setattr(gmd.train, "train", lambda config: seen.append(config) or config.out)
    command = "train brats --data d --out r --method joint --patch 32 48 64 --labels binary --resume --patterns"
    assert gmd.cli.main([*command.split(), "flair=F*.nii.gz", "seg=S*.nii.gz"]) == 0
    assert seen == [
        TrainBrats(
            data=Path("d"),
            out=Path("r"),
            method="joint",
            patch=(32, 48, 64),
            labels="binary",
            resume=True,
            patterns=("flair=F*.nii.gz", "seg=S*.nii.gz"),
        )
    ]
    assert "gmd evaluate r" in capsys.readouterr().out


def test_evaluate_is_handed_run_data_and_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(
        gmd.evaluation.brats, "evaluate_run", lambda *given, **named: seen.append((*given, named["precision"]))
    )
    run = tmp_path / "a"
    write_json(run / "config.json", TrainBrats(Path("d")).to_dict())
    assert gmd.cli.main(["evaluate", str(run)]) == 0
    assert gmd.cli.main(["evaluate", str(run), "--data", "other", "--precision", "bf16"]) == 0
    assert seen == [(run, None, None), (run, Path("other"), "bf16")]


def test_a_user_error_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert gmd.cli.main(["train", "brats", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gmd: error: {tmp_path}: no case found")
    assert error.count("\n") == 1


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(config: TrainBrats) -> Path:
        raise ValueError("a bug")

    monkeypatch.setattr(gmd.train, "train", broken)
    with pytest.raises(ValueError, match="a bug"):
        gmd.cli.main(["train", "brats", "--data", "d"])


def test_a_full_disk_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def full(config: TrainBrats) -> Path:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(gmd.train, "train", full)
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2
    assert "No space left on device: 'metrics.jsonl'" in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def interrupted(config: TrainBrats) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(gmd.train, "train", interrupted)
    command = ["train", "brats", "--data", "my data", "--out", str(tmp_path)]
    assert gmd.cli.main(command) == 130
    assert f"gmd train brats --data 'my data' --out {tmp_path}\n" in capsys.readouterr().err  # nothing saved yet
    (tmp_path / "last.pt").touch()
    assert gmd.cli.main(command) == 130
    assert f"--out {tmp_path} --resume\n" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["tyro", "monai"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, missing: str):
    def without(config: TrainBrats) -> Path:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    if missing == "tyro":
        monkeypatch.setitem(sys.modules, "tyro", None)
    monkeypatch.setattr(gmd.train, "train", without)
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2
    assert f'gmd: error: {missing} is not installed; pip install "gmd[train]"' in capsys.readouterr().err


def test_doctor_needs_torch_alone():
    extras = ("tyro", "monai", "nibabel", "tqdm", "matplotlib", "scipy")
    hide = f"import sys\nfor name in {extras}: sys.modules[name] = None\n"
    code = hide + "import gmd.cli\nsys.exit(gmd.cli.main(['doctor']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "torch" in ran.stdout


def test_the_doctor_asks_each_gpu_through_each_backend(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Here two that are made up; a backend that looks available and does not load is found out."""
    there = dict.fromkeys(("cuda", "cpu", "triton", "reference"), gk.Backend(True, "is there"))
    monkeypatch.setattr(gk, "backends", lambda: there | {"cuda": gk.Backend(False, "not built")})
    for name, value in {"is_available": True, "device_count": 2}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    surgery = gk.surgery

    def on_a_gpu(grads):
        if os.environ["GMD_BACKEND"] == "triton":
            raise ImportError("no libtriton")
        return surgery(grads)

    monkeypatch.setattr(gk, "surgery", on_a_gpu)
    assert gmd.cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    told = [line for line in shown.splitlines() if line.startswith("The kernels compute what they should: ")]
    expected = ["yes, on the CPU through cpu", "yes, on the CPU through reference"]
    for i in range(2):
        expected.append(f"NO, on cuda:{i} (Some GPU) through triton: ImportError: no libtriton")
        expected.append(f"yes, on cuda:{i} (Some GPU) through reference")
    assert [line.removeprefix("The kernels compute what they should: ") for line in told] == expected
    assert "GMD_BACKEND" not in os.environ


def test_the_doctor_fails_where_values_are_wrong(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    surgery = gk.surgery
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    monkeypatch.setattr(gk, "surgery", lambda grads: surgery([[2 * g for g in row] for row in grads]))
    assert gmd.cli.main(["doctor"]) == 1
    assert "should: NO, on the CPU through reference: expected [0, 1], got [0.0, 2.0]" in capsys.readouterr().out
    assert os.environ["GMD_BACKEND"] == "cpu"


def test_user_errors_are_value_errors():
    assert issubclass(UserError, ValueError)  # so that libraries built on gmd need not know the class
