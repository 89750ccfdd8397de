"""From the command line to the surgeons: options arrive, targets and rows go where they belong, losses are scaled."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gmd.cli
import gmd.training.loop
import gmd.training.tasks.samples
from gmd.config import TrainSentiment
from gmd.data.padded import pad
from gmd.data.pairs import Pairs
from gmd.data.sequences.batches import collate
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.models.entropy_fusion import entropy_fusion
from gmd.scoring.sequences.prediction import predict_samples
from gmd.surgery import CGGM, GMD, MLA, OGMGE, MeanGradient
from gmd.surgery._balance import PublishedBalance, SmoothBalance
from gmd.training.methods import METHODS
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, open_task
from gmd.training.tasks.criteria import absolute_error
from helpers.sequence_cases import table, write_npz
from helpers.training_cases import equal, overflowing

SMALL = ["--width", "16", "--layers", "1", "--heads", "2", "--batch", "16", "--device", "cpu"]
NETWORKS = ("ds", "late", "branches")
ALL = ("text", "audio", "vision")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "sentiment.npz"
    write_sentiment_phantom(path, samples=40, seed=0)
    return path


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 1 to 12 utterances, so that most rows of a batch are padding."""
    return write_npz(tmp_path_factory.mktemp("utterances") / "table.npz", table())


