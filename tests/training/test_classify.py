"""Classes and numbers from the files of a manifest, end to end: every method, workers, outputs, tables, bad input."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gmd.cli
import gmd.training.loop
from gmd.config import TrainClassify, config_from_dict
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.report import write_report
from gmd.subsets import all_subsets
from gmd.training.loop import train
from gmd.training.saved_run import load_run, read_config, read_splits
from gmd.training.tasks import open_task
from helpers.classify_cases import KINDS, SPLITS, classes, four_modalities, tiny_classify, words_and_vectors
from helpers.run_cases import assert_same_run
from helpers.training_cases import read_metrics

METHODS = {
    **dict.fromkeys(("joint", "dropout", "enumerate", "gmd"), "branches"),
    **{"cggm": "late", "cggm-gmd": "late", "ogm-ge": "late", "mla": "branches"},
    "qmf": "branches",
}
BOTH = ("words", "vector")

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words_and_vectors(tmp_path_factory.mktemp("manifest"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return four_modalities(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class and a number for each sample, of which every fourth lacks one."""
    kinds = ["" if i % 4 == 1 else kind for i, kind in enumerate(classes())]
    ages = ["" if i % 4 == 2 else f"{20.5 + i}" for i in range(len(SPLITS))]
    return words_and_vectors(tmp_path_factory.mktemp("several"), **{"label:kind": kinds, "label:age": ages})


