"""One process trains in a folder: a second one is refused at once and changes nothing."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.training.loop
from gmd.config import TrainSentiment, config_from_dict
from gmd.config.file import as_arguments, read_yaml
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.run_lock import LOCK, locked
from helpers.nifti_cases import error_of
from helpers.run_cases import assert_same_run, start_gmd, tiny_sentiment, tree, wait_for_steps, write

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def test_a_second_training_fails_at_once_and_changes_nothing(trained: TrainSentiment, monkeypatch: pytest.MonkeyPatch):
    before = tree(trained.out)
    monkeypatch.setattr(gmd.training.loop, "open_task", lambda config: pytest.fail("read before it was refused"))
    with locked(trained.out):
        said = error_of(train, replace(trained, resume=True))
    assert said.startswith(f"{trained.out}: in use by process {os.getpid()} on ")
    assert tree(trained.out) == before


def test_a_folder_made_for_a_training_that_cannot_begin_is_removed(tmp_path: Path):
    config = tiny_sentiment(write(tmp_path / "damaged.npz"), tmp_path / "runs/one")
    error_of(train, config)
    assert os.listdir(tmp_path) == ["damaged.npz"]


def test_force_is_said_on_the_line_and_kept_nowhere(trained: TrainSentiment, tmp_path: Path):
    (trained.out / LOCK).write_text(
        json.dumps(
            {"process": {"host": "elsewhere", "space": "", "pid": 1, "start": 1}, "started": "then", "command": "gmd"}
        )
    )
    again = replace(trained, resume=True)
    assert "if it does not, give --force" in error_of(train, again)
    train(replace(again, force=True))
    assert "force" not in read_yaml(trained.out / "config.yaml")
    assert "force" not in load_checkpoint(trained.out / "last.pt")["config"]
    assert not config_from_dict(replace(again, force=True).to_dict(), "here").force
    file = write(tmp_path / "mine.yaml", "force: true\nlr: 1\n")
    assert as_arguments(file, TrainSentiment) == ["--lr=1"]


@pytest.mark.slow
def test_of_two_that_start_together_one_trains(sentiment: Path, tmp_path: Path):
    """A bug: both did, and what they left were checkpoints of one and metrics of both."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=6)
    straight = train(replace(config, out=tmp_path / "straight"))
    both = [start_gmd(config, save_every=0) for _ in range(3)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2, 2], said
    # "by another process" where the one that holds the lock has not yet written which it is
    assert sum("in use by " in text or "already holds a run" in text for text in said) == 2, said
    assert_same_run(straight, config.out)


@pytest.mark.slow
def test_a_resume_of_what_still_runs_is_refused_and_harms_nothing(sentiment: Path, tmp_path: Path):
    """A job that the scheduler has queued once more. A bug: the first one died of it."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=6)
    straight = train(replace(config, out=tmp_path / "straight"))
    first = start_gmd(config, save_every=0)
    wait_for_steps(first, config.out, 4)
    first.send_signal(signal.SIGSTOP)  # else it might end before the second begins
    second = start_gmd(config)  # by --resume
    said = second.communicate(timeout=120)[0]
    assert second.returncode == 2
    assert f"{config.out}: in use by process {first.pid} on" in said
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert_same_run(straight, config.out)
