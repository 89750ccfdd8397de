"""Batches that add up to one step: the gradient of one larger batch, the records of all of them, whole steps only."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gmd.training.loop
from gmd.config import TrainBrats, TrainSentiment
from gmd.data.pairs import Pairs
from gmd.data.sequences.batches import collate
from gmd.models.multimodal import run_modalities
from gmd.monitor.merged_turns import merged
from gmd.monitor.records import Turn
from gmd.surgery import Report
from gmd.training.loop import batches_of_steps, train
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import open_task
from gmd.training.tasks.segmentation import BratsTask
from gmd.training.tasks.sequences import SequenceTask
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")
ALL = ("text", "audio", "vision")


@pytest.fixture
def config(sentiment: Path, tmp_path: Path) -> TrainSentiment:
    return replace(tiny_sentiment(sentiment, tmp_path / "run"), method="enumerate", dropout=0.0, missing=())


class ExactTask(SequenceTask):
    """The task in float64, from the inputs on."""

    def to_device(self, inputs: Pairs, targets: Tensor, device: torch.device) -> tuple:
        values = {m: padded._replace(values=padded.values.double()) for m, padded in inputs.values.items()}
        return replace(inputs, values=values), targets.double()

    def outputs(self, network: torch.nn.Module, inputs: Pairs) -> Pairs:
        return run_modalities(network, inputs)


def gradient_of(
    config: TrainSentiment, sizes: list[int], kind: type[SequenceTask] = ExactTask
) -> tuple[dict[str, Tensor], list[Turn]]:
    """The gradient of a step on batches of these sizes, of the same samples."""
    task = kind(config)
    training = Training.prepare(task)
    if kind is ExactTask:
        training.network.double()
    batches, start = [], 0
    for size in sizes:
        batches.append(collate(task._training[start : start + size], ALL))
        start += size
    (inputs, targets), *more = batches
    turns = train_step(training, task, inputs, targets, more)
    return {name: param.grad for name, param in training.network.named_parameters()}, turns


@pytest.mark.parametrize("sizes", [[1, 1], [3, 1], [1, 2, 2]], ids=str)
@pytest.mark.parametrize(
    ("method", "network"), [("joint", "ds"), ("enumerate", "ds"), ("enumerate", "late"), ("cggm", "late")]
)
def test_it_is_the_gradient_of_one_batch(config: TrainSentiment, method: str, network: str, sizes: list[int]):
    """cggm without its guidance, in which each batch would have a balance of its own."""
    options = {"rho": 0.0, "lam": 0.0} if method == "cggm" else {}
    config = replace(config, method=method, network=network, target="score", **options)
    ours, [turn] = gradient_of(config, sizes)
    expected, [whole] = gradient_of(config, [sum(sizes)])
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(turn.report.losses, whole.report.losses)
    assert turn.subsets == whole.subsets


def test_a_turn_of_mla_has_all_batches_of_its_modality(config: TrainSentiment):
    """Its branches, which no projector touches, get the gradient of one batch; some samples lack a modality."""
    config = replace(config, method="mla", network="branches", missing=("0.5",), seed=3)
    ours, turns = gradient_of(config, [3, 1, 4], SequenceTask)
    expected, whole = gradient_of(config, [8], SequenceTask)
    assert [turn.subsets for turn in turns] == [turn.subsets for turn in whole] == [[(m,)] for m in ALL]
    for turn, other in zip(turns, whole, strict=True):
        torch.testing.assert_close(turn.report.losses, other.report.losses, rtol=1e-3, atol=1e-4)
    last = [name for name in expected if name.startswith(("encoders.2.", "inputs.2."))]
    assert last
    for name in last:  # of the last turn: the head has not been the same in those before it
        direction = torch.nn.functional.cosine_similarity(ours[name].flatten(), expected[name].flatten(), dim=0)
        assert direction > 0.99


def test_steps_are_those_of_the_optimizer(config: TrainSentiment):
    """28 samples in batches of 8 are four, and in steps of three batches two: one of three and one of one."""
    config = replace(config, batch=8, accumulate=3, epochs=2)
    task = open_task(config)
    assert task.steps_per_epoch == 2
    assert [len(batches) for batches in batches_of_steps(task, 1)] == [3, 1]
    assert [len(batches) for batches in batches_of_steps(task, 1, done=1)] == [1]
    train(config)
    steps = read_metrics(config.out, "step")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert [step["lr"] for step in steps] == pytest.approx([config.lr * (1 - k / 4) ** 0.9 for k in range(4)])


def test_a_bad_batch_costs_the_whole_step_and_nothing_else(config: TrainSentiment, monkeypatch: pytest.MonkeyPatch):
    config = replace(config, batch=8, accumulate=2, epochs=1, method="gmd")
    real = gmd.training.loop.train_step

    def with_nan(training, task, inputs, targets, more):
        if training.steps == 1:
            more[0][0].values["audio"].values[0, 0, 0] = float("nan")
        return real(training, task, inputs, targets, more)

    monkeypatch.setattr(gmd.training.loop, "train_step", with_nan)
    train(config)
    first, second = read_metrics(config.out, "step")
    assert (first["finite"], second["finite"]) == (True, False)
    assert second["losses"]["text"] is not None
    assert second["losses"]["audio"] is None
    assert read_metrics(config.out, "epoch")[0]["skipped"] == 1


@pytest.mark.parametrize(("steps", "batches"), [(None, [2, 1]), (2, [2, 2])])
def test_patches_of_an_epoch(config_brats: TrainBrats, steps: int | None, batches: list[int]):
    """By default one of each of the training cases; or so many steps, which are whole then."""
    task = BratsTask(replace(config_brats, steps_per_epoch=steps, batch=1, accumulate=2))
    cases = len(task.splits.train)
    expected = batches if steps else [2] * (cases // 2) + [1] * (cases % 2)
    assert task.steps_per_epoch == len(expected)
    assert task._batches == sum(expected)


@pytest.fixture
def config_brats(phantoms: Path, tmp_path: Path) -> TrainBrats:
    return TrainBrats(data=phantoms, out=tmp_path / "run", device="cpu", patch=(16, 16, 16))


# ---- reports ----


def turn(subsets: list, losses: list[float], gram: list, norms: list[float]) -> Turn:
    values, grams = (torch.tensor(value, dtype=torch.float64) for value in (losses, gram))
    weights = torch.full_like(grams.diagonal(), 1 / len(grams))
    modality = {"gradient norm": torch.tensor(norms, dtype=torch.float64)}
    return Turn(subsets, Report(values, grams, weights, modality=modality))


def test_reports_of_batches_that_lack_modalities_are_averaged_entry_by_entry():
    a, b, both = ("a",), ("b",), ("a", "b")
    first = turn([a, b, both], [1.0, 2.0, 3.0], [[4.0, 1, 2], [1, 5, 3], [2, 3, 6]], [1.0, 2.0])
    second = turn([b], [6.0], [[9.0]], [6.0])
    found = merged([first, second], [0.75, 0.25], ("a", "b"))
    assert found.subsets == [a, b, both]
    assert found.report.losses.tolist() == [1, 3, 3]
    assert found.report.grams.tolist() == [[4, 1, 2], [1, 6, 3], [2, 3, 6]]
    assert found.report.modality["gradient norm"].tolist() == [1, 3]
    assert not found.searching


def test_reports_of_one_gradient_have_one():
    a, b = ("a",), ("b",)
    first = turn([a, b], [1.0, 2.0], [[4.0]], [1.0, 2.0])
    second = turn([b], [4.0], [[8.0]], [4.0])
    found = merged([first, second], [0.5, 0.5], ("a", "b"))
    assert found.report.losses.tolist() == [1, 3]
    assert found.report.grams.tolist() == [[6]]
    assert found.report.weights.tolist() == [1]


def test_a_pair_of_objectives_that_no_batch_has_is_no_conflict():
    a, b = ("a",), ("b",)
    third = ("a", "b")
    found = merged(
        [turn([a, third], [1.0, 1.0], [[1.0, -1], [-1, 1]], [1.0, 1.0]), turn([b], [1.0], [[1.0]], [1.0])],
        [0.5, 0.5],
        ("a", "b"),
    )
    assert found.report.grams.shape == (3, 3)
    assert float(found.report.conflicts) == pytest.approx(1 / 3)


def test_a_batch_that_is_not_finite_shows_in_the_report_of_all():
    good = turn([("a",)], [1.0], [[1.0]], [1.0])
    bad = turn([("a",)], [1.0], [[float("nan")]], [1.0])
    assert not merged([good, bad], [0.5, 0.5], ("a",)).report.finite
    searching = merged([good, bad._replace(searching=True)], [0.5, 0.5], ("a",))
    assert searching.searching
