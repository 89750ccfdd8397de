"""--deterministic: torch's switches for as long as a training lasts, and errors that say what to do."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gmd.training.loop
from gmd.errors import UserError
from gmd.training.checkpoint import load_checkpoint
from gmd.training.determinism import CUBLAS, deterministic
from gmd.training.loop import train
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import equal, without_times

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is before, and after, whatever a test leaves in it."""
    monkeypatch.setenv(CUBLAS, "")
    monkeypatch.delenv(CUBLAS)


def switches() -> tuple:
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warn_only, torch.backends.cudnn.benchmark


def test_switches_are_set_meanwhile_and_as_before_afterwards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = switches()
    with deterministic(False):
        assert switches() == before
        assert CUBLAS not in os.environ
    with deterministic(True):
        assert switches() == (True, False, False)
        assert os.environ[CUBLAS] == ":4096:8"
    assert switches() == before == (False, False, True)
    with pytest.raises(KeyError), deterministic(True):
        raise KeyError
    assert switches() == before


def test_what_the_user_has_set_for_cublas_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CUBLAS, ":16:8")
    with deterministic(True):
        assert os.environ[CUBLAS] == ":16:8"


def test_a_gpu_that_was_used_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch):
    taken = {0: 0, 1: 0}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(taken))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu: taken[gpu])
    with deterministic(True):
        pass  # it was asked whether it is there, no more
    taken[1] = 512
    monkeypatch.delenv(CUBLAS)
    with pytest.raises(UserError, match=rf"set {CUBLAS}=:4096:8 in the environment before"), deterministic(True):
        pytest.fail("not to be entered")
    assert switches() == (False, False, False)


def test_an_operation_without_a_deterministic_way_is_named(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def step(*given: object) -> None:
        assert torch.are_deterministic_algorithms_enabled()
        # what torch's own check says on a GPU, and on the CPU of an operation that has no such way there
        torch.ones(4).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)

    monkeypatch.setattr(gmd.training.loop, "train_step", step)
    with pytest.raises(UserError, match=r"--deterministic: put_ has no deterministic way .* give --device cpu"):
        train(replace(tiny_sentiment(sentiment, tmp_path / "run"), deterministic=True))
    assert switches() == (False, False, False)


def test_other_errors_are_handed_on():
    with pytest.raises(RuntimeError, match=r"^another$"), deterministic(True):
        raise RuntimeError("another")


def test_on_a_cpu_training_is_the_same_with_and_without(sentiment: Path, tmp_path: Path):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), method="cggm-gmd", network="late")
    runs = [train(replace(config, out=tmp_path / str(on), deterministic=on)) for on in (False, True)]
    a, b = (load_checkpoint(run / "last.pt") | {"config": None} for run in runs)
    assert equal(a, b)
    assert without_times(runs[0]) == without_times(runs[1])