def asked_for(data: Path, *words: str) -> TrainSentiment:
    """What the command line makes of the words."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmd.training.loop, "train", lambda config: asked.append(config) or config.out)
        out = str(data.parent / "run")
        assert gmd.cli.main(["train", "sentiment", "--data", str(data), "--out", out, *SMALL, *words]) == 0
    [config] = asked
    config.check()
    return config


def prepared(config: TrainSentiment) -> tuple[Training, Task]:
    task = open_task(config)
    return Training.prepare(task), task


# ---- options ----


@pytest.mark.parametrize("method", ["cggm", "cggm-gmd"])
def test_options_of_cggm_arrive(generated: Path, method: str):
    words = ["--direction", "weights", "--balance", "published", "--rho", "2.5", "--lam", "0.25"]
    training, task = prepared(asked_for(generated, "--method", method, *words))
    surgeon = training.surgeon
    assert type(surgeon) is CGGM
    assert (surgeon.direction, surgeon.rho, surgeon.lam) == ("weights", 2.5, 0.25)
    assert type(surgeon.balance) is PublishedBalance
    assert surgeon.modalities == ALL
    assert surgeon.head is training.network.head
    assert (surgeon.classifiers.criterion, surgeon.classifiers.metric) == (task.criterion, task.metric)
    assert type(surgeon.surgeon) is (GMD if method == "cggm-gmd" else MeanGradient)
    assert surgeon.surgeon.optimizer is training.optimizer


@pytest.mark.parametrize("method", ["cggm", "cggm-gmd"])
def test_without_options_cggm_is_the_paper_s_with_the_bounded_balance(generated: Path, method: str):
    training, task = prepared(asked_for(generated, "--method", method))
    by_hand = CGGM(training.optimizer, training.network.head, task.criterion, task.metric, ALL)
    for surgeon in (training.surgeon, by_hand):
        assert (surgeon.direction, surgeon.rho, surgeon.lam) == ("gradient", 1.3, 0.1)
        assert type(surgeon.balance) is SmoothBalance


def test_zero_leaves_a_part_of_cggm_out(generated: Path):
    """For CGGM that is None: a factor of 0 would stop everything before the outputs."""
    without_lam = prepared(asked_for(generated, "--method", "cggm", "--lam", "0"))[0].surgeon
    assert (without_lam.rho, without_lam.lam) == (1.3, None)
    without_rho = prepared(asked_for(generated, "--method", "cggm", "--rho", "0"))[0].surgeon
    assert (without_rho.rho, without_rho.lam) == (None, 0.1)


@pytest.mark.parametrize("method", ["gmd", "cggm-gmd"])
def test_options_of_gmd_arrive(generated: Path, method: str):
    training, _ = prepared(asked_for(generated, "--method", method, "--granularity", "tensor", "--tol", "0.125"))
    surgeon = training.surgeon.surgeon if method == "cggm-gmd" else training.surgeon
    assert (surgeon.granularity, surgeon.tol) == ("tensor", 0.125)
    assert surgeon.generator is training.generator
    assert surgeon.model is training.network


def test_alpha_arrives_and_has_a_default_of_each_method(generated: Path):
    found = {}
    for method, kind in (("mla", MLA), ("ogm-ge", OGMGE)):
        for words in ((), ("--alpha", "0.75")):
            training, task = prepared(asked_for(generated, "--method", method, *words))
            assert type(training.surgeon) is kind
            found[method, words] = training.surgeon.alpha
            if method == "ogm-ge":
                assert training.surgeon.generator is training.generator
                assert training.surgeon.score is task.score
            else:
                assert training.surgeon.head is training.network.head
    assert list(found.values()) == [16.0, 0.75, 0.1, 0.75]  # 16: the head's width


# ---- what goes into the methods ----


def features_one_by_one(training: Training, samples: list, modality: str) -> list[Tensor]:
    """What goes into the head from one modality of each sample that has it, nothing padded."""
    network, m = training.network, ALL.index(modality)
    found = []
    for sample in samples:
        if modality in sample.values:
            values = network(pad([sample.values[modality]]), m)
            found.append(network.fuse(Pairs(1, {modality: [0]}, {modality: values}), (modality,))[0][0])
    return found


@pytest.mark.parametrize("target", ["score", "sign"])
@pytest.mark.parametrize("network", NETWORKS)
def test_mla_closes_the_directions_of_real_rows_only(utterances: Path, network: str, target: str):
    """Padded rows in the mean input would have the head closed to what no sample has shown."""
    words = ["--method", "mla", "--network", network, "--target", target, "--missing", "0.4"]
    training, task = prepared(asked_for(utterances, *words))
    training.network.eval()  # without dropout
    samples = task._training
    assert any(len(sample.values) < 3 for sample in samples)
    inputs, targets = collate(samples, ALL)
    assert targets.ndim == 2
    for m in inputs.values:
        alone = Pairs(inputs.num_samples, {m: inputs.samples[m]}, {m: inputs.values[m]})
        outputs = task.outputs(training.network, alone)
        given = METHODS["mla"].given(training.parts_for(task), outputs, targets)
        [(modality, rows)] = given["outputs"].items()
        expected = torch.cat(features_one_by_one(training, samples, m))
        assert modality == m
        assert len(rows) == sum(len(sample.target) for sample in samples if m in sample.values)
        assert len(rows) < outputs.values[m].shape[:2].numel()
        torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)
        report = training.surgeon.backward(
            [task.criterion(training.network.head(rows), torch.zeros(len(rows)).to(targets))], **given
        )
        assert bool(report.finite)


@pytest.mark.parametrize("network", NETWORKS)
def test_mla_predicts_by_entropy_of_the_modalities(generated: Path, network: str):
    """Through `predict_samples` as `gmd evaluate` calls it, with samples that lack modalities; and mla only."""
    config = asked_for(generated, "--method", "mla", "--network", network, "--target", "sign")
    training, task = prepared(config)
    with torch.no_grad():
        training.network.head.weight.mul_(5)  # some samples are sure, some are not
    samples = list(task.data.splits["train"])
    samples[::3] = [
        sample._replace(values={m: sample.values[m] for m in ("text", "vision")}) for sample in samples[::3]
    ]
    training.network.eval()
    logits = torch.full((len(ALL), len(samples), 2), torch.nan)
    with torch.no_grad():
        for m, modality in enumerate(ALL):
            members = [modality in sample.values for sample in samples]
            logits[m, torch.tensor(members)] = training.network.head(
                torch.stack(features_one_by_one(training, samples, modality))
            )
    expected = entropy_fusion(logits, logits.isfinite().all(dim=-1))

    complete = [s for s, sample in enumerate(samples) if len(sample.values) == 3]
    by_entropy = predict_samples(training.network, samples, [None, ALL], config, task.data.outcomes).subsets
    torch.testing.assert_close(by_entropy[None], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_entropy[ALL][complete], expected[complete], atol=1e-5, rtol=1e-5)
    assert by_entropy[ALL][::3].isnan().all()

    mean = logits.softmax(dim=-1).nanmean(dim=0)
    fused = predict_samples(
        training.network, samples, [None], replace(config, method="joint"), task.data.outcomes
    ).subsets[None]
    for other in (mean, fused):
        assert (expected - other).abs().max() > 0.01


# ---- the scaler of fp16 ----


SCALED = {"cggm": "late", "cggm-gmd": "ds", "ogm-ge": "late", "mla": "branches"}


def in_fp16(data: Path, method: str) -> TrainSentiment:
    return asked_for(data, "--method", method, "--network", SCALED[method], "--dropout", "0", "--precision", "fp16")


def gradients_of_a_step(config: TrainSentiment, scale: float | None) -> tuple[Tensor, Tensor]:
    """All gradients that the optimizer was given, and the norms of the objectives' gradients in the reports."""
    training, task = prepared(config)
    if scale is not None:
        training.scaler.load_state_dict(training.scaler.state_dict() | {"scale": scale})
    turns = train_step(training, task, *next(iter(task.batches(0))))
    assert all(turn.report.finite for turn in turns)
    norms = [turn.report.gram.diagonal(dim1=-2, dim2=-1).flatten().sqrt() for turn in turns]
    gradients = [param.grad.flatten() for param in training.network.parameters() if param.grad is not None]
    return torch.cat(gradients), torch.cat(norms)


