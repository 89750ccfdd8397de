"""Ctrl-C and SIGTERM: the running step is finished, all is saved, and --resume ends as if nothing had been."""

import errno
import io
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gmd.training.checkpoint
import gmd.training.loop
import gmd.training.tasks.segmentation
import gmd.training.tasks.sequences
from gmd.config import TrainBrats
from gmd.errors import UserError
from gmd.training.checkpoint import load_checkpoint
from gmd.training.interruption import Interruption
from gmd.training.loop import train
from gmd.training.tasks.segmentation import region_loss
from helpers.run_cases import assert_same_run, start_gmd, tiny_sentiment, wait_for_steps
from helpers.training_cases import equal, read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# ---- the signals ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_held_block_is_finished_first(number: signal.Signals, capfd: pytest.CaptureFixture):
    before, done = signal.getsignal(number), []
    interruption = Interruption()

    def step() -> None:
        with interruption, interruption.held():
            os.kill(os.getpid(), number)
            done.append(interruption.whole)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == [False]
    assert interruption.whole
    assert signal.getsignal(number) is before
    assert "Once more stops at once" in capfd.readouterr().err


def test_the_second_signal_stops_at_once_and_half_way_is_told():
    interruption, done = Interruption(), []

    def step() -> None:
        with interruption, interruption.held():
            interrupt()
            done.append("after the first")
            interrupt()
            done.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["after the first"]
    assert not interruption.whole


def test_between_held_blocks_the_first_one_stops_at_once():
    with Interruption() as interruption:
        with interruption.held():
            pass
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert interruption.whole


def test_what_is_ignored_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption, interruption.held():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_in_another_thread_leaves_the_signals_alone():
    seen = []

    def other() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


# ---- training ----


def interrupting(calls: int, function: Callable) -> Callable:
    made = []

    def interrupted(*given):
        made.append(given)
        if len(made) == calls:
            interrupt()
        return function(*given)

    return interrupted


@pytest.mark.slow
def test_segmentation_goes_on_in_the_middle_of_an_epoch(
    config: TrainBrats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = replace(config, method="enumerate", epochs=2, steps_per_epoch=3, batch=2)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        # three objectives a step: in the second one of step 5, the second step of epoch 2
        patched.setattr(gmd.training.tasks.segmentation, "region_loss", interrupting(3 * 4 + 2, region_loss))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert [load_checkpoint(config.out / "last.pt")[name] for name in ("epochs", "steps")] == [1, 5]
    read = []
    with monkeypatch.context() as patched:
        item = gmd.training.tasks.segmentation.RandomPatches.__getitem__
        patched.setattr(
            gmd.training.tasks.segmentation.RandomPatches,
            "__getitem__",
            lambda *given: read.append(given) or item(*given),
        )
        train(replace(config, resume=True))
    assert len(read) == 2, "what was trained before is not read again"
    assert_same_run(straight, config.out)


METHODS = {"dropout": "ds", "gmd": "ds", "cggm-gmd": "late", "ogm-ge": "late", "mla": "branches"}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), METHODS.items())
def test_sequences_go_on_in_the_middle_of_an_epoch(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, network: str
):
    """With dropout, classifiers, projectors and noise, all of which have a state of their own."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), method=method, network=network, batch=8, epochs=2)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "train_step", interrupting(6, gmd.training.loop.train_step))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    torch.manual_seed(1234)
    train(replace(config, resume=True))
    starts = [(line["epoch"], line["step"]) for line in read_metrics(config.out, "start")]
    assert starts == [(0, 0), (1, 6)]
    assert_same_run(straight, config.out)


def test_a_validation_is_given_up_and_made_once_more(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It takes long, and changes nothing that could be left half-way."""
    config = tiny_sentiment(sentiment, tmp_path / "run")
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        validate = lambda *_: interrupt() or pytest.fail("went on")  # noqa: E731
        patched.setattr(gmd.training.loop, "validate", validate)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    state = load_checkpoint(config.out / "last.pt")
    assert (state["epochs"], state["steps"]) == (0, 2)
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


