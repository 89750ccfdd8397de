"""mla, ogm-ge, cggm and qmf on the files of a manifest: what their options do there, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmd.errors import UserError
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.training.loop import train
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import open_task
from helpers.classify_cases import SPLITS, four_modalities, tiny_classify, words_and_vectors
from helpers.run_cases import Killed, assert_same_run, kill_before

BOTH = ("words", "vector")

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words_and_vectors(tmp_path_factory.mktemp("manifest"))


@pytest.mark.parametrize("workers", [0, 1])
def test_qmf_remembers_each_sample_by_its_number(manifest: Path, tmp_path: Path, workers: int):
    """Whoever reads it: two epochs at no learning rate have added up to twice the loss of each sample."""
    task = open_task(tiny_classify(manifest, tmp_path, method="qmf", lr=1e-12, dropout=0.0, workers=workers))
    training = Training.prepare(task)
    for epoch in (1, 2):
        for batch in task.batches(epoch):
            train_step(training, task, *batch)
    history = training.surgeon.history
    absent = [[m not in sample.values for sample in task._training] for m in BOTH]
    assert torch.equal(history == 0, torch.tensor(absent))
    inputs, targets = task.data.collate(task._training, BOTH)
    with torch.no_grad():
        outputs = task.outputs(training.network.eval(), inputs)
        for m, modality in enumerate(BOTH):
            logits, members = training.network.head(outputs.values[modality]), outputs.samples[modality]
            losses = torch.nn.functional.cross_entropy(logits, targets[members], reduction="none")
            torch.testing.assert_close(history[m, members], 2 * losses.double(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"method": "qmf"},
        {"method": "mla", "alpha": 0.1, "alpha_end": 0.01, "fusion_weights": ("words=0.7", "vector=0.3")},
        {"method": "ogm-ge", "noise": False, "modulation_epochs": (1, 1)},
    ],
    ids=["qmf", "mla", "ogm-ge"],
)
def test_a_run_that_was_killed_ends_with_the_same_bits(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict
):
    config = tiny_classify(manifest, tmp_path / "run", **options)
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr("gmd.training.loop.SAVE_EVERY", 0)
        kill_before(patched, "last.pt", 3)
        with pytest.raises(Killed):
            train(config)
    run = train(replace(config, resume=True))
    assert_same_run(straight, run)
    assert 0 <= evaluate_run(run)[-1].metrics["accuracy"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "qmf", "target": "number"}, "--method qmf: expected one class of each sample"),
        ({"method": "cggm", "classifiers": "transformers"}, "--classifiers: got transformers, expected copies"),
        ({"method": "ogm-ge", "modulated": "convolutions"}, "--modulated: got convolutions, expected all"),
        (
            {"method": "mla", "fusion_weights": ("words=1", "smell=1")},
            "--fusion-weights: got words=1 smell=1, expected",
        ),
    ],
)
def test_what_a_method_cannot_do_here_is_refused(tmp_path: Path, options: dict, message: str):
    numbers = {"label": [i / 2 for i in range(len(SPLITS))]} if "target" in options else {}
    manifest = words_and_vectors(tmp_path / "data", **numbers)
    with pytest.raises(UserError, match=message):
        train(tiny_classify(manifest, tmp_path / "run", **options))
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_ogm_on_convolutions_alone(tmp_path: Path):
    """Of ResNet-18, which each of picture and sound has to itself."""
    files = four_modalities(tmp_path / "files")
    task = open_task(tiny_classify(files, tmp_path, method="ogm-ge", modulated="convolutions", alpha=0.3))
    training = Training.prepare(task)
    [turn] = train_step(training, task, *next(iter(task.batches(1))))
    assert turn.report.finite
    owners = training.surgeon.state_dict()["owners"]
    params = list(training.network.parameters())
    assert {owner for p, owner in owners.items() if params[p].ndim == 4} == {"face", "voice"}
