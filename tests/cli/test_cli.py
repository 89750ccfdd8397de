"""The command line: what it teaches, what it hands on, and how it fails."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gmd.cli
import gmd.evaluation.compare.command
import gmd.evaluation.segmentation.cross_validation
import gmd.evaluation.segmentation.single_run
import gmd.predict
import gmd.report
import gmd.training.folds
import gmd.training.loop
import gmd_kernels as gk
from gmd.cli.training import with_file
from gmd.config import TASKS, TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.config.metrics import Metrics
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.sequences.sequence_files import Reading, read_sequences
from gmd.errors import UserError
from gmd.evaluation.segmentation.single_run import Evaluation
from helpers.sequence_cases import mmsa, table, write_npz, write_pickle
from helpers.sequence_layouts import (
    csd_folder,
    dialogues,
    mfn_arrays,
    table_rows,
    word_samples,
    write_mfn,
    write_misa,
    write_mmin,
    write_table,
)


def run(line: str) -> int:
    return gmd.cli.main(shlex.split(line))


def help_of(capsys: pytest.CaptureFixture, *command: str) -> str:
    with pytest.raises(SystemExit) as left:
        gmd.cli.main([*command, "--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


RUNS = [["evaluate"], ["predict"], ["compare"], ["report"]]
COMMANDS = [["phantom"], *(["train", task] for task in TASKS), *RUNS, ["convert"], ["doctor"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does_and_how_to_call_it(capsys: pytest.CaptureFixture, command: list[str]):
    assert f"Example: gmd {' '.join(command)}" in help_of(capsys, *command)
    assert command[0] in help_of(capsys)


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_of_training_is_explained(capsys: pytest.CaptureFixture, task: str):
    text = re.sub(", --no-[a-z-]+", "", help_of(capsys, "train", task))
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


def test_convert_clips_scores_on_request(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_npz(tmp_path / "in.npz", table() | {"label": np.linspace(-3.5, 3, 29)})
    assert gmd.cli.main(["convert", str(source), str(tmp_path / "out.npz")]) == 2
    assert "--clip-scores takes what is beyond for -3 or 3" in capsys.readouterr().err
    assert gmd.cli.main(["convert", str(source), str(tmp_path / "out.npz"), "--clip-scores"]) == 0
    assert "3 scores beyond [-3, 3] are clipped to it\nwritten: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "options", "next_task"),
    [
        (lambda place: write_pickle(place / "mosi.pkl", mmsa()[0]), "", "sentiment"),
        (lambda place: write_pickle(place / "mosei.pkl", word_samples(actual_words=False)), "", "sentiment"),
        (lambda place: write_misa(place / "misa", word_samples()), "--task sequences", "sequences"),
        (lambda place: write_pickle(place / "iemocap.pkl", tuple(dialogues())), "--seed 3", "sequences"),
        (lambda place: write_mfn(place / "mfn", mfn_arrays()), "--clip-scores", "sentiment"),
        (lambda place: write_mmin(place / "iemocap")[0], "--fold 2", "sequences"),
        (lambda place: csd_folder(place / "mosi"), "--scale-scores -3 3", "sentiment"),
        (lambda place: write_table(place / "a.csv", table_rows()), "", "sequences"),
    ],
    ids=["mmsa", "mag-bert", "misa", "dialogues", "mfn", "mmin", "csd", "csv"],
)
def test_every_layout_is_converted_and_what_is_next_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture, make: Callable, options: str, next_task: str
):
    source, out = make(tmp_path), tmp_path / "out.npz"
    assert gmd.cli.main(["convert", str(source), str(out), *options.split()]) == 0
    assert f"written: {out}; next: gmd train {next_task} --data {out}" in capsys.readouterr().out
    reading = Reading(numbers=next_task == "sequences")
    assert all(read_sequences(out, reading).splits.values())


def test_settings_reach_the_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    seen = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append(config) or config.out)
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


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the commands on runs would have called, with what; the report is written after an evaluation."""
    calls = []
    for name, module, function in (
        ("evaluate", gmd.evaluation.segmentation.single_run, "score_run"),
        ("evaluate folds", gmd.evaluation.segmentation.cross_validation, "score_folds"),
        ("predict", gmd.predict, "predict"),
        ("compare", gmd.evaluation.compare.command, "compare"),
        ("report", gmd.report, "write_report"),
    ):
        result: object = None
        if name.startswith("evaluate"):
            result = Evaluation([], {"gone": "cut off"} if name == "evaluate folds" else {})
        elif name == "report":
            result = Path("report.html")
        call = lambda *given, name=name, result=result, **named: (  # noqa: E731
            calls.append((name, *given, *named.values())) or result
        )
        monkeypatch.setattr(module, function, call)
    return calls


