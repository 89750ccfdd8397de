"""Several processes that each keep a part of the network, with --shard, train as one process on the whole batch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gmd.cli
import gmd.training.loop
from gmd.config import TrainBrats, TrainConfig
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.together import is_first
from gmd.training import train
from gmd.training.checkpoint import load_checkpoint
from gmd.training.sharding import shard
from gmd.training.state import Training
from gmd_kernels.pieces import is_dtensor
from helpers.run_cases import assert_same_run, tiny_sentiment
from helpers.together_cases import together
from helpers.training_cases import read_metrics

pytestmark = pytest.mark.slow

SGD = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.01}
LOSSES_ALONE = ("module by module", "adamw")  # where a gradient is 0 but for rounding: its sign decides there
SEQUENCES = {  # the last batch of 28 samples has one: the second process has none of it
    "joint": {"method": "joint", "momentum": 0.9, "weight_decay": 0.1},
    "gmd": {"method": "gmd"},
    "every": {"method": "gmd", "every": 2},
    "module by module": {"method": "gmd", "granularity": "module"},
    "clipped": {"method": "joint", "clip": 0.1},
    "accumulated and clipped": {"method": "gmd", "accumulate": 2, "clip": 0.1},
    "adamw": {"method": "gmd", "optimizer": "adamw", "momentum": 0.9, "lr": 1e-3},
}
SEGMENTATION = {"segmentation, joint": {"method": "joint", "weight_decay": 0.1}, "segmentation, gmd": {"method": "gmd"}}
NAMES = [*SEQUENCES, *SEGMENTATION]


def configs(folder: Path) -> dict[str, TrainConfig]:
    """On sequences, and on segmentation, in which one or both of the processes may lack a modality."""
    sequences = replace(tiny_sentiment(folder / "sentiment.npz", folder), dropout=0.0, batch=9, epochs=1, **SGD)
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
    found = {name: replace(sequences, **options) for name, options in SEQUENCES.items()}
    return found | {name: replace(brats, **options) for name, options in SEGMENTATION.items()}


def resumable(folder: Path) -> TrainConfig:
    return replace(tiny_sentiment(folder / "sentiment.npz", folder), batch=8, epochs=2, shard=True)


def outcome(config: TrainConfig) -> str:
    try:
        train(config)
    except UserError as error:
        return str(error)
    return ""


def stopped(config: TrainConfig) -> None:
    """Trains until it is interrupted in the fifth step."""
    real, made = gmd.training.loop.train_step, []

    def step(*given: Any) -> Any:
        made.append(0)
        if len(made) == 5:
            raise KeyboardInterrupt
        return real(*given)

    gmd.training.loop.train_step = step
    try:
        train(config)
    except KeyboardInterrupt:
        pass
    finally:
        gmd.training.loop.train_step = real


def cut(folder: Path) -> dict[str, Any]:
    """How much a process has of the parameters and of the optimizer's state; what lies in a checkpoint."""
    shares: dict[str, Any] = {}
    real = gmd.training.loop.finish_epoch

    def look(training: Training, *given: Any) -> None:
        params = list(training.network.parameters())
        state = [one["exp_avg"] for one in training.optimizer.state.values()]
        for name, tensors in (("parameters", params), ("state", state)):
            assert all(map(is_dtensor, tensors))
            shares[name] = sum(t.to_local().numel() for t in tensors) / sum(t.numel() for t in tensors)
        real(training, *given)

    gmd.training.loop.finish_epoch = look
    try:
        train(replace(resumable(folder), epochs=1, out=folder / "cut"))
    finally:
        gmd.training.loop.finish_epoch = real
    return shares


