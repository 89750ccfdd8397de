"""Runs in processes of their own, which can be interrupted or killed; whether two runs are the same; their folders."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import gmd.files
from gmd.config import TrainSentiment
from gmd.training.checkpoint import load_checkpoint
from helpers.tensorboard import shown
from helpers.training_cases import equal, without_times


def tiny_sentiment(data: Path, out: Path) -> TrainSentiment:
    """2 epochs of 2 steps on 28 samples, with dropout and missing modalities, which draw random numbers."""
    small = {"width": 16, "layers": 1, "heads": 2, "batch": 16, "epochs": 2}
    return TrainSentiment(data=data, out=out, dropout=0.3, missing=("0.2",), device="cpu", **small)


GMD = (
    "import sys, gmd.cli, gmd.training.loop; gmd.training.loop.SAVE_EVERY = int(sys.argv[1]); "
    "sys.exit(gmd.cli.main(sys.argv[2:]))"
)


def options_of(config: TrainSentiment) -> list[str]:
    """The words of a line, of the options that `tiny_sentiment` sets."""
    words = []
    for name in ("data", "out", "width", "layers", "heads", "batch", "epochs", "dropout", "missing", "device"):
        value = getattr(config, name)
        words += [f"--{name}", *(value if isinstance(value, tuple) else [str(value)])]
    return words


def start_gmd(config: TrainSentiment, save_every: int = 600) -> subprocess.Popen:
    """`gmd train sentiment` in a process of its own, on one thread, with --resume if there is something to resume."""
    command = ["train", "sentiment", "--resume"] if (config.out / "last.pt").exists() else ["train", "sentiment"]
    command += options_of(config)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    given = [sys.executable, "-c", GMD, str(save_every), *command]
    return subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_steps(process: subprocess.Popen, run: Path, steps: int) -> None:
    """Until so many are recorded in its metrics by this process or one before it, or it has ended."""
    metrics = run / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b'"kind": "step"') >= steps:
            return
        time.sleep(0.002)


class Killed(BaseException):
    """Nothing in the package catches it, so what follows is left undone, as by a kill."""


def kill_before(monkeypatch: pytest.MonkeyPatch, file: str, time: int) -> None:
    """Where `file` is to be put in its place for the so-manieth time."""
    put, seen = os.replace, []

    def killed(source: Path, target: Path) -> None:
        seen.append(Path(target).name)
        if seen.count(file) == time:
            raise Killed
        put(source, target)

    monkeypatch.setattr(gmd.files.os, "replace", killed)


def assert_same_run(straight: Path, resumed: Path) -> None:
    """Bit for bit in all that lasts: checkpoints, weights, metrics but for times, what TensorBoard shows, files."""
    assert without_times(resumed) == without_times(straight)
    for name in ("last", "best"):
        a, b = ({**load_checkpoint(run / f"{name}.pt"), "config": None} for run in (straight, resumed))
        assert equal(a, b), name
        assert equal(*(load_file(run / f"{name}.safetensors") for run in (straight, resumed))), name
    a, b = (shown(run) for run in (straight, resumed))
    for found in (a, b):
        del found["training/seconds of an epoch"]
    assert a == b
    assert not (left := [path.name for path in resumed.iterdir() if path.name.startswith(".gmd-")]), left


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """All that is in a folder: links by where they lead to."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def write(path: Path, text: str = "somebody's") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
