"""`gmd train sequences`: any modalities, classes or numbers of any range; and what belongs to sentiment."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmd.config import TrainAnySequences, TrainSentiment, config_from_dict
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.training.loop import train
from gmd.training.saved_run import read_config, read_splits
from gmd.training.tasks import open_task
from helpers.nifti_cases import error_of
from helpers.sequence_cases import mmsa, write_pickle
from helpers.sequence_layouts import dialogues, table_rows, write_mmin, write_table

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {"width": 16, "heads": 2, "layers": 1, "epochs": 1, "device": "cpu", "dropout": 0.0}


def numbers(folder: Path, rows: int = 80, shift: float = 1000.0, scale: float = 50.0) -> Path:
    """A table of numbers far from 0, of which both modalities tell a half."""
    rng = np.random.default_rng(0)
    table = [["id", "split", "score", "pulse_0", "breath_0"]]
    for number in range(rows):
        split = ("train", "train", "train", "valid", "test")[number % 5]
        pulse, breath = rng.standard_normal(2)
        table.append([f"u{number}", split, f"{shift + scale * (pulse + breath):.4f}", f"{pulse:.4f}", f"{breath:.4f}"])
    return write_table(folder / "numbers.csv", table)


@pytest.mark.slow
def test_numbers_of_any_range_are_learnt_in_their_own_unit(tmp_path: Path):
    many = SMALL | {"epochs": 40, "lr": 1e-2, "batch": 16, "validate_every": 20}
    run = train(TrainAnySequences(data=numbers(tmp_path), out=tmp_path / "run", method="joint", **many))
    assert read_config(run).modalities == ("pulse", "breath")
    mean, deviation = read_splits(run)["about"]["unit"]
    assert 950 < mean < 1050
    assert 50 < deviation < 100
    rows = evaluate_run(run)
    assert list(rows[-1].metrics) == ["R2", "MAE", "RMSE", "Corr"]
    assert rows[-1].metrics["R2"] > 0.7
    assert rows[-1].metrics["RMSE"] < 40
    header, *lines = (run / "evaluation" / "predictions.csv").read_text().splitlines()
    assert header == "sample,step,target,pulse,breath,pulse+breath"
    assert all(700 < float(cell) < 1300 for line in lines for cell in line.split(",")[3:] if cell)
    best = json.loads([line for line in (run / "metrics.jsonl").read_text().splitlines() if '"epoch"' in line][-1])
    assert best["validation"] == best["metrics"]["R2"]


def test_other_numbers_are_scored_in_the_unit_of_the_run(tmp_path: Path):
    run = train(TrainAnySequences(data=numbers(tmp_path), out=tmp_path / "run", method="joint", **SMALL))
    other = tmp_path / "other"
    other.mkdir()
    shifted = numbers(other, shift=5000.0)
    text = shifted.read_text().replace("u", "w").replace("pwlse", "pulse").replace("valwe", "value")
    shifted.write_text(text)
    rows = evaluate_run(run, shifted)
    assert rows[-1].metrics["MAE"] > 3000, "of the run's mean, not of that of the other data"


def test_classes_of_dialogues(tmp_path: Path):
    data = write_pickle(tmp_path / "IEMOCAP_features.pkl", tuple(dialogues()))
    run = train(TrainAnySequences(data=data, out=tmp_path / "run", method="gmd", **SMALL))
    assert read_splits(run)["about"]["classes"][0] == "happy"
    assert "unit" not in read_splits(run)["about"]
    assert list(evaluate_run(run)[0].metrics) == ["accuracy", "macro F1", "ECE"]


def test_a_fold_of_mmin_is_read_again_to_evaluate(tmp_path: Path):
    folder, lists = write_mmin(tmp_path / "iemocap")
    run = train(TrainAnySequences(data=folder, out=tmp_path / "run", method="joint", fold=2, **SMALL))
    assert read_config(run).fold == 2
    assert evaluate_run(run)[-1].scored == len(lists[2]["tst"][0])


def test_a_run_is_resumed_with_the_modalities_that_the_data_decided(tmp_path: Path, capsys: pytest.CaptureFixture):
    config = TrainAnySequences(data=numbers(tmp_path), out=tmp_path / "run", method="joint", **SMALL)
    train(config)
    train(replace(config, resume=True))
    assert "nothing is left to train" in capsys.readouterr().out
    message = error_of(train, replace(config, resume=True, modalities=("pulse",)))
    assert "modalities" in message


def test_modalities_are_those_of_the_data_or_some_of_them(tmp_path: Path):
    data = numbers(tmp_path)
    assert open_task(TrainAnySequences(data=data, **SMALL)).config.modalities == ("pulse", "breath")
    assert open_task(TrainAnySequences(data=data, modalities=("breath",), **SMALL)).config.modalities == ("breath",)
    message = error_of(open_task, TrainAnySequences(data=data, modalities=("pulse", "gaze"), **SMALL))
    assert "--modalities: the data have no gaze, expected some of pulse, breath" in message


def test_what_modalities_decide_is_checked_once_they_are_known(tmp_path: Path):
    one = write_table(
        tmp_path / "one.csv",
        [
            ["id", "split", "label", "x_0"],
            *([f"u{i}", ("train", "valid", "test")[i % 3], "ab"[i % 2], i] for i in range(9)),
        ],
    )
    config = TrainAnySequences(data=one, method="cggm", network="late", **SMALL)
    config.check_values()
    assert "at least two for cggm" in error_of(open_task, config)
    weighted = TrainAnySequences(
        data=numbers(tmp_path), method="surgery", weighting="pcd", weighting_options=("primary=gaze",), **SMALL
    )
    weighted.check_values()
    assert "primary=gaze" in error_of(open_task, weighted)


@pytest.mark.parametrize("command", ["classes", "emotions"])
def test_classes_under_sentiment_are_told_which_command_is_theirs(command: str, tmp_path: Path):
    if command == "classes":
        data = write_table(tmp_path / "a.csv", table_rows(target="label"))
    else:
        data = write_pickle(tmp_path / "a.pkl", tuple(dialogues()))
    for target in ("score", "sign"):
        message = error_of(open_task, TrainSentiment(data=data, target=target, **SMALL))
        assert f"no sentiment; train with: gmd train sequences --data {data}" in message


def test_sentiment_of_two_modalities_says_what_the_network_has(tmp_path: Path):
    content = mmsa()[0]
    for part in content.values():
        del part["vision"]
    data = write_pickle(tmp_path / "two.pkl", content)
    task = open_task(TrainSentiment(data=data, **SMALL))
    assert task.config.modalities == ("text", "audio")
    assert "the data have no vision: the network has text and audio" in task.notes()
    message = error_of(open_task, TrainSentiment(data=data, modalities=("audio", "vision"), **SMALL))
    assert "--modalities: the data have no vision" in message


def test_scores_of_sentiment_are_scaled_and_clipped_on_request(tmp_path: Path):
    content = mmsa()[0]
    for part in content.values():
        part["regression_labels"] = np.linspace(0, 7, len(part["regression_labels"]))
    data = write_pickle(tmp_path / "classes.pkl", content)
    assert "--scale-scores" in error_of(open_task, TrainSentiment(data=data, **SMALL))
    config = TrainSentiment(data=data, scale_scores=(0.0, 6.0), clip_scores=True, **SMALL)
    config.check_values()
    task = open_task(config)
    assert [s.target.item() for s in task.data.splits["validation"]] == pytest.approx([-3, 0.5, 3])
    with pytest.raises(UserError, match="--scale-scores: got 6 0"):
        replace(config, scale_scores=(6.0, 0.0)).check_values()
    assert config_from_dict(json.loads(json.dumps(config.to_dict())), "x") == config


def test_a_run_of_before_these_options_is_read(tmp_path: Path):
    write_sentiment_phantom(tmp_path / "data.npz", 30)
    values = TrainSentiment(data=tmp_path / "data.npz").to_dict()
    del values["clip_scores"], values["scale_scores"]
    assert config_from_dict(values, "x") == TrainSentiment(data=tmp_path / "data.npz")