@pytest.mark.parametrize("method", SCALED)
def test_the_scale_leaves_the_gradients_again(generated: Path, method: str):
    """In the surgeon, before the reports are made: `scaler.step` would unscale what is left to it too."""
    config = in_fp16(generated, method)
    exact = gradients_of_a_step(replace(config, precision="fp32"), None)
    for scale in (1.0, 4096.0):
        for values, expected in zip(gradients_of_a_step(config, scale), exact, strict=True):
            assert (values - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("method", SCALED)
def test_steps_are_taken_or_skipped_as_the_scaler_says(generated: Path, monkeypatch: pytest.MonkeyPatch, method: str):
    _, *others = gmd.training.tasks.samples.REGRESSION
    monkeypatch.setattr(gmd.training.tasks.samples, "REGRESSION", (overflowing(absolute_error, above=1000.0), *others))
    training, task = prepared(in_fp16(generated, method))
    surgeon = training.surgeon if method == "mla" else training.surgeon.surgeon
    assert surgeon.scaler is training.scaler is not None

    batch = next(iter(task.batches(0)))
    scale, taken = 65536.0, 0
    for _ in range(10):
        before = [param.detach().clone() for param in training.network.parameters()]
        turns = train_step(training, task, *batch)
        finite = [bool(turn.report.finite) for turn in turns]
        scale, taken = scale / 2 ** finite.count(False), taken + any(finite)
        assert training.scaler.get_scale() == scale
        assert equal(before, list(training.network.parameters())) == (not any(finite))
        assert all(turn.searching for turn in turns if not turn.report.finite)
    assert training.skipped > 0
    assert taken > 0
    assert training.skipped_in_a_row == 0
    steps = [int(state["step"]) for state in training.optimizer.state.values()]
    assert max(steps) >= taken
    assert all(param.isfinite().all() for param in training.network.parameters())
    assert math.isfinite(sum(turn.report.losses.sum().item() for turn in turns))