def refused(folder: Path) -> dict[str, str]:
    config = replace(resumable(folder), out=folder / "never")
    network = nn.Linear(2, 2)
    network.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError) as one_number:
        shard(network, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("torch.distributed.fsdp.FSDPModule.set_reduce_scatter_unused_params")
        old = outcome(config)
    return {"local": outcome(replace(config, scope="local")), "old torch": old, "a number": str(one_number.value)}


def work(folder: Path) -> dict[str, Any]:
    gmd.training.loop.draw_pictures = lambda run, task: "not drawn"
    for name, config in configs(folder).items():
        train(replace(config, shard=True, out=folder / "two" / name))
    config = resumable(folder)
    train(replace(config, out=folder / "straight"))
    stopped(replace(config, out=folder / "stopped"))
    train(replace(config, out=folder / "stopped", resume=True))
    stopped(replace(config, out=folder / "by one"))
    return {"cut": cut(folder), "refused": refused(folder), "first": is_first()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shard")
    write_sentiment_phantom(folder / "sentiment.npz", samples=40, seed=0)
    write_phantoms(folder / "phantoms", cases=8, shape=(32, 32, 32), seed=0)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path, one_thread: None) -> Iterator[list[dict[str, Any]]]:
    (folder / "joined").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.training.loop, "draw_pictures", lambda run, task: "not drawn")
        yield together(2, folder / "joined", work, folder)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_parts_are_one_on_the_whole_batch(found, folder: Path, name: str):
    """Up to rounding: the same losses, of the same objectives, the same scores, the same weights in the end."""
    one, two = train(replace(configs(folder)[name], out=folder / "one" / name)), folder / "two" / name
    ours, theirs = (load_checkpoint(run / "last.pt") for run in (one, two))
    assert list(ours["network"]) == list(theirs["network"])
    for key, value in ours["network"].items() if name not in LOSSES_ALONE else ():
        torch.testing.assert_close(theirs["network"][key], value, rtol=1e-3, atol=1e-6, msg=f"{key} differs")
    assert ours["optimizer"]["state"].keys() == theirs["optimizer"]["state"].keys()
    for record, other in zip(read_metrics(one, "step"), read_metrics(two, "step"), strict=True):
        assert list(record["losses"]) == list(other["losses"])
        assert other["losses"] == pytest.approx(record["losses"], rel=1e-3 if name in LOSSES_ALONE else 1e-5)
        assert other.get("norm", 0) == pytest.approx(record.get("norm", 0), rel=1e-4)
    for record, other in zip(read_metrics(one, "epoch"), read_metrics(two, "epoch"), strict=True):
        assert other["validation"] == pytest.approx(record["validation"], abs=0.05)  # a threshold may fall otherwise
    assert (ours["steps"], ours["best_epoch"]) == (theirs["steps"], theirs["best_epoch"])


def test_a_run_goes_on_bit_for_bit(found, folder: Path):
    assert_same_run(folder / "straight", folder / "stopped")


def test_one_process_goes_on_without_parts(found, folder: Path, capsys: pytest.CaptureFixture[str]):
    run = train(replace(resumable(folder), shard=False, out=folder / "by one", resume=True))
    assert "last.pt: saved by 2 processes, and 1 go on" in capsys.readouterr().out
    assert load_checkpoint(run / "last.pt")["steps"] == 8


def test_each_process_has_its_part(found):
    for one in found:
        assert one["cut"] == {name: pytest.approx(0.5, abs=0.05) for name in ("parameters", "state")}


def test_files_are_those_of_a_run_without_parts(found, folder: Path):
    state = load_checkpoint(folder / "straight" / "last.pt")
    weights = load_file(folder / "straight" / "last.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in state["network"].items())
    assert gmd.cli.main(["evaluate", str(folder / "straight")]) == 0
    assert (folder / "straight" / "evaluation" / "table.md").is_file()


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("local", "--scope: got local, expected global with --shard"),
        ("old torch", "--shard: expected torch 2.13 or newer"),
        ("a number", "--shard: got a network whose parameter scale is a single number without dimensions"),
    ],
)
def test_what_cannot_be_is_refused(found, folder: Path, case: str, text: str):
    for one in found:
        assert text in one["refused"][case]
    assert not (folder / "never").exists()


def test_one_process_has_nobody_to_share_with(folder: Path):
    said = outcome(replace(resumable(folder), out=folder / "never"))
    assert said.startswith("--shard: got one process, expected torchrun, such as torchrun --nproc-per-node 2")
    assert not (folder / "never").exists()
