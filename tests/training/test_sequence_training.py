"""Sentiment and digits end to end: every method, bad steps, missing modalities, tables, and bad input."""

import csv
import json
import math
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gmd.cli
import gmd.training.loop
import gmd.training.tasks.samples
from gmd.config import TrainBrats, TrainDigits, TrainSentiment, config_from_dict
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.sequences.batches import collate
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.scoring.sequences.prediction import predict_samples
from gmd.subsets import all_subsets
from gmd.training.loop import train
from gmd.training.saved_run import load_run
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, open_task
from gmd.training.tasks.criteria import absolute_error, accuracy, closeness, cross_entropy, probability
from helpers.places import REAL_DATA
from helpers.training_cases import equal, read_metrics

METHODS = ["joint", "dropout", "enumerate", "gmd", "cggm", "cggm-gmd", "ogm-ge", "mla"]
NETWORK_OF = {"cggm": "late", "ogm-ge": "late", "mla": "branches"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "sentiment.npz"
    write_sentiment_phantom(path, samples=40, seed=0)
    return path


@pytest.fixture
def config(generated: Path, tmp_path: Path) -> TrainSentiment:
    """The smallest training there is: 28 samples, 2 epochs of 2 steps."""
    return TrainSentiment(
        data=generated, out=tmp_path / "run", width=16, layers=1, heads=2, epochs=2, batch=16, device="cpu"
    )


def with_method(config: TrainSentiment, method: str) -> TrainSentiment:
    return replace(config, method=method, network=NETWORK_OF.get(method, "ds"))


def one_step(config: TrainSentiment) -> tuple[Training, Task, tuple]:
    task = open_task(config)
    training = Training.prepare(task)
    batch = next(iter(task.batches(0)))
    train_step(training, task, *batch)
    return training, task, batch


# ---- end to end ----


def test_a_run_is_a_folder(config: TrainSentiment, capsys: pytest.CaptureFixture):
    run = train(with_method(config, "gmd"))
    files = {path.name for path in run.iterdir()}
    assert files >= {"config.yaml", "splits.json", "metrics.jsonl", "last.pt", "best.pt", "tensorboard"}
    assert files >= {"curves.png", "cosines.png", "dominance.png", "dominance.txt"}
    assert (run / "dominance.txt").read_text(encoding="utf-8").splitlines()[0] in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("method", "target"), [*((method, "score") for method in METHODS), ("mla", "sign"), ("cggm", "sign")]
)
def test_each_method_trains_and_is_scored(config: TrainSentiment, method: str, target: str):
    run = train(replace(with_method(config, method), target=target, missing=("0.3",)))
    steps = read_metrics(run, "step")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert step["finite"] is True
        assert len(step["losses"]) == {"mla": 3}.get(method, 7 if "gmd" in method or method == "enumerate" else 1)
        assert (step["cosines"] is None) == ("gmd" not in method)
        norm = "objective norm" if method == "mla" else "gradient norm"
        assert set(step["dominance"]["modality"][norm]) == {"text", "audio", "vision"}
    assert all(isinstance(epoch["validation"], float) for epoch in read_metrics(run, "epoch"))

    rows = evaluate_run(run, absent=MissingInEvaluation(("0.5",)))
    assert [row.subset for row in rows] == all_subsets(("text", "audio", "vision"))
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 6  # the test split
    assert {row["step"] for row in predictions} == {"0"}
    assert "50 % absent, seed 0" in (run / "evaluation" / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["ds", "late", "branches"])
def test_it_learns_what_text_tells(config: TrainSentiment, network: str):
    training, task, batch = one_step(replace(config, method="enumerate", network=network, epochs=1000, lr=0.01))
    losses = [train_step(training, task, *batch)[0].report.losses[0].item() for _ in range(50)]
    assert losses[-1] < 0.6 * losses[0]


def test_mla_steps_for_one_modality_after_the_other(config: TrainSentiment):
    training, task, batch = one_step(with_method(config, "mla"))
    turns = train_step(training, task, *batch)
    assert [turn.subsets for turn in turns] == [[("text",)], [("audio",)], [("vision",)]]
    steps = {int(state["step"]) for state in training.optimizer.state.values()}
    assert steps == {2, 6}  # a branch once a step of the training, the head once for each modality


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_step_leaves_parameters_and_optimizer_untouched(config: TrainSentiment, method: str):
    training, task, (inputs, targets) = one_step(with_method(config, method))
    state = lambda: deepcopy([training.network.state_dict(), training.optimizer.state_dict()["state"]])  # noqa: E731
    before = state()
    inputs.values["audio"].values[:, 0, 0] = math.nan
    turns = train_step(training, task, inputs, targets)
    assert training.skipped == 1
    if method != "mla":  # whose other modalities have had their steps
        assert equal(before, state())
    bad = [turn for turn in turns if not turn.report.finite]
    assert len(bad) == 1
    inputs.values["audio"].values[:, 0, 0] = 0
    assert all(turn.report.finite for turn in train_step(training, task, inputs, targets))
    assert all(value.isfinite().all() for value in training.network.state_dict().values())
    if hasattr(training.surgeon, "state_dict"):
        assert all(value.isfinite().all() for value in _tensors(training.surgeon.state_dict()))