def predictions(run: Path) -> list[dict[str, str]]:
    with (run / "evaluation" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interrupted(config: TrainClassify, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains so many steps, as Ctrl-C would end it."""
    train_step, made = gmd.training.loop.train_step, []

    def stopping(*given: object) -> object:
        made.append(None)
        if len(made) > steps:
            raise KeyboardInterrupt
        return train_step(*given)

    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "train_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config)


# ---- end to end ----


@pytest.mark.parametrize(("method", "network"), METHODS.items())
def test_each_method_trains_goes_on_and_is_scored(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, network: str
):
    """What goes on in the middle of an epoch ends with the same bits."""
    config = tiny_classify(manifest, tmp_path / "run", method=method, network=network, missing=("vector=0.3",))
    straight = train(replace(config, out=tmp_path / "straight"))
    interrupted(config, 3, monkeypatch)
    torch.manual_seed(1234)
    run = train(replace(config, resume=True))
    assert_same_run(straight, run)
    assert [step["finite"] for step in read_metrics(run, "step")] == [True] * 4
    rows = evaluate_run(run, absent=MissingInEvaluation(("0.5",)))
    assert [row.subset for row in rows] == all_subsets(BOTH)
    assert list(rows[0].metrics) == ["accuracy", "macro F1", "ECE"]
    lines = predictions(run)
    assert [line["sample"] for line in lines] == [f"s{i}" for i in range(22, 28)]
    assert {line["target"] for line in lines} == set(KINDS)
    lacking = [line["words"] == "" for line in lines]
    assert lacking == [i % 7 == 3 for i in range(22, 28)], "what a sample lacks has an empty cell"
    assert "50 % absent, seed 0" in (run / "evaluation" / "table.md").read_text(encoding="utf-8")


def test_it_learns_what_both_modalities_tell(manifest: Path, tmp_path: Path):
    run = train(tiny_classify(manifest, tmp_path / "run", method="enumerate", epochs=30, lr=3e-3, validate_every=10))
    assert evaluate_run(run)[0].metrics["accuracy"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "pictures"), [("branches", "strip-mlp-light"), ("late", "resnet18"), ("ds", "resnet18")]
)
def test_pictures_sound_text_and_features_together(files: Path, tmp_path: Path, network: str, pictures: str):
    run = train(tiny_classify(files, tmp_path / "run", network=network, pictures=pictures, augment=True, epochs=1))
    assert read_config(run).modalities == ("words", "vector", "face", "voice")
    assert len(evaluate_run(run)) == 15
    assert write_report(run).exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_workers_change_nothing_and_a_run_goes_on_with_them(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    """With augmentation, which is drawn for each sample and epoch."""
    options = {"augment": True, "modalities": ("face", "voice"), "method": "joint", "batch": 4, "epochs": 2}
    straight = train(tiny_classify(files, tmp_path / "straight", **options))
    config = tiny_classify(files, tmp_path / "run", workers=workers, **options)
    interrupted(config, 5, monkeypatch)
    train(replace(config, resume=True, workers=1 - workers))
    assert_same_run(straight, config.out)


def test_commands_from_a_manifest_to_a_comparison(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    words = ["--width", "16", "--layers", "1", "--heads", "2", "--epochs", "1", "--device", "cpu", "--workers", "0"]
    for method in ("joint", "gmd"):
        run = str(tmp_path / method)
        line = ["train", "classify", "--data", str(manifest), "--method", method, "--out", run, *words]
        assert gmd.cli.main(line) == 0
        assert gmd.cli.main(["evaluate", run]) == 0
    assert gmd.cli.main(["compare", str(tmp_path / "joint"), str(tmp_path / "gmd")]) == 0
    assert "gmd - joint: accuracy in points, higher is better" in capsys.readouterr().out
    again = ["train", "classify", "--config", str(tmp_path / "gmd" / "config.yaml"), "--out", str(tmp_path / "again")]
    assert gmd.cli.main(again) == 0
    page = (tmp_path / "gmd" / "report.html").read_text(encoding="utf-8")
    assert "words (text: vocabulary 8192, longest 7)" in page
    assert "cat, dog" in page
    assert gmd.cli.main(["evaluate", run, "--network", "a:b"]) == 2
    assert "is no run of brats: its network is gmd's own" in capsys.readouterr().err


# ---- outputs ----


def test_several_outputs_are_measured_each_by_itself(several: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    runs = [train(tiny_classify(several, tmp_path / m, method=m, missing=("0.2",))) for m in ("joint", "mla")]
    expected = ["kind accuracy", "kind macro F1", "kind ECE", "age R2", "age MAE", "age RMSE", "age Corr"]
    for run in runs:
        rows = evaluate_run(run)
        assert list(rows[2].metrics) == expected
        outputs = read_splits(run)["about"]["outputs"]
        assert [each["name"] for each in outputs] == ["kind", "age"]
        ages = torch.tensor([20.5 + i for i in range(16) if i % 4 != 2]).double()
        assert outputs[1]["mean"] == pytest.approx(float(ages.mean()))
        assert outputs[1]["std"] == pytest.approx(float(ages.std(correction=0)))
    lines = predictions(runs[0])
    labelled = [line for line in lines if line["target age"]]
    assert len(lines) == 6
    assert [line["target age"] for line in lines] == [f"{20.5 + i}" if i % 4 != 2 else "" for i in range(22, 28)]
    assert [line["target kind"] == "" for line in lines] == [i % 4 == 1 for i in range(22, 28)]
    errors = [
        abs(float(line["target age"]) - float(line["words+vector age"]))
        for line in labelled
        if line["words+vector age"]
    ]
    assert evaluate_run(runs[0])[2].metrics["age MAE"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    compare(runs)
    told = capsys.readouterr().out
    for title in ("mla - joint: accuracy in points, higher is better", "mla - joint: MAE, lower is better"):
        assert title in told
    assert "accuracy and R2, mean of 2 outputs" in write_report(runs[0]).read_text(encoding="utf-8")


def test_a_number_is_predicted_in_its_own_unit(tmp_path: Path):
    """The network learns it with mean 0 and deviation 1: at 1e6 it would never arrive."""
    prices = [1e6 + 2e5 * (kind == "dog") + 0.5 for kind in classes()]
    data = words_and_vectors(tmp_path, label=prices)
    config = tiny_classify(data, tmp_path / "run", method="enumerate", epochs=30, lr=3e-3, validate_every=10)
    row = evaluate_run(train(config))[0]
    assert list(row.metrics) == ["R2", "MAE", "RMSE", "Corr"]
    assert row.metrics["MAE"] < 1e5
    assert row.metrics["Corr"] > 0.9


def test_a_run_is_evaluated_on_another_manifest_in_its_own_units(tmp_path: Path):
    data = words_and_vectors(tmp_path / "one", label=[0.5 + i for i in range(28)])
    run = train(tiny_classify(data, tmp_path / "run"))
    names = {"id": [f"other{i}" for i in range(28)]}
    words = {"text:words": ["a text that is longer than any that the run was trained on"] * 28}
    other = words_and_vectors(tmp_path / "other", label=[100.5 + i for i in range(28)], **names, **words)
    same, moved = ({row.subset: row.metrics for row in evaluate_run(run, data)} for data in (None, other))
    assert moved["vector",]["MAE"] == pytest.approx(same["vector",]["MAE"] + 100, abs=10)
    assert (run / "evaluation" / "manifest" / "predictions.csv").exists()


# ---- the run ----


def test_the_run_says_what_its_network_is_made_of(manifest: Path, tmp_path: Path):
    config = tiny_classify(manifest, tmp_path / "run", modalities=("vector",), root=manifest.parent)
    run = train(config)
    about = read_splits(run)["about"]
    assert about["inputs"] == {"vector": ["features", {"features": 5, "longest": 1}]}
    assert about["outputs"] == [{"name": "", "classes": ["cat", "dog"], "mean": 0.0, "std": 1.0}]
    saved, network = load_run(run)
    assert saved == read_config(run)
    assert network.modalities == ("vector",)
    assert any("have none of vector and are left out" in note for note in read_splits(run)["notes"])


def test_moved_data_are_found_again(tmp_path: Path):
    data = words_and_vectors(tmp_path / "data")
    run = train(tiny_classify(data, tmp_path / "run", root=data.parent))
    scores = [row.metrics for row in evaluate_run(run)]
    shutil.move(data.parent, tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"its data are not at .*manifest\.csv any more"):
        evaluate_run(run)
    assert [row.metrics for row in evaluate_run(run, tmp_path / "elsewhere" / "manifest.csv")] == scores


def test_other_labels_are_another_run(tmp_path: Path):
    data = words_and_vectors(tmp_path / "data")
    config = tiny_classify(data, tmp_path / "run", epochs=2)
    run = train(config)
    words_and_vectors(tmp_path / "data", label=list(reversed(classes())))
    with pytest.raises(UserError, match="these are other data than the run began with"):
        train(replace(config, resume=True))
    with pytest.raises(UserError, match=r"not what .* was trained on"):
        evaluate_run(run)


def test_a_configuration_survives_json(tmp_path: Path):
    kept = TrainClassify(tmp_path / "m.csv", root=tmp_path, augment=True, missing=("0.5",))
    assert config_from_dict(json.loads(json.dumps(kept.to_dict())), "here") == kept


def test_the_loss_is_of_the_labels_that_there_are(several: Path, tmp_path: Path):
    task = open_task(tiny_classify(several, tmp_path / "run"))
    targets = torch.tensor([[1.0, math.nan], [math.nan, 2.0], [0.0, -1.0]])
    predictions = torch.tensor([[0.0, 2.0, 9.0], [9.0, -9.0, 1.0], [1.0, 0.0, 1.0]], requires_grad=True)
    cross = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1))]
    expected = (cross[0] + 1 + (cross[1] + 2) / 2) / 3
    loss = task.criterion(predictions, targets)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert predictions.grad[0, 2] == 0
    assert predictions.grad[1, :2].tolist() == [0, 0]
    assert task.metric(predictions, targets).item() == pytest.approx((1 - 1 + (1 - 2) / 2) / 3)
    right = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))]
    assert task.score(predictions, targets).item() == pytest.approx(
        (right[0] + math.exp(-1) + (right[1] + math.exp(-2)) / 2) / 3
    )
    unlabelled = torch.full((2, 2), math.nan)
    assert task.criterion(predictions[:2], unlabelled).item() == 0


# ---- bad input ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30, "heads": 4}, r"--width: got 30, expected a multiple of --heads 4"),
        ({"image_size": 0}, r"--image-size: got 0, expected a number above 0"),
        ({"image_size": 10**5}, r"--image-size: got 100000, expected at most 4096"),
        ({"workers": -1}, r"--workers: got -1, expected 0 or more"),
        ({"seconds": math.nan}, r"--seconds: got nan, expected a number above 0"),
        ({"modalities": ("words", "smell")}, r"--modalities: the data have no smell, expected some of words, vector"),
        ({"method": "cggm", "modalities": ("words",)}, r"--modalities: got words, expected at least two for cggm"),
        ({"missing": ("smell=0.5",)}, r"--missing: got smell=0\.5, expected a rate of one of words, vector"),
        ({"method": "surgery", "weighting": "nothing"}, r"--weighting: got nothing, expected one of"),
        ({"data": Path("nowhere.csv")}, r"nowhere\.csv"),
    ],
)
def test_settings_that_cannot_work_are_named(manifest: Path, tmp_path: Path, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        train(replace(tiny_classify(manifest, tmp_path / "run"), **change))
    assert not (tmp_path / "run" / "splits.json").exists()


def test_a_number_that_no_training_row_has_is_refused(tmp_path: Path):
    ages = ["" if split == "train" else "0.5" for split in SPLITS]
    data = words_and_vectors(tmp_path / "data", **{"label:kind": classes(), "label:age": ages})
    with pytest.raises(UserError, match=r"age: no row of train has a label of it"):
        train(tiny_classify(data, tmp_path / "run"))


DAMAGE = {
    "kind": (lambda about: about["inputs"].update(words=["smell", {}]), "expected a kind and its sizes"),
    "size": (lambda about: about["inputs"]["words"][1].update(vocabulary=2**40), "vocabulary is 1099511627776"),
    "sizes": (lambda about: about["inputs"].update(words=[]), "expected a kind and its sizes"),
    "modality": (lambda about: about["inputs"].pop("words"), "are the run's"),
    "one class": (lambda about: about["outputs"][0].update(classes=["cat"]), "at least two names"),
    "no output": (lambda about: about["outputs"].clear(), "expected at least one, with names that differ"),
    "scale": (lambda about: about["outputs"][0].update(std=0.0), "unit is"),
    "not a list": (lambda about: about.update(outputs={"a": 1}), "'about'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_description_of_the_data_is_named(several: Path, tmp_path: Path, damage: str):
    run = train(tiny_classify(several, tmp_path / "run", epochs=1))
    change, message = DAMAGE[damage]
    described = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    change(described["about"])
    (run / "splits.json").write_text(json.dumps(described), encoding="utf-8")
    for use in (load_run, evaluate_run, write_report):
        with pytest.raises(UserError, match=rf"splits\.json: damaged.*{message}|{message}"):
            use(run)
