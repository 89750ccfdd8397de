"""The command under torchrun: one that dies is started anew, a signal to torchrun stops all, one process tells."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gmd.training.checkpoint import load_checkpoint
from helpers.run_cases import assert_same_run, options_of, tiny_sentiment, wait_for_steps
from helpers.training_cases import equal

pytestmark = pytest.mark.slow


def torchrun(words: Sequence[str], *options: str) -> subprocess.Popen:
    """Of two processes, each on one thread."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*line, "-m", "gmd", *words], env=environment, **pipes)


def ended(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    return output


def workers_of(process: subprocess.Popen) -> dict[int, int]:
    """Rank -> number of the process."""
    found = {}
    for pid in map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks = [int(variable[5:]) for variable in variables if variable.startswith(b"RANK=")]
        found |= dict.fromkeys(ranks, pid)
    return found


@pytest.fixture(scope="module")
def straight(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing has disturbed."""
    config = replace(tiny_sentiment(sentiment, tmp_path_factory.mktemp("straight") / "run"), batch=8, epochs=6)
    process = torchrun(["train", "sentiment", *options_of(config)])
    output = ended(process)
    assert process.returncode == 0, output
    assert output.count("trained for 6 epochs") == 1, "one process tells"
    assert "2 processes train together" in output
    assert f"next: torchrun --nproc-per-node 2 -m gmd evaluate {config.out}" in output
    return config.out


def test_a_worker_that_is_killed_is_started_anew_and_nothing_is_lost(sentiment: Path, tmp_path: Path, straight: Path):
    """The first one, which holds the lock of the folder, and the writer of all there is."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=6)
    process = torchrun(["train", "sentiment", *options_of(config)], "--max-restarts", "1")
    wait_for_steps(process, config.out, 9)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output = ended(process)
    assert process.returncode == 0, output
    assert "restart 1 by torchrun; it goes on from the last checkpoint" in output
    assert "process 1 of 2 waited for" in output, "who was left says what it has waited for"
    assert "which is gone" in output, "the lock of the killed one"
    assert_same_run(straight, config.out)
    ours, theirs = (load_checkpoint(run / "last.pt")["others"] for run in (straight, config.out))
    assert equal(ours, theirs)


def test_a_signal_to_torchrun_stops_all_and_the_line_to_go_on_works(sentiment: Path, tmp_path: Path, straight: Path):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=6)
    process = torchrun(["train", "sentiment", *options_of(config)])
    wait_for_steps(process, config.out, 5)
    process.send_signal(signal.SIGINT)
    output = ended(process)
    assert output.count("stopping; the running step is finished and saved first") == 1
    [again] = re.findall(r"interrupted; what is saved goes on with: (.*)", output)
    assert again.startswith("torchrun --nproc-per-node 2 -m gmd train sentiment")
    assert again.endswith("--resume")
    process = torchrun(again.split()[5:])
    output = ended(process)
    assert process.returncode == 0, output
    assert_same_run(straight, config.out)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["train", "sentiment", "--data", "DATA", "--method", "mla", "--network", "branches"],
            "gmd: error: --method: got mla, expected joint, dropout, enumerate, gmd or surgery in several processes",
        ),
        (["train", "sentiment", "--nonsense"], "--nonsense"),
        (["compare", "a", "b"], "gmd: error: gmd compare: torchrun has started it in 2 processes, but only train and"),
    ],
    ids=["method", "usage", "command"],
)
def test_what_is_wrong_is_told_once(sentiment: Path, tmp_path: Path, words: list[str], text: str):
    words = [str(sentiment) if word == "DATA" else word for word in words]
    out = ["--out", str(tmp_path / "run")] if words[0] == "train" else []
    process = torchrun([*words, *out])
    output = ended(process)
    assert process.returncode == 1
    assert output.count(text) == 1, output
    assert not (tmp_path / "run").exists()
