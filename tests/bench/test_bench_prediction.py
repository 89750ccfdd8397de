"""The benchmark of prediction measures what it says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.measure import prediction
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.scoring.segmentation.prediction import num_windows
from gmd.subsets import all_subsets

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"SHAPE": (32, 36, 32), "WIDTH": 0.125, "PATCH": (16, 16, 16), "ROUNDS": 1, "TRUTH": 9}
    for name, value in small.items():
        monkeypatch.setattr(prediction, name, value)


SECONDS = {"predict_modalities": 10.0, "predict_label_map": 1.0, "score_case": 4.0}  # on a clock of our own


def test_the_subsets_and_their_scores(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    results = {}

    def timed(function: Callable, *arguments: object) -> tuple[object, float]:
        results[function.__name__] = function(*arguments)
        return results[function.__name__], SECONDS[function.__name__]

    monkeypatch.setattr(prediction, "timed", timed)
    run, sides = prediction.write_run(tmp_path / "run"), prediction.write_case(tmp_path / "case", extent=0.8)
    measured = prediction.times_of_subsets(run, tmp_path / "case")
    assert measured == {"one_seconds": 11, "subsets_seconds": 14, "times_one": pytest.approx(14 / 11)}
    # every subset is scored in each of three regions and in ET after post-processing, its distances too
    scores = results["score_case"]
    assert len(scores) == len(all_subsets(BRATS_MODALITIES)) * 4
    assert results["predict_label_map"].dtype == torch.uint8
    assert all(score.hd95 is not None for score in scores)
    # the brain is as large as the row says, which the bar over its windows knows
    assert prediction.about(sides)["windows"] == 4 * num_windows(sides, 16)
    assert f"0/{prediction.about(sides)['windows']} [" in capsys.readouterr().err


def test_the_clock_returns_the_result_and_the_seconds():
    result, seconds = prediction.timed(max, 1, 2)
    assert result == 2
    assert seconds >= 0


def test_what_is_scored_is_right_in_part(small: None, tmp_path: Path):
    target = (torch.rand(3, 16, 16, 16) > 0.5).to(torch.uint8)
    logits = prediction.beside_the_truth(target)
    assert tuple(logits) == BRATS_MODALITIES
    assert all(0.4 < ((value > 0) == target).float().mean() < 0.6 for value in logits.values())


def test_the_peak_is_that_of_the_process_alone():
    """By wait4 it was at least that of the parent, with torch, pandas and whatever it held."""
    held = torch.ones(200_000_000)  # 800 MB
    taken = prediction.alone("status = len(bytearray(200_000_000)) - 200_000_000")
    assert 200 < taken["peak_MB"] < 300
    assert taken["seconds"] > 0
    assert held[-1] == 1
    with pytest.raises(prediction.subprocess.CalledProcessError):
        prediction.alone("status = 3")
