"""--method qmf: its losses from a batch, which samples it remembers, how it predicts, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from gmd.config import TrainSentiment
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.models.confidence_fusion import confidence_fusion
from gmd.scoring.sequences.prediction import predict_samples
from gmd.surgery import QMF
from gmd.training.loop import train
from gmd.training.objectives import decision_objectives
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import open_task
from helpers.run_cases import Killed, assert_same_run, kill_before, tiny_sentiment
from helpers.sequence_cases import table, write_npz

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

ALL = ("text", "audio", "vision")


def tiny(data: Path, out: Path, **options) -> TrainSentiment:
    config = replace(tiny_sentiment(data, out), method="qmf", target="sign", network="branches", **options)
    config.check()
    return config


def prepared(config: TrainSentiment):
    task = open_task(config)
    return Training.prepare(task), task


def test_the_losses_are_of_each_alone_and_of_their_fusion(sentiment: Path, tmp_path: Path):
    training, task = prepared(tiny(sentiment, tmp_path, dropout=0.0))
    inputs, targets = next(iter(task.batches(1)))
    outputs = task.outputs(training.network, inputs)
    predict = training.parts_for(task).predict
    losses = decision_objectives(outputs, targets, task.criterion, predict)
    assert list(losses) == [("text",), ("audio",), ("vision",), ALL]
    logits = torch.full((3, inputs.num_samples, 2), torch.nan)
    for m, modality in enumerate(ALL):
        rows = outputs.samples[modality]
        logits[m, rows] = predict(outputs, (modality,))[0]
        torch.testing.assert_close(losses[modality,], cross_entropy(logits[m, rows], targets[rows]))
    assert logits.isnan().any(), "all modalities are there: this test would show less"
    fused = confidence_fusion(logits, logits.isfinite().all(dim=-1))
    torch.testing.assert_close(losses[ALL], cross_entropy(fused, targets))


def test_each_sample_of_an_epoch_is_remembered_once(sentiment: Path, tmp_path: Path):
    """By its own number, whatever the order of the epoch: the history of a modality is the loss of each sample."""
    training, task = prepared(tiny(sentiment, tmp_path, dropout=0.0, lr=1e-12))  # nothing is learnt
    assert type(training.surgeon) is QMF
    assert training.surgeon.history.shape == (3, len(task._training))
    for epoch in (1, 2):
        for batch in task.batches(epoch):
            train_step(training, task, *batch)
    predictions = predict_samples(
        training.network, task._training, [(m,) for m in ALL], task.config, task.data.outcomes
    )
    for m, modality in enumerate(ALL):
        probabilities = predictions.subsets[modality,]
        for s, sample in enumerate(task._training):
            expected = -2 * probabilities[s, sample.target].log() if modality in sample.values else torch.tensor(0.0)
            assert float(training.surgeon.history[m, s]) == pytest.approx(float(expected), rel=1e-3)


def test_it_predicts_by_confidence(sentiment: Path, tmp_path: Path):
    config = tiny(sentiment, tmp_path)
    training, task = prepared(config)
    with torch.no_grad():
        training.network.head.weight.mul_(5)
    samples = task.data.splits["test"]
    got = predict_samples(training.network, samples, [ALL], config, task.data.outcomes).subsets[ALL]
    joint = replace(config, method="joint")
    mean = predict_samples(training.network, samples, [ALL], joint, task.data.outcomes).subsets[ALL]
    assert torch.allclose(got.sum(dim=-1), torch.ones(len(got)))
    assert (got - mean).abs().max() > 0.01


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bits(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tiny(sentiment, tmp_path / "run", batch=8)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr("gmd.training.loop.SAVE_EVERY", 0)
        kill_before(patched, "last.pt", 4)
        with pytest.raises(Killed):
            train(config)
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


def test_scores_are_refused(sentiment: Path, tmp_path: Path):
    config = replace(tiny(sentiment, tmp_path / "run"), target="score")
    with pytest.raises(UserError, match=r"--method qmf: expected one class of each sample, .* got scores"):
        train(config)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_target_of_each_step_is_refused(tmp_path: Path):
    config = tiny(write_npz(tmp_path / "table.npz", table()), tmp_path / "run")
    with pytest.raises(UserError, match=r"--method qmf: expected one class of each sample, .* one of each step"):
        train(config)


def test_one_modality_has_nothing_to_be_fused_with(tmp_path: Path):
    write_sentiment_phantom(tmp_path / "data.npz", samples=20, seed=0)
    training, task = prepared(tiny(tmp_path / "data.npz", tmp_path, modalities=("text",), missing=()))
    [turn] = train_step(training, task, *next(iter(task.batches(1))))
    assert turn.subsets == [("text",)]
    assert turn.report.finite
