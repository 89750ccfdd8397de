"""How long a training goes on, and at which learning rate: --patience, and the decay over --epochs."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import gmd.training.loop
from gmd.monitor.metrics_file import METRICS
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.tasks import Validation
from helpers.run_cases import Killed, kill_before, tiny_sentiment
from helpers.training_cases import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

# ---- early stop ----


def with_scores(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Those of the epochs, one after the other."""
    monkeypatch.setattr(gmd.training.loop, "validate", lambda _, training, __: Validation(scores[training.epochs], {}))


@pytest.mark.parametrize(
    ("scores", "epochs", "said"),
    [
        ([0.5, 0.7, 0.7, 0.1, 0.9], 4, "no score was better than epoch 2's 0.700 for 2 validations"),
        ([0.5, 0.4, 0.6, 0.2, 0.7, 0.1], 6, None),  # never twice in a row
        ([0.5, float("nan"), float("nan"), 0.9], 3, "no score was better than epoch 1's 0.500 for 2 validations"),
        ([float("nan"), float("nan"), 0.9], 2, "no score was a number for 2 validations"),
        ([-3.0, -2.0, -2.5, -2.1], 4, None),  # the last epoch: all epochs were trained
    ],
)
def test_early_stop(
    sentiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    scores: list[float],
    epochs: int,
    said: str | None,
):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=28, epochs=len(scores), patience=2)
    with_scores(monkeypatch, scores)
    train(config)
    ended = said and f"stopped early, after epoch {epochs}: {said}"
    assert (ended or f"trained for {epochs} epochs") in capsys.readouterr().out
    state = load_checkpoint(config.out / "last.pt")
    assert state["epochs"] == epochs
    rates = [step["lr"] for step in read_metrics(config.out, "step")]
    assert rates == pytest.approx([config.lr * (1 - step / len(scores)) ** 0.9 for step in range(epochs)])

    before = (config.out / METRICS).read_bytes()
    train(replace(config, resume=True))
    assert "nothing is left to train; " + (ended or "trained for") in capsys.readouterr().out
    assert (config.out / METRICS).read_bytes() == before
    assert load_checkpoint(config.out / "last.pt")["steps"] == state["steps"]


def test_early_stop_counts_across_a_resume(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=28, epochs=9, patience=3)
    with_scores(monkeypatch, [0.9] * 9)
    with monkeypatch.context() as patched:
        kill_before(patched, "last.pt", 4)  # the one before the first step, two epochs, and not the third
        with pytest.raises(Killed):
            train(config)
    train(replace(config, resume=True))
    assert load_checkpoint(config.out / "last.pt")["epochs"] == 4


# ---- the learning rate ----


def skipping(step: int, function: Callable) -> Callable:
    def skipped(training, task, inputs, targets):
        if training.steps + 1 == step:
            inputs.values["text"].values[0, 0, 0] = float("nan")
        return function(training, task, inputs, targets)

    return skipped


@pytest.mark.parametrize("interrupted", [False, True], ids=["straight", "interrupted"])
@pytest.mark.parametrize("skipped", [0, 5], ids=["all steps", "one skipped"])
def test_trap_the_learning_rate_falls_over_all_steps_to_a_last_one_above_zero(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool, skipped: int
):
    """The published one had its arguments swapped: a saw-tooth between 1.0 and 0.9 of the base, or a complex number."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=3)
    monkeypatch.setattr(gmd.training.loop, "train_step", skipping(skipped, gmd.training.loop.train_step))
    monkeypatch.setattr(gmd.training.loop, "SAVE_EVERY", 0)
    if interrupted:
        with monkeypatch.context() as patched:
            kill_before(patched, "last.pt", 8)
            with pytest.raises(Killed):
                train(config)
        assert load_checkpoint(config.out / "last.pt")["steps"] == 5
    train(replace(config, resume=interrupted))
    steps = read_metrics(config.out, "step")
    assert [step["finite"] for step in steps].count(False) == (skipped > 0)
    rates = [step["lr"] for step in steps]
    assert rates == pytest.approx([config.lr * (1 - step / 12) ** 0.9 for step in range(12)], rel=1e-9)
    assert rates[0] == config.lr
    assert all(a > b for a, b in pairwise(rates))
    assert rates[-1] > 0
