"""Published recipes: what sets what, in which order, what is told of it, and that a run's file means the same."""

from pathlib import Path

import pytest

import gmd.cli
import gmd.training.loop
from gmd.config import TASKS, TrainConfig
from gmd.config.file import CONFIG, write_config
from gmd.config.presets import told
from gmd.config.recipes import PRESETS
from gmd.data.manifest.sound import sound_input
from gmd.models.classification.picture_networks import picture_network


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configurations that would have been trained."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append(config) or config.out)
    return seen


def asked_for(trained: list[TrainConfig], *words: str) -> TrainConfig:
    assert gmd.cli.main(["train", *words]) == 0
    return trained[-1]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_its_values_and_can_be_trained(trained: list[TrainConfig], name: str):
    preset = PRESETS[name]
    config = asked_for(trained, preset.task, "--data", "d", "--preset", name)
    config.check_values()
    assert config.preset == name
    assert {option: getattr(config, option) for option in preset.values} == preset.values
    others = set(vars(config)) - set(preset.values) - {"data", "preset"}
    ordinary = TASKS[preset.task](data=config.data)
    assert {option: getattr(config, option) for option in others} == {
        option: getattr(ordinary, option) for option in others
    }


def test_sound_and_pictures_can_be_what_a_preset_says(trained: list[TrainConfig]):
    """A bug: the published 128 bands were more than the spectrum of sound of 16 kHz can tell apart."""
    for name, preset in PRESETS.items():
        if preset.task == "classify":
            config = asked_for(trained, "classify", "--data", "d", "--preset", name)
            assert sound_input(config.preparation()).kind == "audio"
            picture_network(config.pictures)


def test_every_preset_is_an_option_of_its_task(capsys: pytest.CaptureFixture):
    for name, preset in PRESETS.items():
        with pytest.raises(SystemExit):
            gmd.cli.main(["train", preset.task, "--help"])
        assert name in capsys.readouterr().out


def test_the_line_overrides_a_preset_wherever_it_stands(trained: list[TrainConfig], capsys: pytest.CaptureFixture):
    for words in (["--lr", "0.5", "--preset", "gmd-brats"], ["--preset=gmd-brats", "--lr=0.5"]):
        config = asked_for(trained, "brats", "--data", "d", *words)
        assert (config.lr, config.optimizer, config.batch) == (0.5, "adam", 4)
    lines = told(config)
    assert lines[0].startswith(
        "--preset gmd-brats, the recipe of GMD (Wang et al., AAAI 2024): --method gmd --epochs 600"
    )
    assert lines[1] == "  overridden: --lr 0.5 (published --lr 0.0008)"
    assert all(line.startswith("  differs: ") for line in lines[2:])


def test_another_method_leaves_out_what_means_nothing_to_it(trained: list[TrainConfig]):
    """The baseline to a recipe has to be one word away."""
    given = ("sentiment", "--data", "d", "--preset", "cggm-mosi", "--method", "joint", "--schedule", "cosine")
    config = asked_for(trained, *given)
    config.check_values()
    assert (config.method, config.lam, config.clip, config.width) == ("joint", 0.1, 0.8, 40)
    assert (config.schedule, config.plateau_patience) == ("cosine", 10)
    adam = asked_for(trained, "digits", "--data", "d", "--preset", "mla-audio-visual", "--optimizer", "adam")
    adam.check_values()
    assert (adam.optimizer, adam.weight_decay, adam.milestones) == ("adam", 1e-4, (70,))


def test_the_file_of_a_run_means_the_same_again(trained: list[TrainConfig], tmp_path: Path):
    """What was left out of a preset stays out: --clip None is null in the file."""
    given = ("sentiment", "--data", "d", "--preset", "cggm-mosi", "--clip", "None", "--seed", "1")
    config = asked_for(trained, *given)
    assert config.clip is None
    write_config(tmp_path / CONFIG, config)
    again = asked_for(trained, "sentiment", "--config", str(tmp_path / CONFIG))
    assert again == config


def test_a_file_with_a_preset_and_a_line_with_one(trained: list[TrainConfig], tmp_path: Path):
    """Nearer is stronger: defaults, the file's preset, the file, the line's preset, the line."""
    file = tmp_path / "mine.yaml"
    file.write_text("preset: gmd-brats\nbatch: 2\nlr: 0.25", encoding="utf-8")
    config = asked_for(trained, "brats", "--data", "d", "--config", str(file), "--lr", "0.125")
    assert (config.preset, config.batch, config.lr, config.epochs) == ("gmd-brats", 2, 0.125, 600)
    file.write_text("batch: 2\nlr: 0.25\ncache: 3", encoding="utf-8")
    config = asked_for(trained, "brats", "--data", "d", "--config", str(file), "--preset", "gmd-brats", "--lr", "1")
    assert (config.batch, config.lr, config.cache) == (4, 1.0, 3)


@pytest.mark.parametrize("name", ["none-such", "cggm-mosi", ""])
def test_a_preset_that_the_task_lacks_is_refused(trained: list[TrainConfig], capsys: pytest.CaptureFixture, name: str):
    with pytest.raises(SystemExit) as left:
        gmd.cli.main(["train", "brats", "--data", "d", f"--preset={name}"])
    assert left.value.code == 2
    assert "gmd-brats" in capsys.readouterr().err
    assert not trained


def test_without_a_preset_nothing_is_told(trained: list[TrainConfig]):
    assert told(asked_for(trained, "brats", "--data", "d")) == []
