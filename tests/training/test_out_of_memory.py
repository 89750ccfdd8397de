"""Out of memory: which option to change, and to what; and the checkpoint is intact."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gmd.training.loop
import gmd.training.tasks.segmentation
from gmd.config import TrainBrats
from gmd.data.segmentation.readable import NoRoom
from gmd.errors import UserError
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.memory_advice import smaller_patch
from gmd.training.state import Training
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def of_this_cpu(*given: object) -> None:
    torch.empty(2**60)


def raising(error: Exception) -> Callable:
    def run_out(*given: object) -> None:
        raise error

    return run_out


ERRORS = {
    "of a CPU, a real one": of_this_cpu,
    "of a CPU, elsewhere": raising(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 B")),
    "of numpy": raising(np._core._exceptions._ArrayMemoryError((2**40,), np.dtype(float))),
    "of C++": raising(RuntimeError("std::bad_alloc")),
}


@pytest.mark.parametrize("run_out", ERRORS.values(), ids=ERRORS)
def test_a_step_without_memory_says_what_to_try(config: TrainBrats, monkeypatch: pytest.MonkeyPatch, run_out: Callable):
    monkeypatch.setattr(gmd.training.loop, "train_step", run_out)
    with pytest.raises(UserError) as raised:
        train(replace(config, patch=(32, 32, 32), batch=3, cache=9))
    said = str(raised.value)
    assert said.startswith("out of memory, on CPU (")
    assert f"GB: {config.out / 'last.pt'} is intact. Go on by --resume with --cache 2, so that" in said
    assert (
        "needs another --out; try --batch 1 --accumulate 3, --patch 16 16 16, --precision bf16, --tol 0.1. Said was: "
        in said
    )
    assert load_checkpoint(config.out / "last.pt")["steps"] == 0


def test_a_case_that_cannot_be_read_for_memory_is_named(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    """Fewer cases in memory may help; what a step takes has nothing to do with it."""
    monkeypatch.setattr(gmd.training.loop, "train_step", raising(NoRoom("a_t1.nii.gz: no memory is left to read it")))
    with pytest.raises(UserError) as raised:
        train(replace(config, cache=9))
    said = str(raised.value)
    assert "--cache 2, so that cases are read, not kept. Said was: a_t1.nii.gz: no memory is left" in said
    assert "--precision" not in said


def test_a_gpu_without_memory(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.memory_advice, "device_name", lambda device: "Some GPU")
    monkeypatch.setattr(gmd.training.memory_advice, "total_memory", lambda device: 80e3)
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when")):
        config = replace(config, out=config.out.with_name(type(error).__name__), precision="bf16", method="enumerate")
        monkeypatch.setattr(gmd.training.loop, "train_step", raising(error))
        with pytest.raises(UserError, match=r"on Some GPU with 80\.0 GB: .* is intact\. Said was: CU") as raised:
            train(config)  # a patch of 16, a batch of 1: there is nothing smaller
        assert "--" not in str(raised.value), "the cache is in another memory"


def test_a_network_that_runs_out_in_a_validation(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    def run_out(task: object, training: Training, _: object) -> None:
        training.network.register_forward_pre_hook(of_this_cpu)
        task.validate(training.network)

    monkeypatch.setattr(gmd.training.loop, "validate", run_out)
    with pytest.raises(
        UserError, match=r"out of memory, .* is intact\. .* --batch 1 --accumulate 2, --precision bf16, --tol 0\.1\."
    ):
        train(replace(config, batch=2))
    assert load_checkpoint(config.out / "last.pt")["epochs"] == 1
    assert len(read_metrics(config.out, "step")) == 4


def test_sequences_are_told_the_batch(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.loop, "train_step", of_this_cpu)
    with pytest.raises(
        UserError, match=r"is intact\. A smaller run is .* try --batch 8 --accumulate 2, --precision bf16, --tol 0\.1\."
    ):
        train(tiny_sentiment(sentiment, tmp_path / "run"))


def test_before_the_first_checkpoint(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Training, "prepare", of_this_cpu)
    with pytest.raises(UserError, match=r"GB: nothing was trained\. Start again with --cache 16,"):
        train(config)


def test_other_errors_are_handed_on(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.loop, "train_step", raising(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        train(config)


@pytest.mark.parametrize("patch", [(96, 96, 96), (128, 128, 128), (64, 64, 64), (160, 192, 128), (16, 48, 16)])
def test_a_smaller_patch_has_about_half_of_the_voxels(config: TrainBrats, patch: tuple[int, int, int]):
    smaller = smaller_patch(replace(config, patch=patch))
    assert all(side % 16 == 0 and side >= 16 for side in smaller)
    assert all(side < before or before == 16 for side, before in zip(smaller, patch, strict=True))
    assert 0.4 < np.prod(smaller) / np.prod(patch) < 0.7


@pytest.mark.parametrize(
    ("network", "patch", "smaller"),
    [
        ("unet", (16, 16, 16), (16, 16, 16)),
        ("unet", (96, 96, 96), (80, 80, 80)),
        ("segresnet", (24, 24, 24), (16, 16, 16)),
        ("swinunetr", (96, 96, 96), (64, 64, 64)),
        ("swinunetr", (64, 64, 64), (64, 64, 64)),  # 32 would leave its norms a single voxel
        ("dynunet", (128, 128, 128), (96, 96, 96)),
        ("of_mine:network", (64, 64, 64), (64, 64, 64)),
    ],
)
def test_a_smaller_patch_is_one_that_the_network_takes(
    config: TrainBrats, network: str, patch: tuple[int, int, int], smaller: tuple[int, int, int]
):
    assert smaller_patch(replace(config, network=network, patch=patch)) == smaller