def _tensors(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for part in inner for tensor in _tensors(part)]


# ---- missing modalities ----


def test_training_samples_lack_the_same_modalities_in_every_epoch(config: TrainSentiment):
    task = open_task(replace(config, missing=("0.5",), batch=100))
    kept = []
    for epoch in (1, 2):
        [(inputs, targets)] = task.batches(epoch)
        order = targets.argsort()  # scores differ, so they tell the samples apart
        present = torch.stack([torch.tensor([s in inputs.samples[m] for s in range(28)]) for m in inputs.values])
        kept.append(present[:, order])
    assert torch.equal(*kept)
    assert 0.3 < kept[0].float().mean() < 0.8


def test_predictions_do_not_depend_on_who_shares_the_batch(config: TrainSentiment):
    """Trap of MLA: entropy over the batch axis made a prediction depend on the batch it was in."""
    config = replace(with_method(config, "mla"), target="sign")
    task = open_task(config)
    network = task.build_network()
    samples = task.data.splits["train"]
    subsets = [*all_subsets(config.modalities), None]
    together = predict_samples(network, samples, subsets, config, task.data.outcomes)
    for i, sample in enumerate(samples[:5]):
        alone = predict_samples(network, [sample], subsets, config, task.data.outcomes)
        for subset in subsets:
            torch.testing.assert_close(alone.subsets[subset][0], together.subsets[subset][i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", ["ds", "late", "branches"])
def test_mla_scores_what_it_trains(config: TrainSentiment, network: str):
    """A modality alone is predicted as its turn has trained it, through the fusion encoder where there is one."""
    config = replace(config, method="mla", network=network, target="sign")
    task = open_task(config)
    trained = Training.prepare(task).network.eval()
    samples = task.data.splits["test"]
    inputs, _ = collate(samples, config.modalities)
    with torch.no_grad():
        expected = task.predict(trained, task.outputs(trained, inputs), ("audio",))[0].softmax(dim=-1)
    predicted = predict_samples(trained, samples, [("audio",)], config, task.data.outcomes).subsets["audio",]
    torch.testing.assert_close(predicted, expected)


def test_a_modality_that_no_step_can_use_stops_mla(config: TrainSentiment):
    """Steps are counted, not turns: the others' turns must not hide that audio is never learnt."""
    task = open_task(replace(with_method(config, "mla"), max_bad_steps=2))
    training = Training.prepare(task)
    inputs, targets = next(iter(task.batches(0)))
    inputs.values["audio"].values[0, 0, 0] = math.nan
    for steps in (1, 2):
        train_step(training, task, inputs, targets)
        assert (training.steps, training.skipped, training.skipped_in_a_row) == (steps, steps, steps)


@pytest.mark.usefixtures("no_pictures")
def test_a_run_without_one_good_step_is_no_success(config: TrainSentiment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.tasks.samples, "REGRESSION", (lambda *pair: absolute_error(*pair) * math.nan,) * 3)
    with pytest.raises(UserError, match=r"nothing was learnt, as all 4 steps were skipped"):
        train(config)


def test_what_is_missing_has_no_part_in_the_statistics_either(config: TrainSentiment):
    task = open_task(replace(config, missing=("0.6",)))
    rows = torch.cat([sample.values["audio"] for sample in task._training if "audio" in sample.values]).double()
    mean = task.build_network().inputs[1].mean
    torch.testing.assert_close(mean.double(), rows.mean(dim=0), rtol=1e-5, atol=1e-6)


def test_scores_are_not_rounded_to_the_type_of_the_network(config: TrainSentiment):
    config = replace(config, precision="bf16")
    task = open_task(config)
    network = task.build_network()
    predictions = predict_samples(network, task.data.splits["train"], [("text",)], config, task.data.outcomes).subsets[
        "text",
    ]
    assert not torch.equal(predictions, predictions.bfloat16().float())


def test_absent_modalities_leave_gaps_and_nothing_else(config: TrainSentiment):
    task = open_task(config)
    network = task.build_network()
    samples = list(task.data.splits["test"])
    samples[1::2] = [sample._replace(values={"audio": sample.values["audio"]}) for sample in samples[1::2]]
    predictions = predict_samples(network, samples, [("text",), ("audio",), None], config, task.data.outcomes)
    gaps = [predictions.subsets[subset].isnan()[:, 0].tolist() for subset in predictions.subsets]
    assert gaps == [[False, True] * 3, [False] * 6, [False] * 6]
    torch.testing.assert_close(predictions.subsets[None][1::2], predictions.subsets["audio",][1::2])


# ---- losses and metrics ----


def test_padded_steps_have_no_part_in_any_loss():
    scores, classes = torch.tensor([[1.0, math.nan], [2.0, 0.0]]), torch.tensor([[1, -100], [0, 1]])
    predictions = torch.tensor([[[0.5], [9.0]], [[2.5], [0.0]]], requires_grad=True)
    logits = torch.tensor([[[0.0, 2.0], [9.0, -9.0]], [[1.0, 0.0], [1.0, 0.0]]], requires_grad=True)
    loss = absolute_error(predictions, scores)
    assert loss.item() == pytest.approx(1 / 3)
    loss.backward()
    assert predictions.grad.squeeze(-1).tolist() == [[pytest.approx(-1 / 3), 0], [pytest.approx(1 / 3), 0]]
    cross_entropy(logits, classes).backward()
    assert logits.grad[0, 1].tolist() == [0, 0]
    assert accuracy(logits, classes).item() == pytest.approx(2 / 3)
    right = [logits.softmax(-1)[0, 0, 1], logits.softmax(-1)[1, 0, 0], logits.softmax(-1)[1, 1, 1]]
    assert probability(logits, classes).item() == pytest.approx(sum(right).item() / 3)
    assert closeness(predictions, scores).item() == pytest.approx((2 * math.exp(-0.5) + 1) / 3)


# ---- bad input ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30, "heads": 4}, r"--width: got 30, expected a multiple of --heads 4"),
        ({"missing": ("1",)}, r"--missing: got 1 for every modality, at which no sample is left"),
        ({"missing": ("-0.1",)}, r"--missing: got -0\.1, expected a probability from 0 to 1"),
        ({"missing": ("smell=0.1",)}, r"--missing: got smell=0\.1, expected a rate of one of text, audio, vision"),
        ({"modalities": ("text", "smell")}, r"--modalities: the data have no smell, expected some of text, audio, vis"),
        ({"rho": 2.0}, r"--rho: got 2\.0, expected --method cggm or cggm-gmd with it; it means nothing to gmd"),
        ({"method": "mla", "lam": 0.0}, r"--lam: .* it means nothing to mla"),
        ({"method": "joint", "alpha": 1.0}, r"--alpha: got 1\.0, expected --method ogm-ge or mla with it"),
        ({"method": "cggm", "modalities": ("text",)}, r"--modalities: got text, expected at least two for cggm"),
    ],
)
def test_settings_that_cannot_work_are_named(config: TrainSentiment, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        train(replace(config, **change))
    assert not config.out.exists()


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "rho", "lam", "alpha", "dropout"])
def test_numbers_that_are_none_are_refused(config: TrainSentiment, name: str, value: float):
    method = "mla" if name == "alpha" else "cggm"
    with pytest.raises(UserError, match=rf"--{name.replace('_', '-')}: got {value}, expected"):
        train(replace(config, method=method, **{name: value}))
    with pytest.raises(UserError, match=r"--seed: got 4294967296, expected 0 or more, and less than 2\^32"):
        train(replace(config, seed=2**32))