def test_evaluate_is_handed_run_data_and_precision(tmp_path: Path, handed: list):
    run = tmp_path / "a"
    write_config(run / CONFIG, TrainBrats(Path("d")))
    assert gmd.cli.main(["evaluate", str(run)]) == 0
    assert gmd.cli.main(["evaluate", str(run), "--data", "other", "--precision", "bf16"]) == 0
    assert gmd.cli.main(["evaluate", str(run), "--metrics", "surface-dice=2", "legacy"]) == 0
    report, legacy = ("report", run), Metrics(("legacy",))
    assert handed == [
        ("evaluate", run, None, None, None, MissingInEvaluation(), legacy),
        report,
        ("evaluate", run, Path("other"), "bf16", None, MissingInEvaluation(), legacy),
        report,
        ("evaluate", run, None, None, None, MissingInEvaluation(), Metrics(("surface-dice", "legacy"), 2.0)),
        report,
    ]


def test_evaluate_takes_a_cross_validation(tmp_path: Path, handed: list):
    write_config(tmp_path / "fold1" / CONFIG, TrainBrats(Path("d"), folds=2, fold=1))  # even without its fold0
    assert gmd.cli.main(["evaluate", str(tmp_path), "--precision", "bf16", "--data", "moved"]) == 1  # a case failed
    handed_on = ("evaluate folds", tmp_path, "bf16", Path("moved"), None, MissingInEvaluation(), Metrics(("legacy",)))
    assert handed == [handed_on, ("report", tmp_path)]
    assert gmd.cli.main(["evaluate", str(tmp_path), "--missing", "t1=0.5", "--missing-curve", "0.5", "0"]) == 1
    assert handed[2][-2] == MissingInEvaluation(("t1=0.5",), missing_curve=(0.0, 0.5))


def test_predict_compare_and_report_are_handed_what_stands_on_the_line(handed: list, capsys: pytest.CaptureFixture):
    run("predict r --t1 a.nii.gz --flair b.nii.gz --image x=c.nii -o seg.nii.gz --zero-is-missing")
    line = "predict r cases --out segs --probabilities --checkpoint last --precision bf16 --device cpu"
    run(f"{line} --channels t1 flair --affine-tolerance 0.01")
    run("compare a b c --out d --seed 3")
    run("report r")
    images = {"flair": Path("b.nii.gz"), "t1": Path("a.nii.gz"), "x": Path("c.nii")}
    numbered = (("t1", "flair"), 0.01)
    assert handed == [
        ("predict", Path("r"), None, images, Path("seg.nii.gz"), "best", False, True, None, "auto", (), None, None),
        ("predict", Path("r"), Path("cases"), {}, Path("segs"), "last", True, False, "bf16", "cpu", *numbered, None),
        ("compare", (Path("a"), Path("b"), Path("c")), Path("d"), 3),
        ("report", Path("r"), False),
    ]
    assert run("predict r --image c.nii -o seg.nii.gz") == 2
    assert "--image: got c.nii, expected NAME=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["--image x=c.nii --image y=d.nii", "--image x=c.nii y=d.nii"])
def test_images_are_given_together_or_one_by_one(handed: list, line: str):
    assert run(f"predict r -o seg.nii.gz --t1 a.nii.gz {line}") == 0
    [(_, _, _, images, *_)] = handed
    assert images == {"t1": Path("a.nii.gz"), "x": Path("c.nii"), "y": Path("d.nii")}


@pytest.mark.parametrize("line", ["--image t1=a.nii --image t1=b.nii", "--t1 a.nii --image t1=b.nii"])
def test_two_images_of_one_modality_are_refused(handed: list, capsys: pytest.CaptureFixture, line: str):
    assert run(f"predict r -o seg.nii.gz {line}") == 2
    assert "--image: got t1 twice, a.nii and b.nii; give one file" in capsys.readouterr().err
    assert not handed