def test_a_step_left_half_way_is_not_saved(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny_sentiment(sentiment, tmp_path / "run")

    def twice(training, task, inputs, targets):
        with torch.no_grad():
            next(training.network.parameters()).fill_(float("nan"))
        interrupt()
        interrupt()

    monkeypatch.setattr(gmd.training.loop, "train_step", twice)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    state = load_checkpoint(config.out / "last.pt")
    assert state["steps"] == 0
    assert all(value.isfinite().all() for value in state["network"].values())


def test_a_long_epoch_is_saved_in_its_middle(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny_sentiment(sentiment, tmp_path / "run")
    straight = train(replace(config, out=tmp_path / "straight", batch=8))
    saved, save = [], gmd.training.loop.save_checkpoint
    monkeypatch.setattr(gmd.training.loop, "SAVE_EVERY", 0)
    monkeypatch.setattr(
        gmd.training.loop,
        "save_checkpoint",
        lambda path, state: saved.append((path.name, state["steps"])) or save(path, state),
    )
    train(replace(config, batch=8))
    assert [steps for name, steps in saved if name == "last.pt"] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert_same_run(straight, config.out)


class Disk:
    """Of the files that checkpoints are written to; the so-manieth write of the so-manieth file does something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: int, instead: Callable[[], None]):
        self.file, self.instead, self.opened = file, instead, 0
        monkeypatch.setattr(gmd.training.checkpoint, "open", self.open, raising=False)

    def open(self, path: Path, mode: str, buffering: int):
        assert (mode, buffering) == ("wb", 0)
        self.opened += 1
        disk, chosen = self, self.opened == self.file

        class File(io.FileIO):
            written = 0

            def write(self, data) -> int:
                self.written += 1
                if chosen and self.written == 1:
                    disk.instead()
                return super().write(data)

        return File(path, mode)


def test_a_save_that_is_stopped_half_way_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bug: torch's zip writer made a RuntimeError of the KeyboardInterrupt, which was told as a broken disk."""
    path, state = tmp_path / "last.pt", {"config": {}, "tensor": torch.ones(1000)}
    gmd.training.checkpoint.save_checkpoint(path, state)
    Disk(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        gmd.training.checkpoint.save_checkpoint(path, state | {"tensor": torch.zeros(1000)})
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert equal(load_checkpoint(path)["tensor"], torch.ones(1000))


@pytest.mark.parametrize(("file", "steps"), [(1, 0), (3, 2)], ids=["the first", "in an epoch"])
def test_a_save_is_finished_first(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int, steps: int
):
    """A bug: Ctrl-C in the save of every ten minutes lost the steps since the one before."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "SAVE_EVERY", 0)
        Disk(patched, file, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert load_checkpoint(config.out / "last.pt")["steps"] == steps
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


def test_a_disk_that_is_full_at_the_last_save_is_told(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Though that save is because of an interruption."""

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = tiny_sentiment(sentiment, tmp_path / "run")
    monkeypatch.setattr(gmd.training.loop, "train_step", interrupting(2, gmd.training.loop.train_step))
    Disk(monkeypatch, 2, full)
    reason = r"cannot be written \(No space left on device\); the checkpoint from before is intact.*go on with --resume"
    with pytest.raises(UserError, match=reason):
        train(config)


def test_a_disk_that_is_full_at_the_first_save_is_told_with_advice_that_helps(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A bug: the advice was --resume, for which there was no last.pt, and the reason torch's "unexpected pos"."""

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = tiny_sentiment(sentiment, tmp_path / "run")
    with monkeypatch.context() as patched:
        Disk(patched, 1, full)
        with pytest.raises(UserError) as stopped:
            train(config)
    assert str(stopped.value) == (
        f"{config.out / 'last.pt'}: cannot be written (No space left on device); there is none from before. "
        "Mend that (room on the disk?), then start again, without --resume"
    )
    train(config)
    assert load_checkpoint(config.out / "last.pt")["epochs"] == 2


def test_the_time_of_an_epoch_goes_on_too(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bug: what an interrupted epoch had taken before was not in its seconds."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=1)
    with monkeypatch.context() as patched:
        step = interrupting(3, gmd.training.loop.train_step)
        patched.setattr(gmd.training.loop, "train_step", lambda *given: time.sleep(0.2) or step(*given))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert load_checkpoint(config.out / "last.pt")["seconds"] > 0.6
    train(replace(config, resume=True))
    [epoch] = read_metrics(config.out, "epoch")
    assert epoch["seconds"] > 0.6
    assert load_checkpoint(config.out / "last.pt")["seconds"] == 0


def test_an_epoch_of_which_the_validation_was_left_prints_no_gap(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """A bug: `epoch 1/1: , validation ...`, as no step was left to be told of."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "validate", lambda *_: interrupt())
        with pytest.raises(KeyboardInterrupt):
            train(config)
    train(replace(config, resume=True))
    assert "\nepoch 1/1: validation " in f"\n{capsys.readouterr().out}"


@pytest.mark.slow
def test_a_real_process_stops_on_sigterm_and_says_how_to_go_on(sentiment: Path, tmp_path: Path):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=2, epochs=3)
    straight = train(replace(config, out=tmp_path / "straight"))
    process = start_gmd(config)
    wait_for_steps(process, config.out, 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    state = load_checkpoint(config.out / "last.pt")
    assert 5 <= state["steps"] == len(read_metrics(config.out, "step")) < 42
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)