def test_a_run_needs_a_folder(config: TrainSentiment):
    config.out.touch()
    with pytest.raises(UserError, match=r"--out: .*run is a file; expected a folder"):
        train(config)


def test_brats_does_not_offer_mla(tmp_path: Path):
    with pytest.raises(UserError, match=r"--method: got mla, expected one of joint, dropout, enumerate, gmd, "):
        train(TrainBrats(tmp_path, tmp_path / "run", method="mla"))


def test_configurations_of_all_tasks_survive_json(config: TrainSentiment):
    for kept in (config, TrainDigits(Path("d")), TrainBrats(Path("b"))):
        assert config_from_dict(json.loads(json.dumps(kept.to_dict())), "here") == kept
    with pytest.raises(
        UserError, match=r"here: its task is 'speech', expected one of brats, sequences, sentiment, digits, classify"
    ):
        config_from_dict({"task": "speech"}, "here")


@pytest.mark.usefixtures("no_pictures")
def test_what_must_not_be_scored(config: TrainSentiment, generated: Path, tmp_path: Path):
    run = train(replace(config, epochs=1))
    other = tmp_path / "other.npz"
    write_sentiment_phantom(other, samples=40, seed=1)
    assert len(evaluate_run(run, other)) == 7
    assert (run / "evaluation" / "other" / "table.csv").exists()
    larger = tmp_path / "larger.npz"  # its test samples would have been training samples of ours
    write_sentiment_phantom(larger, samples=30, seed=0)
    with pytest.raises(UserError, match=r"test samples have trained or selected this model"):
        evaluate_run(run, larger)
    with pytest.raises(UserError, match=r"--missing: got 1\.5, expected a probability"):
        evaluate_run(run, absent=MissingInEvaluation(("1.5",)))


