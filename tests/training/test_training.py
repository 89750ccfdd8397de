"""Training end to end on small phantoms: the methods, skipped steps, resuming, the patches, and bad input."""

import math
import shutil
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import gmd.training.loop
import gmd.training.tasks.segmentation
from gmd.config import TrainBrats
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.errors import UserError
from gmd.monitor.records import bad_values
from gmd.training.checkpoint import load_checkpoint, save_checkpoint
from gmd.training.loop import train
from gmd.training.run_mark import write_mark
from gmd.training.saved_run import load_run
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, Validation, open_task
from gmd.training.tasks.segmentation import region_loss
from helpers.places import REAL_DATA
from helpers.run_cases import assert_same_run, tiny_sentiment
from helpers.training_cases import TWO, equal, read_metrics

REAL = REAL_DATA / "brats15_two_modalities"


pytestmark = pytest.mark.usefixtures("one_thread")


# ---- end to end ----


OBJECTIVES = {"joint": 1, "dropout": 1, "enumerate": 3, "gmd": 3, "cggm": 1, "cggm-gmd": 3}


@pytest.mark.parametrize(("method", "objectives"), OBJECTIVES.items())
def test_each_method_trains(config: TrainBrats, method: str, objectives: int):
    run = train(replace(config, method=method))
    files = {path.name for path in run.iterdir()}
    assert files >= {"config.yaml", "splits.json", "metrics.jsonl", "last.pt", "best.pt", "curves.png"}
    assert files >= {"last.safetensors", "best.safetensors"}
    assert ("cosines.png" in files) == (method.endswith("gmd"))
    assert not any("unfinished" in name or "lock" in name for name in files)

    steps = read_metrics(run, "step")
    assert [(step["epoch"], step["step"]) for step in steps] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    for step in steps:
        assert len(step["losses"]) == objectives
        assert step["finite"] is True
        assert step["loss"] == pytest.approx(sum(step["losses"].values()) / objectives)
        if method.endswith("gmd"):
            assert list(step["losses"]) == ["flair", "t1ce", "flair+t1ce"]
            cosines = torch.tensor(step["cosines"])
            assert cosines.shape == (3, 3)
            assert torch.equal(cosines, cosines.T)
            assert step["conflicts"] == pytest.approx(((cosines < 0).sum() / 6).item(), abs=0.01)
        else:  # one gradient: nothing that could conflict was measured
            assert step["cosines"] is None
            assert step["conflicts"] is None

    first, last = read_metrics(run, "epoch")
    assert first["validation"] is None
    assert 100 < first["memory_MB"] <= last["memory_MB"] < 10_000
    assert set(last["metrics"]) == {"WT", "TC", "ET"}
    assert last["validation"] == pytest.approx(sum(last["metrics"].values()) / 3)
    loaded, network = load_run(run)
    assert loaded.labels == ("brats2018",)
    untrained = Training.prepare(open_task(loaded)).network.state_dict()
    assert not any(
        torch.equal(value, untrained[name]) for name, value in network.state_dict().items() if "conv" in name
    )


@pytest.mark.usefixtures("no_pictures")
def test_four_modalities_make_fifteen_objectives(config: TrainBrats):
    run = train(replace(config, modalities=BRATS_MODALITIES, epochs=1, steps_per_epoch=1))
    [step] = read_metrics(run, "step")
    assert len(step["losses"]) == 15
    assert [len(row) for row in step["cosines"]] == [15] * 15


