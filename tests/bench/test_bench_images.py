"""Strip-MLP beside ResNet-18: the study goes on where it was stopped, and its table says what its rows say."""

import json

import pandas as pd
import pytest

from bench.measure import images
from bench.measure.images import NETWORKS, Setting
from bench.tables.images import images_markdown


@pytest.fixture
def trained(monkeypatch):
    """The options of the trainings that were begun; none of them is done."""
    begun = []

    def train(options):
        begun.append(options)
        return {"network": options.network, "parameters": 1000, "test_accuracy": 0.5}

    monkeypatch.setattr(images, "train", train)
    return begun


def test_what_is_done_is_not_done_again_and_what_was_stopped_goes_on(trained, tmp_path):
    given = (["digits"], list(NETWORKS), [0, 1], Setting(), tmp_path / "work", tmp_path / "images.csv")
    (tmp_path / "work" / "digits" / "resnet18" / "seed 1").mkdir(parents=True)
    (tmp_path / "work" / "digits" / "resnet18" / "seed 1" / "last.pt").touch()
    images.measure(*given)
    images.measure(*given)
    assert [(options.network, options.seed, options.resume) for options in trained] == [
        (NETWORKS[0], 0, False),
        ("resnet18", 0, False),
        (NETWORKS[0], 1, False),
        ("resnet18", 1, True),
    ]
    assert all(options.epochs == Setting.epochs for options in trained)
    rows = pd.read_csv(tmp_path / "images.csv")
    assert rows["network"].tolist() == [*NETWORKS, *NETWORKS]
    assert rows["seed"].tolist() == [0, 0, 1, 1]


def test_trainings_of_another_setting_are_not_mixed_in(trained, tmp_path):
    (tmp_path / "setting.json").write_text(json.dumps({"epochs": 3}))
    with pytest.raises(ValueError, match="holds runs of"):
        images.measure(["digits"], list(NETWORKS), [0], Setting(), tmp_path, tmp_path / "images.csv")
    assert not trained


def test_the_table_shows_intervals_and_differences_within_seeds():
    host = {"date": "2026-01-01 10:00", "cpu": "a processor", "torch": "2.13", "commit": "abc"}
    rows = [
        {"data": "digits", "seed": seed, "network": network, "parameters": 1234567, "test_accuracy": accuracy, **host}
        | {"cpu_s_per_epoch": seconds}
        for seed, accuracies in enumerate([(0.90, 0.80), (0.92, 0.82), (0.94, 0.84)])
        for network, accuracy, seconds in zip(NETWORKS, accuracies, (1.5, 6.0), strict=True)
    ]
    text = images_markdown(pd.DataFrame(rows))
    assert "| digits | Strip-MLP, width 32, depths 1-1-1-1 | 1,234,567 | 92.0 ± 5.0 | 1.5 | **+10.0 ± 0.0** |" in text
    assert "| digits | ResNet-18 | 1,234,567 | 82.0 ± 5.0 | 6 |  |" in text
    assert "Mean over 3 seeds" in text
