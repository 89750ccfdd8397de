"""Several processes train together: as one does on the whole batch, and they end, stop and go on together."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gmd.training.loop
from gmd.config import TrainBrats, TrainConfig
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.together import is_first, processes, rank
from gmd.training import train
from gmd.training.checkpoint import load_checkpoint
from helpers.classify_cases import four_modalities, tiny_classify, words_and_vectors
from helpers.run_cases import assert_same_run, tiny_sentiment
from helpers.together_cases import together
from helpers.training_cases import equal, read_metrics

pytestmark = pytest.mark.slow

# where a gradient is 0 but for rounding: its sign decides there
LOSSES_ALONE = ("module by module", "adamw")
SGD = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.01}
SEQUENCES = {  # the last batch of 28 samples has one: the second process has none of it
    "joint": {"method": "joint"},
    "enumerate": {"method": "enumerate"},
    "gmd": {"method": "gmd"},
    "upgrad": {"method": "surgery", "weighting": "upgrad"},
    "the last objective first": {"method": "surgery", "weighting": "pcd"},
    "every": {"method": "gmd", "every": 3},
    "module by module": {"method": "gmd", "granularity": "module"},
    "accumulated": {"method": "gmd", "accumulate": 2},
    "clipped": {"method": "joint", "clip": 0.1},
    "adamw": {"method": "gmd", "optimizer": "adamw", "momentum": 0.9, "lr": 1e-3},
    "plateau": {"method": "joint", "schedule": "plateau", "plateau_patience": 1, "decay": 0.5, "patience": 3},
}


def sequences(folder: Path) -> dict[str, TrainConfig]:
    data = folder / "sentiment.npz"
    base = replace(tiny_sentiment(data, folder), dropout=0.0, batch=9, **SGD)
    return {name: replace(base, **options) for name, options in SEQUENCES.items()}


def others(folder: Path) -> dict[str, TrainConfig]:
    """Segmentation, in which a process may lack a modality, and manifests: of a label, and of two with gaps."""
    brats = TrainBrats(
        data=(folder / "phantoms",),
        out=folder,
        modalities=("flair", "t1ce"),
        width=0.125,
        patch=(16, 16, 16),
        epochs=1,
        batch=3,
        validate_every=1,
        device="cpu",
        missing=("flair=0.5",),
        **SGD,
    )
    classes, two = folder / "classes" / "manifest.csv", folder / "outcomes" / "manifest.csv"
    manifest = {"batch": 7, "dropout": 0.0, "modalities": ("words", "vector"), **SGD}
    return {
        "segmentation, joint": replace(brats, method="joint"),
        "segmentation, gmd": brats,
        "a manifest": tiny_classify(classes, folder, **manifest, method="gmd"),
        "with a worker": tiny_classify(classes, folder, **manifest, method="enumerate", workers=1),
        "two outcomes": tiny_classify(two, folder, method="gmd", batch=5, dropout=0.0, **SGD),
    }


def write_data(folder: Path) -> None:
    write_sentiment_phantom(folder / "sentiment.npz", samples=40, seed=0)
    write_phantoms(folder / "phantoms", cases=8, shape=(32, 32, 32), seed=0)
    four_modalities(folder / "classes")
    kinds, ages = ["cat", "", "dog", "cat"] * 7, ["", 3, 7, 2] * 7
    words_and_vectors(folder / "outcomes", **{"label:kind": kinds, "label:age": ages})


def trained(folder: Path, where: str) -> dict[str, Any]:
    """Each of the runs, by as many processes as there are."""
    cases = sequences(folder) | others(folder)
    return {name: str(train(replace(config, out=folder / where / name))) for name, config in cases.items()}


def stopped_by(signals: tuple[int, ...], config: TrainConfig) -> dict[str, Any]:
    """A training in whose fifth step some of the processes get a signal."""
    real, made = gmd.training.loop.train_step, []

    def step(*given: Any) -> Any:
        made.append(0)
        if len(made) == 5 and rank() in signals:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    gmd.training.loop.train_step = step
    try:
        train(config)
    except KeyboardInterrupt:
        return {"stopped after": len(made)}
    finally:
        gmd.training.loop.train_step = real
    return {"stopped after": None}


def stopped_and_gone_on(folder: Path) -> dict[str, Any]:
    """By a signal to one of them, with dropout; then to the end, by as many and (outside) by one."""
    base = replace(tiny_sentiment(folder / "sentiment.npz", folder), batch=8, epochs=3)
    straight = replace(base, out=folder / "straight")
    train(straight)
    found = {}
    for name, signals in (("the other", (1,)), ("both", (0, 1))):
        config = replace(base, out=folder / name)
        found[name] = stopped_by(signals, config)
        found[name]["steps"] = load_checkpoint(config.out / "last.pt")["steps"]
        train(replace(config, resume=True))
    stopped_by((1,), replace(base, out=folder / "by one"))
    return found


def local(folder: Path) -> None:
    """Each on its share by itself, with weights now and then, and losses of the second that are no number once."""
    options = {"scope": "local", "every": 2, "batch": 9}
    config = replace(tiny_sentiment(folder / "sentiment.npz", folder / "local"), **options)
    straight = replace(config, out=folder / "local, straight")
    train(straight)
    stopped_by((0,), config)
    train(replace(config, resume=True))


def validation_stopped(folder: Path) -> dict[str, Any]:
    """A signal to one of them while they validate."""
    config = replace(tiny_sentiment(folder / "sentiment.npz", folder / "validation"), batch=8)
    real = gmd.training.loop.validate

    def validate(*given: Any) -> Any:
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*given)

    gmd.training.loop.validate = validate
    try:
        train(config)
    except KeyboardInterrupt:
        return {"epochs": load_checkpoint(config.out / "last.pt")["epochs"]}
    finally:
        gmd.training.loop.validate = real
    return {}


def outcome(config: TrainConfig) -> tuple[str, bool]:
    try:
        train(config)
    except UserError as error:
        return str(error), error.told_elsewhere
    return "", False


def failing(folder: Path) -> dict[str, Any]:
    """A file that the second process cannot read in its share, and losses that are no number in it."""
    found, broken = {}, folder / "broken" / "manifest.csv"
    config = tiny_classify(broken, folder / "failed", modalities=("words", "vector"), epochs=3)
    real = gmd.training.loop.logged_step

    def spoil(training: Any, task: Any, batches: Any, log: Any) -> Any:
        if training.steps == 1 and is_first():
            (folder / "broken" / "vectors.npy").write_bytes(b"no longer")
        return real(training, task, batches, log)

    gmd.training.loop.logged_step = spoil
    found["a file"] = outcome(config)
    gmd.training.loop.logged_step = real
    found["refused again"] = outcome(replace(config, data=folder / "classes" / "manifest.csv"))
    found["tol"] = outcome(replace(config, out=folder / "never", method="gmd", tol=0.1))
    part = {"method": "gmd", "every": 2, "fraction": 0.5}
    found["fraction"] = outcome(replace(config, out=folder / "never", **part))
    found["method"] = outcome(replace(config, out=folder / "never", method="qmf"))
    found["small batch"] = outcome(replace(config, out=folder / "never", batch=1))
    return found


def skipping(folder: Path, out: str, **options: str) -> None:
    """Losses of the second process that are no number, at its second step."""
    from gmd.training.tasks import sequences as of_sequences

    config = replace(tiny_sentiment(folder / "sentiment.npz", folder / out), batch=8, **options)
    real = of_sequences.SequenceTask.to_device
    seen = []

    def to_device(self: Any, inputs: Any, targets: Any, device: Any) -> Any:
        seen.append(0)
        inputs, targets = real(self, inputs, targets, device)
        if len(seen) == 2 and rank() == 1:
            spoilt = {m: value._replace(values=value.values * torch.nan) for m, value in inputs.values.items()}
            inputs = replace(inputs, values=spoilt)
        return inputs, targets

    of_sequences.SequenceTask.to_device = to_device
    try:
        train(config)
    finally:
        of_sequences.SequenceTask.to_device = real


def work(folder: Path) -> dict[str, Any]:
    gmd.training.loop.draw_pictures = lambda run, task: "not drawn"
    assert processes() == 2
    local(folder)
    skipping(folder, "skipped")
    skipping(folder, "local, skipped", scope="local")
    return {
        "trained": trained(folder, "two"),
        "stopped": stopped_and_gone_on(folder),
        "validation": validation_stopped(folder),
        "failing": failing(folder),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_data(folder)
    words_and_vectors(folder / "broken")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path, one_thread: None) -> Iterator[list[dict[str, Any]]]:
    (folder / "joined").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.training.loop, "draw_pictures", lambda run, task: "not drawn")
        yield together(2, folder / "joined", work, folder)


NAMES = [*SEQUENCES, "segmentation, joint", "segmentation, gmd", "a manifest", "with a worker", "two outcomes"]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_on_the_whole_batch(found, folder: Path, name: str):
    """Up to rounding: the same losses, of the same objectives, the same scores, the same weights in the end."""
    config = (sequences(folder) | others(folder))[name]
    one, two = train(replace(config, out=folder / "one" / name)), folder / "two" / name
    ours, theirs = (load_checkpoint(run / "last.pt") for run in (one, two))
    for key, value in ours["network"].items() if name not in LOSSES_ALONE else ():
        torch.testing.assert_close(theirs["network"][key], value, rtol=1e-3, atol=1e-6, msg=f"{key} differs")
    assert len(theirs["others"]) == 1
    assert "others" not in ours
    for record, other in zip(read_metrics(one, "step"), read_metrics(two, "step"), strict=True):
        assert list(record["losses"]) == list(other["losses"])
        assert other["losses"] == pytest.approx(record["losses"], rel=1e-3 if name in LOSSES_ALONE else 1e-5)
        assert other["lr"] == record["lr"]
    for record, other in zip(read_metrics(one, "epoch"), read_metrics(two, "epoch"), strict=True):
        assert other["validation"] == pytest.approx(record["validation"], abs=0.05)  # a threshold may fall otherwise
    assert (ours["steps"], ours["best_epoch"]) == (theirs["steps"], theirs["best_epoch"])


@pytest.mark.parametrize("name", ["the other", "both"])
def test_a_signal_stops_all_after_the_same_step_and_nothing_is_lost(found, folder: Path, name: str):
    assert [each["stopped"][name] for each in found] == [{"stopped after": 5, "steps": 5}] * 2
    assert_same_run(folder / "straight", folder / name)
    ours, theirs = (load_checkpoint(folder / run / "last.pt")["others"] for run in ("straight", name))
    assert equal(ours, theirs)


def test_one_process_goes_on_with_what_two_have_begun(found, folder: Path, capsys: pytest.CaptureFixture[str]):
    base = replace(tiny_sentiment(folder / "sentiment.npz", folder), batch=8, epochs=3)
    run = train(replace(base, out=folder / "by one", resume=True))
    assert "last.pt: saved by 2 processes, and 1 go on: the batches are the same" in capsys.readouterr().out
    assert load_checkpoint(run / "last.pt")["steps"] == 12


def test_processes_draw_different_numbers_for_dropout(found, folder: Path):
    state = load_checkpoint(folder / "straight" / "last.pt")
    assert not torch.equal(state["random"], state["others"][0]["random"])
    assert torch.equal(state["generator"], state["others"][0]["generator"]), "orders of projection are common"


def test_a_signal_in_the_validation_ends_it_in_all(found):
    assert [each["validation"] for each in found] == [{"epochs": 0}] * 2


def test_a_file_that_one_cannot_read_stops_all_and_is_told_once(found, folder: Path):
    texts, elsewhere = zip(*(each["failing"]["a file"] for each in found), strict=True)
    assert elsewhere == (False, True)
    assert "vectors.npy" in texts[0]
    assert "The training stopped at step" in texts[0]
    assert load_checkpoint(folder / "failed" / "last.pt")["steps"] >= 2


def test_what_is_refused_is_told_once_and_leaves_nothing(found, folder: Path):
    for case, text in (
        ("refused again", "already holds a run"),
        ("tol", "--tol: got 0.1, expected 0 in several processes"),
        ("fraction", "--fraction: got 0.5, expected 1 in several processes"),
        ("method", "in several processes: how hard a sample is follows from all its earlier losses"),
        ("small batch", "--batch: got 1, expected at least 2, a sample for each of the 2 processes"),
    ):
        texts, elsewhere = zip(*(each["failing"][case] for each in found), strict=True)
        assert elsewhere == (False, True)
        assert text in texts[0]
    assert not (folder / "never").exists()


def test_with_local_scope_a_run_goes_on_too_and_is_another(found, folder: Path):
    """What the surgeon of each process remembers is its own; the last batch leaves one of them without a sample."""
    assert_same_run(folder / "local, straight", folder / "local")
    ours, theirs = (load_checkpoint(folder / run / "last.pt") for run in ("local, straight", "local"))
    assert equal(ours["others"], theirs["others"])
    assert not equal(ours["surgeon"], ours["others"][0]["surgeon"])


@pytest.mark.parametrize("run", ["skipped", "local, skipped"])
def test_a_loss_of_one_that_is_no_number_is_skipped_by_all(found, folder: Path, run: str):
    state = load_checkpoint(folder / run / "last.pt")
    assert state["skipped"] == 1
    assert all(value.isfinite().all() for value in state["network"].values())
    assert [record["finite"] for record in read_metrics(folder / run, "step")][:3] == [True, False, True]