def test_a_runs_config_is_accepted_back_and_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = TrainBrats(
        data=Path("my data"),
        out=tmp_path / "run",
        method="joint",
        lr=3e-5,
        patch=(32, 48, 64),
        patterns=("flair=F*.nii.gz", "seg=S*.nii.gz"),
        labels="binary",
        patience=3,
        deterministic=True,
        resume=True,
    )
    write_config(config.out / CONFIG, config)
    seen = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append(config) or config.out)
    file = str(config.out / CONFIG)
    assert gmd.cli.main(["train", "brats", "--config", file]) == 0
    assert gmd.cli.main(["train", "brats", "--lr", "1", f"--config={file}", "--patch", "16", "16", "16"]) == 0
    assert gmd.cli.main(["train", "brats", "--config", file, "--no-deterministic"]) == 0
    again = replace(config, resume=False)  # to go on is for the line to say
    assert seen == [again, replace(again, lr=1.0, patch=(16, 16, 16)), replace(again, deterministic=False)]


def test_a_file_of_ones_own_with_a_few_options(tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text("# mine\nlr: 1e-3\nresume: yes\ndeterministic: true\nmodalities: [flair, t1]\nlabels:\n")
    given = with_file(["train", "brats", "--config", str(file), "--data", "d"])
    assert " ".join(given) == "train brats --lr=1e-3 --deterministic --modalities flair t1 --data d"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: [", "not YAML"),
        ("- lr", "expected lines of the form `option: value`, got list"),
        ("", "expected lines of the form `option: value`, got NoneType"),
        ("task: digits", "options of another task; expected task: brats"),
        ('"l\\e[2J": 1', r"l\x1b[2J: no option has such a name; take it out"),
        ("lr: {a: 1}", "lr: expected a value or a list of values"),
        (b"lr: \xff", "is no text in UTF-8"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_holds_no_options(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str | bytes | None, said: str
):
    file = tmp_path / "my.yaml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert gmd.cli.main(["train", "brats", "--data", "d", "--config", str(file)]) == 2
    assert f"gmd: error: {file}: " in (error := capsys.readouterr().err)
    assert said in error
    assert gmd.cli.main(["train", "brats", "--data", "d", "--config"]) == 2
    assert "--config: got nothing" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "said"), [("lr: fast", "fast"), ("learning_rate: 1", "--learning-rate")])
def test_options_in_a_file_are_checked_as_those_on_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, line: str, said: str
):
    (tmp_path / "my.yaml").write_text(line)
    with pytest.raises(SystemExit) as left:
        gmd.cli.main(["train", "brats", "--data", "d", "--config", str(tmp_path / "my.yaml")])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_folds_are_trained_in_turn_and_one_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    seen = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append("one") or config.out)
    monkeypatch.setattr(gmd.training.folds, "train_folds", lambda config: seen.append("all") or [config.out / "fold0"])
    assert run("train brats --data d --out r --folds 5") == 0
    assert "next: gmd evaluate r\n" in capsys.readouterr().out
    assert run("train brats --data d --out r --folds 5 --fold 4") == 0
    assert seen == ["all", "one"]


def test_a_user_error_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert gmd.cli.main(["train", "brats", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gmd: error: {tmp_path}: no case found")
    assert error.count("\n") == 1


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(config: TrainBrats) -> Path:
        raise ValueError("a bug")

    monkeypatch.setattr(gmd.training.loop, "train", broken)
    with pytest.raises(ValueError, match="a bug"):
        gmd.cli.main(["train", "brats", "--data", "d"])


def test_a_full_disk_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def full(config: TrainBrats) -> Path:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(gmd.training.loop, "train", full)
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2
    assert "No space left on device: 'metrics.jsonl'" in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def interrupted(config: TrainBrats) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(gmd.training.loop, "train", interrupted)
    command = ["train", "brats", "--data", "my data", "--out", str(tmp_path)]
    assert gmd.cli.main(command) == 130
    again = f"gmd train brats --data 'my data' --out {tmp_path}"
    assert capsys.readouterr().err == f"\ngmd: interrupted; nothing was trained yet. Start again with: {again}\n"
    (tmp_path / "last.pt").touch()
    assert gmd.cli.main(command) == 130
    assert capsys.readouterr().err == f"\ngmd: interrupted; what is saved goes on with: {again} --resume\n"


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
