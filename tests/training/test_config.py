"""The configuration of a training: what cannot work is named before anything is written; JSON and back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gmd.config import TASKS, TrainBrats, TrainConfig, TrainSentiment
from gmd.config.file import CONFIG, read_yaml, write_config
from gmd.errors import UserError
from gmd.training.loop import train


@pytest.fixture
def config(phantoms: Path, tmp_path: Path) -> TrainBrats:
    return TrainBrats(data=phantoms, out=tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"patch": (30, 32, 50)},
            r"--patch: got 30 32 50, expected multiples of 16, the nearest being 32 32 48",
        ),
        ({"data": ()}, "--data: got nothing, expected at least one folder"),
        (
            {"labels": ("binary", "brats2018")},
            r"--labels: got binary brats2018, expected one for all of --data, or one for each \(1\)",
        ),
        ({"patch": (0, 16, 16)}, r"--patch: .* 16 16 16"),
        (
            {"labels": "{values: {1: a}, regions: {t1: [1]}}"},
            "--labels: got t1, expected regions that are not called as a modality is: tables have both",
        ),
        (
            {"labels": "brats"},
            r"--labels: got brats, expected one of brats2015, brats2018, .*, or a YAML file of your own",
        ),
        (
            {"patterns": ("flair=*F*",)},
            r"add --labels, one of these:\n  brats2015: 1 necrosis, 2 oedema, .*\n  brats2018: (?s:.*)binary: 1 lesion",
        ),
        ({"modalities": ("t1", "t1")}, r"--modalities: got 't1' twice"),
        ({"steps_per_epoch": 0}, r"--steps-per-epoch: got 0"),
        ({"lr": -1.0}, r"--lr: got -1\.0"),
        ({"tol": -0.1}, r"--tol: got -0\.1, expected 0 or more"),
        ({"tol": 1.0}, r"--tol: got 1\.0, expected less than 1"),
        ({"tol": 0.1, "method": "joint"}, r"--tol: got 0\.1, expected --method gmd or cggm-gmd .*nothing to joint"),
        ({"granularity": "module", "method": "enumerate"}, r"--granularity: got module, expected --method gmd"),
        ({"affine_tolerance": -0.1}, r"--affine-tolerance: got -0\.1, expected 0 or more"),
        ({"device": "cuda:99"}, r"--device: cuda:99 cannot be used"),
    ],
)
def test_settings_that_cannot_work_are_named(config: TrainBrats, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        train(replace(config, **change))
    assert not config.out.exists()


def test_a_configuration_survives_json(config: TrainBrats):
    config = replace(config, patterns=("flair=*",), steps_per_epoch=None)
    assert TrainBrats.from_dict(json.loads(json.dumps(config.to_dict())), "here") == config


def test_the_configuration_of_a_run_before_several_data_sets_is_read(config: TrainBrats):
    values = replace(config, labels=("brats2018",)).to_dict() | {"data": str(config.data[0]), "labels": "brats2018"}
    del values["channels"], values["affine_tolerance"]
    assert TrainBrats.from_dict(values, "old.yaml") == replace(config, labels=("brats2018",))


@pytest.mark.parametrize("kind", TASKS.values())
def test_options_come_back_from_their_file(kind: type[TrainConfig], tmp_path: Path):
    config = kind(data=tmp_path, lr=1, seed=3, patience=2)
    write_config(tmp_path / CONFIG, config)
    assert kind.from_dict(read_yaml(tmp_path / CONFIG), tmp_path) == config


@pytest.mark.parametrize(
    "wrong",
    [
        *({"data": None}, {"data": 5}, {"lr": "abc"}, {"width": "eight"}, {"modalities": "text"}, {"patch": [1, 2]}),
        *({"resume": 1}, {"method": "x"}, {"epochs": 1.5}, {"patience": "a"}, {"patterns": [1]}),
    ],
    ids=str,
)
def test_a_value_of_another_type_in_a_runs_file_is_named(wrong: dict):
    [name] = wrong
    with pytest.raises(UserError, match=rf"^c\.yaml: {name}: "):
        TrainBrats.from_dict(TrainBrats(Path("d")).to_dict() | wrong, "c.yaml")


@pytest.mark.parametrize(("written", "now"), [(0.0, ()), (0.3, ("0.3",)), (["text=0.5"], ("text=0.5",))])
def test_the_one_rate_of_earlier_versions_is_that_of_all_modalities(written: object, now: tuple[str, ...]):
    values = TrainSentiment(Path("d")).to_dict() | {"missing": written}
    del values["missing_list"]
    assert TrainSentiment.from_dict(values, "old.yaml").missing == now
    brats = TrainBrats(Path("d")).to_dict()
    del brats["missing"], brats["missing_list"]
    assert TrainBrats.from_dict(brats, "old.yaml") == TrainBrats(Path("d"))