@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "gmd"])
def test_it_learns(config: TrainBrats, method: str):
    training, task, batch = one_step(replace(config, method=method, batch=2, epochs=1000, lr=0.01))
    losses = [train_step(training, task, *batch)[0].report.losses.mean().item() for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("granularity", ["model", "module", "tensor"])
@pytest.mark.parametrize("tol", [0.0, 0.3])
def test_compression_and_granularity_reach_the_surgeon_and_the_metrics(
    config: TrainBrats, granularity: str, tol: float, capsys: pytest.CaptureFixture
):
    config = replace(config, granularity=granularity, tol=tol, epochs=1)
    surgeon = Training.prepare(open_task(config)).surgeon
    assert (surgeon.granularity, surgeon.tol) == (granularity, tol)
    run = train(config)
    for step in read_metrics(run, "step"):
        # each modality is in two of the three subsets: exact takes two passes through its path
        assert step["directions"] == ([1, 1] if tol else [2, 2])
        assert all(0 <= share <= tol**2 for share in step["discarded"])
        assert any(step["discarded"]) == (tol > 0)
    assert ("directions 1.0" in capsys.readouterr().out) == (tol > 0)


@pytest.mark.usefixtures("no_pictures")
def test_methods_without_surgery_have_no_directions(config: TrainBrats):
    for step in read_metrics(train(replace(config, method="enumerate", epochs=1)), "step"):
        assert step["directions"] is step["discarded"] is None


def test_the_regions_are_judged_independently_of_each_other():
    """MONAI's DiceCELoss takes a softmax over the regions, but a voxel may be in all three of them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    targets = torch.rand(2, 3, 4, 4, 4, generator=generator).round()
    probability = logits.sigmoid()
    overlap, size = (probability * targets).sum((2, 3, 4)), (probability + targets).sum((2, 3, 4))
    expected = (1 - (2 * overlap + 1e-5) / (size + 1e-5)).mean() + binary_cross_entropy_with_logits(logits, targets)
    assert region_loss(logits, targets) == pytest.approx(expected.item())
    everything = torch.ones(1, 3, 4, 4, 4)
    assert region_loss(20 * everything, everything) == pytest.approx(0, abs=1e-4)


# ---- resuming ----


def interrupt_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    made = Counter()

    def interrupted(logits: Tensor, targets: Tensor) -> Tensor:
        made["calls"] += 1
        if made["calls"] > calls:
            raise KeyboardInterrupt
        return region_loss(logits, targets)

    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", interrupted)


@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    config: TrainBrats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the last checkpoint, where a step was left half-way; test_interrupt.py has steps that were finished."""
    # three subsets, so that the order of projections matters; a validation on each side of a stop
    config = replace(config, epochs=4, batch=2, lr=0.01)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        interrupt_after(patched, calls=3 * 5)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert load_checkpoint(config.out / "last.pt")["steps"] == 4
    torch.manual_seed(1234)
    assert_same_run(straight, train(replace(config, resume=True)))


@pytest.mark.usefixtures("no_pictures")
def test_trap_the_best_score_survives_a_resume(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    """Published resuming forgets it, so that the first epoch after it counts as the best, however bad."""
    scores = iter([0.9, 0.1, 0.2, 0.3])
    monkeypatch.setattr(gmd.training.loop, "validate", lambda *_: Validation(next(scores), {}))
    config = replace(config, epochs=4, steps_per_epoch=1, validate_every=1)
    with monkeypatch.context() as patched:
        interrupt_after(patched, calls=3 * 2)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    train(replace(config, resume=True))
    best = load_checkpoint(config.out / "best.pt")
    assert (best["epochs"], best["best_score"]) == (1, 0.9)


@pytest.mark.usefixtures("no_pictures")
def test_a_new_run_leaves_no_best_checkpoint_of_an_old_one(config: TrainBrats):
    """Else a kill before the first validation would leave the old network beside the new run's test cases."""
    write_mark(config.out)
    (config.out / "best.pt").write_bytes(b"old")
    train(replace(config, epochs=2, validate_every=2))
    assert load_checkpoint(config.out / "best.pt")["epochs"] == 2


def test_gmd_takes_six_modalities_at_most(config: TrainBrats):
    """2^6 - 1 objectives; the kernels take 64."""
    seven = replace(config, modalities=tuple("abcdefg"))
    with pytest.raises(UserError, match=r"--modalities: .*at most 6 for gmd"):
        seven.check()
    replace(seven, method="enumerate").check()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("task", ["segmentation", "sentiment"])
def test_a_run_with_another_network_is_not_resumed_and_stays_as_it_was(
    config: TrainBrats, sentiment: Path, tmp_path: Path, task: str
):
    config = config if task == "segmentation" else tiny_sentiment(sentiment, tmp_path / "sentiment")
    last = train(replace(config, epochs=1)) / "last.pt"
    state = load_checkpoint(last)
    first = next(iter(state["network"]))
    save_checkpoint(last, state | {"network": state["network"] | {first: torch.zeros(5)}})
    before = {path.name: path.read_bytes() for path in config.out.iterdir() if path.is_file()}
    again = replace(config, epochs=1, resume=True, validate_every=2)  # which could be changed, and is written down
    with pytest.raises(UserError, match=rf"last\.pt: trained with the network of an earlier gmd.*{first}: \[5\] there"):
        train(again)
    assert {path.name: path.read_bytes() for path in config.out.iterdir() if path.is_file()} == before


@pytest.mark.usefixtures("no_pictures")
def test_what_may_not_be_resumed(config: TrainBrats, phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no last\.pt to resume from"):
        train(replace(config, resume=True))
    copy = shutil.copytree(phantoms, tmp_path / "copy")
    config = replace(config, epochs=1, data=copy)
    train(config)
    with pytest.raises(UserError, match=r"already holds a run; go on with it by --resume, or choose another --out"):
        train(config)
    with pytest.raises(UserError, match=r"lr: 0\.1 here, 0\.001 there; width: 0\.25 here, 0\.125 there"):
        train(replace(config, resume=True, width=0.25, lr=0.1))
    with pytest.raises(UserError, match=r"epochs: 5 here, 1 there\. The learning rate decays over all epochs"):
        train(replace(config, resume=True, epochs=5))
    moved = copy.rename(tmp_path / "moved")
    train(replace(config, resume=True, data=moved, validate_every=7, device="auto"))
    shutil.rmtree(moved / "Phantom_000_00000")
    with pytest.raises(UserError, match=r"cases are not those that the run began with \(.*gone: Phantom_000_00000"):
        train(replace(config, resume=True, data=moved))
    assert load_checkpoint(config.out / "last.pt")["steps"] == 2


# ---- steps that are not finite ----


def one_step(config: TrainBrats) -> tuple[Training, Task, tuple]:
    task = open_task(config)
    training = Training.prepare(task)
    batch = next(iter(task.batches(0)))
    train_step(training, task, *batch)  # so that the optimizer has a state
    return training, task, batch


def nan_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return region_loss(logits, targets) * math.nan


def nan_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    return region_loss(logits, targets) + (logits * 0).sum().sqrt()  # 0, but the slope of the root at 0 is infinite


@pytest.mark.parametrize("method", ["joint", "enumerate", "gmd"])
@pytest.mark.parametrize("bad_loss", [nan_loss, nan_gradient])
def test_a_bad_step_leaves_parameters_and_optimizer_untouched(config: TrainBrats, method: str, bad_loss):
    config = replace(config, method=method)
    training, task, batch = one_step(config)
    before = deepcopy([training.network.state_dict(), training.optimizer.state_dict()["state"]])
    task.criterion = bad_loss
    rate = training.scheduler.get_last_lr()[0]
    turns = train_step(training, task, *batch)

    assert equal(before, [training.network.state_dict(), training.optimizer.state_dict()["state"]])
    assert (training.steps, training.skipped, training.skipped_in_a_row) == (2, 1, 1)
    assert training.scheduler.get_last_lr()[0] < rate
    what = "the loss of" if bad_loss is nan_loss else "the gradient of"
    assert what in bad_values(turns)

    task.criterion = region_loss
    train_step(training, task, *batch)
    assert (training.steps, training.skipped, training.skipped_in_a_row) == (3, 1, 0)


@pytest.mark.usefixtures("no_pictures")
def test_one_bad_step_is_skipped_counted_and_reported(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    calls = Counter()

    def bad_at_first(logits: Tensor, targets: Tensor) -> Tensor:
        calls["all"] += 1
        return (nan_loss if calls["all"] == 2 else region_loss)(logits, targets)

    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", bad_at_first)
    run = train(replace(config, max_bad_steps=2))
    first, *others = read_metrics(run, "step")  # valid JSON in spite of the NaN
    assert first["finite"] is False
    assert first["loss"] is None
    assert [value is None for value in first["losses"].values()] == [False, True, False]
    assert all(step["finite"] for step in others)
    assert [epoch["skipped"] for epoch in read_metrics(run, "epoch")] == [1, 1]
    assert "skipped 1" in capsys.readouterr().out
    assert all(value.isfinite().all() for value in load_checkpoint(run / "last.pt")["network"].values())


@pytest.mark.usefixtures("no_pictures")
def test_bad_steps_in_a_row_stop_the_training_with_the_reason(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", nan_loss)
    with pytest.raises(UserError) as stopped:
        train(replace(config, max_bad_steps=3))
    message = str(stopped.value)
    assert "stopped at step 3: 3 steps in a row were skipped" in message  # counted across the end of an epoch
    assert "not finite: the loss of flair (nan), t1ce (nan), flair+t1ce (nan)" in message
    assert "last.pt (1 epochs), is intact" in message
    assert "a lower --lr (now 0.001)" in message
    assert load_checkpoint(config.out / "last.pt")["epochs"] == 1
    assert len(read_metrics(config.out, "step")) == 3


def test_losses_that_do_not_require_grad_are_named(config: TrainBrats):
    training, task, batch = one_step(config)
    task.criterion = lambda logits, targets: region_loss(logits.detach(), targets)
    with pytest.raises(ValueError, match=r"losses\['flair'\] does not require grad"):
        train_step(training, task, *batch)


# ---- missing modalities ----


@pytest.mark.usefixtures("no_pictures")
def test_a_batch_in_which_every_case_lacks_something_else_trains(config: TrainBrats, phantoms: Path, tmp_path: Path):
    data = shutil.copytree(phantoms, tmp_path / "incomplete")
    for index, folder in enumerate(sorted(data.iterdir())):
        [gone] = folder.glob(f"*_{TWO[index % 2]}.nii.gz")
        gone.unlink()
    run = train(replace(config, data=data, batch=4))
    for step in read_metrics(run, "step"):
        assert list(step["losses"]) == ["flair", "t1ce"]  # no case has both, so there is no loss for both


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cases of ../shared/data are not on this machine")
@pytest.mark.usefixtures("no_pictures")
def test_real_cases_without_t1_and_t2(config: TrainBrats):
    patterns = ("flair=Flair*.nii.gz", "t1ce=T1c*.nii.gz", "seg=OT*.nii.gz", "mask=brainmask.nii.gz")
    names = {"data": REAL, "modalities": BRATS_MODALITIES, "patterns": patterns, "labels": "brats2015"}
    task = open_task(replace(config, **names, patch=(32, 32, 32)))
    task.splits = replace(task.splits, train=task.splits.train[:1])
    training = Training.prepare(task)
    [(subsets, report, _)] = train_step(training, task, *next(iter(task.batches(0))))
    assert subsets == [("flair",), ("t1ce",), ("flair", "t1ce")]
    assert bool(report.finite)
    private = [name for name, p in training.network.named_parameters() if p.grad is None]
    assert private  # of t1 and t2, which no case has: no gradient, not even zeros
    assert {name.split(".")[-1] for name in private} == {"1", "3"}
    labels, absent = task.notes()
    assert labels.startswith("labels are read as brats2015: 1 necrosis, 2 oedema, 3 non-enhancing tumour, 4 enhancing")
    assert absent == "no training case has t1 or t2: subsets with it are left out"


def test_pictures_that_cannot_be_drawn_cost_no_training(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def fail(*_: object) -> None:
        raise OverflowError("cells of a picture")

    monkeypatch.setattr("gmd.pictures.training.draw_training", fail)
    assert train(config) == config.out
    assert (config.out / "best.pt").exists()
    told = capsys.readouterr().err
    assert "gmd: not all pictures of the training are drawn: OverflowError: cells of a picture" in told