@pytest.mark.usefixtures("no_pictures")
def test_a_file_that_moved_is_the_runs_own(config: TrainSentiment, generated: Path, tmp_path: Path):
    """Its samples are scored as the run's, and a training goes on with it."""
    data = tmp_path / "data.npz"
    data.write_bytes(generated.read_bytes())
    config = replace(config, data=data, epochs=1)
    run = train(config)
    rows = evaluate_run(run)
    table = (run / "evaluation/table.md").read_text(encoding="utf-8")
    shutil.rmtree(run / "evaluation")
    moved = data.rename(tmp_path / "moved.npz")
    with pytest.raises(UserError, match=rf"its data are not at {data} any more; .*--data NEWPLACE"):
        evaluate_run(run)
    assert evaluate_run(run, moved) == rows
    assert (run / "evaluation/table.md").read_text(encoding="utf-8") == table
    assert not (run / "evaluation/moved").exists()
    train(replace(config, data=moved, resume=True))
    assert evaluate_run(run) == rows


@pytest.mark.usefixtures("no_pictures")
def test_other_data_under_the_same_names_are_noticed(config: TrainSentiment, generated: Path, tmp_path: Path):
    """Aligned and unaligned MOSI have the same ids. The run must be as it was afterwards."""
    data = tmp_path / "data.npz"
    data.write_bytes(generated.read_bytes())
    config = replace(config, data=data, epochs=1)
    run = train(config)
    splits = (run / "splits.json").read_bytes()
    arrays = dict(np.load(data))
    np.savez(data, **arrays | {"text": arrays["text"] * 100})
    with pytest.raises(UserError, match=r"under the same names these are other data than the run began with"):
        train(replace(config, resume=True))
    assert (run / "splits.json").read_bytes() == splits
    with pytest.raises(UserError, match=r"not what .* was trained on \(checksum: "):
        evaluate_run(run)
    (run / "splits.json").unlink()
    with pytest.raises(UserError, match=r"no splits\.json"):
        train(replace(config, resume=True))


@pytest.mark.usefixtures("no_pictures")
def test_a_network_that_has_diverged_is_not_scored(config: TrainSentiment):
    run = train(replace(config, epochs=1))
    _, network = load_run(run)
    with torch.no_grad():
        network.head.bias.fill_(math.nan)
    task = open_task(config)
    with pytest.raises(UserError, match=r"predicts NaN or infinity: it has diverged"):
        predict_samples(network, task.data.splits["test"], [("text",)], config, task.data.outcomes)


# ---- the command line ----


def test_from_nothing_to_a_table_by_commands(tmp_path: Path, capsys: pytest.CaptureFixture):
    data, run = tmp_path / "s.npz", tmp_path / "run"
    small = ["--width", "16", "--layers", "1", "--heads", "2", "--epochs", "2", "--device", "cpu"]
    assert gmd.cli.main(["phantom", str(data), "--task", "sentiment", "--cases", "40"]) == 0
    assert f"gmd train sentiment --data {data}" in capsys.readouterr().out
    assert gmd.cli.main(["train", "sentiment", "--data", str(data), "--out", str(run), *small]) == 0
    assert f"gmd evaluate {run}" in capsys.readouterr().out
    assert gmd.cli.main(["evaluate", str(run), "--missing", "0.25"]) == 0
    assert "25 % absent, seed 0" in capsys.readouterr().out
    assert (run / "evaluation" / "predictions_absent.csv").exists()
    assert gmd.cli.main(["phantom", str(tmp_path / "t.npz"), "--task", "sentiment", "--kind", "hard"]) == 2
    assert "--shape and --kind belong to brats" in capsys.readouterr().err
    assert gmd.cli.main(["train", "sentiment", "--data", str(data), "--out", str(run), *small]) == 2
    assert "already holds a run" in capsys.readouterr().err
    evaluate_run(run)
    assert not (run / "evaluation" / "predictions_absent.csv").exists(), "of another table than the one beside it"


# ---- real data ----


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data of ../shared/data are not on this machine")
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kind", [TrainSentiment, TrainDigits])
def test_real_data_train_a_step(tmp_path: Path, kind: type):
    data = REAL_DATA / {TrainSentiment: "mosi/mosi_utterances.npz", TrainDigits: "fsdd/fsdd.npz"}[kind]
    config = kind(data=data, out=tmp_path / "run", width=16, layers=1, heads=2, batch=8, device="cpu")
    training, task, batch = one_step(config)
    for turn in train_step(training, task, *batch):
        assert bool(turn.report.finite)
    validation = task.validate(training.network)
    assert 0 <= validation.score <= 1
    assert any("synthetic" in note or "bclstm" in note for note in task.notes())
