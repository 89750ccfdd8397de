"""The picture of dominance shows the figures of metrics.jsonl, each under its modality's name."""

import json
from pathlib import Path

import numpy as np
import pytest

from gmd.errors import UserError
from gmd.monitor.dominance import NORM, WITH_ALL, WITH_MERGED
from gmd.pictures.dominance import POINTS, write_dominance
from helpers.pictures import axes_drawn, is_picture

MODULE = "gmd.pictures.dominance"


def step_line(step: int, dominance: dict | None) -> dict:
    losses = {"text": 0.5, "audio": 1.0, "text+audio": 0.25}
    finite = dominance is not None
    record = {"kind": "step", "epoch": 1, "step": step, "loss": 0.5, "losses": losses, "conflicts": None}
    return record | {"finite": finite, "dominance": dominance}


def several(text: float, audio: float | None = 0.25) -> dict:
    own = {"text": text} | ({} if audio is None else {"audio": audio})
    norms = own | {"text+audio": 2.0}
    modality = {NORM: own, WITH_ALL: own, WITH_MERGED: own, "balance": own}
    return {"norms": norms, "weights": dict.fromkeys(norms, 1 / 3), "projected": 0.125, "modality": modality}


def write_run(run: Path, lines: list[dict]) -> Path:
    (run / "config.yaml").write_text(json.dumps({"modalities": ["text", "audio"]}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_a_line_for_each_modality_and_a_panel_for_each_quantity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A skipped step is left out; a batch without audio is a gap in its line."""
    panels = axes_drawn(monkeypatch, MODULE)
    lines = [step_line(1, several(0.5)), step_line(2, None), step_line(3, several(0.625, audio=None))]
    lines.append(step_line(4, several(0.75)))
    written = write_dominance(write_run(tmp_path, lines))
    assert written == [tmp_path / "dominance.png", tmp_path / "dominance.txt"]
    assert is_picture(written[0])
    assert written[1].read_text().startswith("text dominates: without it the loss rises by 0.75.\n")

    missed, norms, with_all, _, balance, projected = panels
    assert [line.get_ydata()[0] for line in missed.lines[:2]] == [0.75, 0.25]
    assert [line.get_label() for line in norms.lines] == ["text+audio", "text", "audio"]
    drawn = {line.get_label(): line for line in with_all.lines}
    assert drawn["text"].get_xdata().tolist() == [1, 3, 4]
    assert drawn["text"].get_ydata().tolist() == [0.5, 0.625, 0.75]
    np.testing.assert_array_equal(drawn["audio"].get_ydata(), [0.25, np.nan, 0.25])
    assert balance.get_title() == "Balance"
    assert projected.lines[0].get_ydata().tolist() == [12.5, 12.5, 12.5]


def test_steps_between_refreshes_have_what_is_known_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = axes_drawn(monkeypatch, MODULE)
    own = {"text": 0.25, "audio": 0.25}
    between = {"norms": {}, "weights": dict.fromkeys(own, 0.5), "projected": None, "modality": {"balance": own}}
    lines = [step_line(1, several(0.5)), *(step_line(step, between) for step in (2, 3)), step_line(4, several(0.75))]
    write_dominance(write_run(tmp_path, lines))
    at = {panel.get_title(): panel.lines[0].get_xdata().tolist() for panel in panels}
    assert list(at.values()) == [[1, 2, 3, 4], [1, 4], [1, 4], [1, 4], [1, 2, 3, 4], [1, 4]], list(at)


def test_one_gradient_a_step_has_its_norm_and_what_the_method_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = axes_drawn(monkeypatch, MODULE)
    record = {"norms": {"mean": 2.0}, "weights": None, "projected": None, "modality": {"factor": {"text": 0.5}}}
    written = write_dominance(write_run(tmp_path, [step_line(step, record) for step in range(1, 400)]))
    assert is_picture(written[0])
    assert [line.get_label() for line in panels[1].lines] == ["mean"]
    assert len(panels[1].lines[0].get_xdata()) == POINTS
    assert [panel.get_title() for panel in panels[2:]] == ["Factor"]
    assert "Factor, mean over the last quarter: text 0.5." in written[1].read_text()


def test_a_run_of_skipped_steps_alone_has_words_and_no_picture(tmp_path: Path):
    assert write_dominance(write_run(tmp_path, [step_line(1, None)])) == [tmp_path / "dominance.txt"]
    assert "no finite step" in (tmp_path / "dominance.txt").read_text()


def test_a_run_from_before_there_was_a_monitor_has_words_and_no_picture(tmp_path: Path):
    old = {key: value for key, value in step_line(1, None).items() if key != "dominance"}
    assert write_dominance(write_run(tmp_path, [old])) == [tmp_path / "dominance.txt"]


def test_a_run_without_a_step_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="no step recorded"):
        write_dominance(write_run(tmp_path, []))
    assert not (tmp_path / "dominance.txt").exists()
