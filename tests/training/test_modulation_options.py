"""Options of mla, ogm-ge and cggm's classifiers: what arrives, epoch by epoch; what is refused; that a run goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmd.config import TrainSentiment, config_from_dict
from gmd.config.modulation import ADDED
from gmd.errors import UserError
from gmd.models.sequences.step_classifier import StepClassifier
from gmd.models.unet3d import UNet3d
from gmd.models.weighted_fusion import weighted_fusion
from gmd.scoring.sequences.prediction import predict_samples
from gmd.surgery import MLA, OGMGE
from gmd.training.loop import train
from gmd.training.methods import METHODS
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import open_task
from helpers.run_cases import Killed, assert_same_run, kill_before, tiny_sentiment

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

ALL = ("text", "audio", "vision")


def tiny(data: Path, out: Path, **options) -> TrainSentiment:
    return replace(tiny_sentiment(data, out), **options)


def prepared(config: TrainSentiment) -> tuple[Training, object]:
    config.check()
    task = open_task(config)
    return Training.prepare(task), task


def calls_of(training: Training, task, name: str, epochs: int = 2) -> list:
    """What `backward` of the surgeon is given under a name in each of its calls."""
    given, backward = [], training.surgeon.backward
    training.surgeon.backward = lambda *args, **options: (given.append(options[name]), backward(*args, **options))[1]
    for epoch in range(1, epochs + 1):
        for batch in task.batches(epoch):
            train_step(training, task, *batch)
        training.epochs = epoch
    return given


def test_alpha_falls_from_step_to_step(sentiment: Path, tmp_path: Path):
    config = tiny(sentiment, tmp_path, method="mla", alpha=0.1, alpha_end=0.01, projector="normalised")
    training, task = prepared(config)
    assert type(training.surgeon) is MLA
    assert (training.surgeon.alpha, training.surgeon.alpha_end, training.surgeon.normalised) == (0.1, 0.01, True)
    steps = task.steps_per_epoch
    assert steps > 1
    expected = [step / steps for step in range(steps) for _ in ALL]
    assert calls_of(training, task, "progress") == 2 * expected


@pytest.mark.parametrize(
    ("epochs", "expected"), [(None, [1, 1, 1]), ((2, 9), [0, 1, 1]), ((2, 2), [0, 1, 0]), ((1, 1), [1, 0, 0])]
)
def test_epochs_of_modulation(sentiment: Path, tmp_path: Path, epochs, expected: list[int]):
    """The last one may lie behind the end: the published 50 of a shorter run."""
    config = tiny(sentiment, tmp_path, method="ogm-ge", modulation_epochs=epochs, noise=False, epochs=3)
    training, task = prepared(config)
    assert type(training.surgeon) is OGMGE
    assert (training.surgeon.noise, training.surgeon.convolutions) == (False, False)
    given = calls_of(training, task, "modulate", epochs=3)
    assert given == [bool(one) for one in expected for _ in range(task.steps_per_epoch)]


@pytest.mark.parametrize("network", ["ds", "late", "branches"])
@pytest.mark.parametrize("method", ["cggm", "cggm-gmd"])
def test_transformers_judge_the_encoded_steps(sentiment: Path, tmp_path: Path, method: str, network: str):
    """Those that the very outputs of the step are the means of, and not through another pass."""
    options = {"classifiers": "transformers", "classifier_lr": 5e-4}
    training, task = prepared(tiny(sentiment, tmp_path, method=method, network=network, **options))
    surgeon, judged = training.surgeon, []
    models = surgeon.classifiers.models
    assert tuple(models) == ALL
    assert all(type(model) is StepClassifier for model in models.values())
    assert surgeon.classifiers.optimizer.param_groups[0]["lr"] == 5e-4
    backward = surgeon.backward
    surgeon.backward = lambda losses, **given: (judged.append(given), backward(losses, **given))[1]
    [turn] = train_step(training, task, *next(iter(task.batches(1))))
    assert turn.report.finite
    [given] = judged
    for m, steps in given["seen"].items():
        assert not steps.values.requires_grad
        pooled = training.network.pool(steps)
        torch.testing.assert_close(pooled, given["outputs"][m].detach(), rtol=0, atol=0)


def test_a_network_without_steps_is_refused(sentiment: Path, tmp_path: Path):
    training, task = prepared(tiny(sentiment, tmp_path, method="cggm", classifiers="transformers"))
    parts = replace(training.parts_for(task), network=UNet3d(ALL, ("whole",), width=0.125))
    with pytest.raises(UserError, match="--classifiers: got transformers, expected copies: the network has no sequen"):
        METHODS["cggm"].make(parts)


@pytest.mark.parametrize("target", ["score", "sign"])
def test_fixed_weights_fuse_what_the_modalities_say(sentiment: Path, tmp_path: Path, target: str):
    words = ("audio=0.35", "vision=0.25", "text=0.4")
    config = tiny(sentiment, tmp_path, method="mla", network="branches", target=target, fusion_weights=words)
    training, task = prepared(config)
    samples = list(task.data.splits["train"])[:6]
    samples[0] = samples[0]._replace(values={m: samples[0].values[m] for m in ("text", "vision")})
    plain = replace(config, fusion_weights=())
    alone = predict_samples(training.network, samples, [(m,) for m in ALL], plain, task.data.outcomes)
    logits = torch.stack([alone.subsets[m,] for m in ALL])
    if target == "sign":
        logits = logits.log()
    expected = weighted_fusion(logits, logits.isfinite().all(dim=-1), torch.tensor([0.4, 0.35, 0.25]))
    got = predict_samples(training.network, samples, [None], config, task.data.outcomes).subsets[None]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


OPTIONS = [
    {"method": "mla", "network": "branches", "alpha": 0.1, "alpha_end": 0.01, "projector": "normalised"},
    {"method": "ogm-ge", "network": "late", "modulation_epochs": (2, 2)},
    {"method": "cggm", "network": "late", "classifiers": "transformers", "dropout": 0.3},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=["mla", "ogm-ge", "cggm"])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict
):
    """In the midst of an epoch, where alpha has fallen; and between one without modulation and one with it."""
    config = tiny(sentiment, tmp_path / "run", batch=8, **options)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr("gmd.training.loop.SAVE_EVERY", 0)
        kill_before(patched, "last.pt", 4)
        with pytest.raises(Killed):
            train(config)
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ogm-ge", "alpha_end": 0.1}, "--alpha-end: got 0.1, expected --method mla with it"),
        ({"method": "mla", "alpha_end": 0.0}, "--alpha-end: got 0.0, expected a number above 0"),
        ({"method": "gmd", "projector": "normalised"}, "--projector: got normalised, expected --method mla"),
        ({"method": "mla", "modulation_epochs": (1, 2)}, "--modulation-epochs: got 1 2, expected --method ogm-ge"),
        ({"method": "ogm-ge", "modulation_epochs": (0, 2)}, "--modulation-epochs: got 0 2, expected a first epoch"),
        ({"method": "ogm-ge", "modulation_epochs": (2, 1)}, "--modulation-epochs: got 2 1, expected a first epoch"),
        ({"method": "ogm-ge", "modulation_epochs": (9, 9)}, "--modulation-epochs: got 9 9, expected a first epoch"),
        ({"method": "mla", "noise": False}, "--noise: got False, expected --method ogm-ge"),
        ({"method": "mla", "modulated": "convolutions"}, "--modulated: got convolutions, expected --method ogm-ge"),
        ({"method": "joint", "classifiers": "transformers"}, "--classifiers: got transformers, expected --method cggm"),
        ({"method": "joint", "classifier_lr": 0.5}, "--classifier-lr: got 0.5, expected --method cggm"),
        ({"method": "cggm", "classifier_lr": 0.0}, "--classifier-lr: got 0.0, expected a number above 0"),
        ({"method": "gmd", "fusion_weights": ("text=1",)}, "--fusion-weights: got text=1, expected --method mla"),
        *(
            ({"method": "mla", "fusion_weights": words}, "--fusion-weights: got .* expected MODALITY=NUMBER above 0")
            for words in (
                ("text=1",),
                ("text=1", "audio=1", "smell=1"),
                ("text=1", "audio=1", "vision=x"),
                ("text=1", "audio=1", "vision=inf"),
                ("text=1", "audio=0", "vision=1"),
                ("text=1", "audio=1", "vision=1", "vision=2"),
                ("text", "audio", "vision"),
            )
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict, message: str):
    with pytest.raises(UserError, match=message):
        tiny(tmp_path, tmp_path, **options).check_values()


def test_a_network_without_convolutions_is_refused_before_anything_is_written(sentiment: Path, tmp_path: Path):
    config = tiny(sentiment, tmp_path / "run", method="ogm-ge", modulated="convolutions")
    with pytest.raises(UserError, match="--modulated: got convolutions, expected all: the network has no 2-D convol"):
        train(config)
    assert not any(path.is_file() for path in (tmp_path / "run").glob("*.yaml"))


def test_files_of_earlier_runs_lack_these_options(tmp_path: Path):
    config = tiny(tmp_path, tmp_path, method="mla")
    values = {key: value for key, value in config.to_dict().items() if key not in {*ADDED, "classifier_lr"}}
    assert config_from_dict(values, "config.yaml") == config
