"""A run that is killed, whenever that is, goes on by --resume and ends with the same bits."""

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.training.loop
from gmd.monitor.metrics_file import METRICS, drop_metrics_after, write_record
from gmd.monitor.tensorboard import FOLDER, Scalars
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.tasks import Validation
from helpers import report_cases as lines_of
from helpers.run_cases import Killed, assert_same_run, kill_before, start_gmd, tiny_sentiment, wait_for_steps
from helpers.tensorboard import shown

pytestmark = [pytest.mark.usefixtures("one_thread", "no_pictures"), pytest.mark.slow]
STEPS = 24


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_bits(sentiment: Path, tmp_path: Path, kills: int):
    """Kills at random steps from before the first to after the last, with a checkpoint after each step or epoch.

    A step takes milliseconds, as does writing a checkpoint, and so do the random delays after a step was recorded.
    """
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=6)
    straight = train(replace(config, out=tmp_path / "straight"))
    draw, ended = random.Random(kills), []
    for step in sorted(draw.randint(0, STEPS) for _ in range(kills)):
        process = start_gmd(config, save_every=draw.choice([0, 600]))
        wait_for_steps(process, config.out, step)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0), output
        ended.append(process.returncode)
    assert ended.count(-signal.SIGKILL) >= kills - 1, "the last one may come too late"
    train(replace(config, resume=(config.out / "last.pt").exists()))
    assert_same_run(straight, config.out)


FILES = [("best.safetensors", 2), ("best.pt", 2), ("last.safetensors", 2), ("last.pt", 3)]


@pytest.mark.parametrize(("file", "time"), FILES, ids=[file for file, _ in FILES])
def test_a_kill_between_the_files_of_the_last_epoch(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, time: int
):
    """Each in turn is the first one that is not written; the last score is the best one, so that there are four."""
    config = tiny_sentiment(sentiment, tmp_path / "run")
    monkeypatch.setattr(gmd.training.loop, "validate", lambda _, training, __: Validation(training.steps, {}))
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        kill_before(patched, file, time)
        with pytest.raises(Killed):
            train(config)
    assert load_checkpoint(config.out / "last.pt")["epochs"] == 1
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


def test_tensorboard_shows_a_validation_once_that_was_recorded_and_not_saved(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The checkpoint is of the epoch's last step, before its validation: at that step its scalars stand already."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "SAVE_EVERY", 0)
        kill_before(patched, "best.safetensors", 1)
        with pytest.raises(Killed):
            train(config)
    assert [load_checkpoint(config.out / "last.pt")[name] for name in ("epochs", "steps")] == [0, 4]
    train(replace(config, resume=True))
    assert set(shown(config.out)["validation/score"]) == {4, 8}
    assert_same_run(straight, config.out)


def test_what_goes_on_in_the_same_second_is_read_as_the_later(tmp_path: Path):
    """A bug: files are read by name, the second and the process, whose numbers need not grow."""
    for step in (1, 2):
        with Scalars(tmp_path, step) as scalars:
            scalars.flush()
    first, second = sorted(int(path.name.split(".")[3]) for path in (tmp_path / FOLDER).iterdir())
    assert first < second


def test_lines_that_no_checkpoint_holds_are_cut_off(tmp_path: Path):
    lines = [
        *(lines_of.START, lines_of.step(1, 1), lines_of.step(2, 1), lines_of.epoch(1)),
        *(lines_of.START | {"epoch": 1, "step": 2}, lines_of.step(3, 2), lines_of.step(4, 2), lines_of.epoch(2)),
    ]
    for finished, kept, since in [((0, 0), 1, 0), ((0, 1), 2, 1), ((0, 2), 3, 2), ((1, 2), 5, 2), ((1, 3), 6, 5)]:
        with open(tmp_path / METRICS, "w") as metrics:
            for line in lines:
                write_record(metrics, line)
            metrics.write('{"kind": "st')  # cut short by a kill
        assert drop_metrics_after(tmp_path, *finished) == lines[since:kept]
        assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == lines[:kept]
