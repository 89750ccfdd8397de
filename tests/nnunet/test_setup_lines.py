"""`gmd nnunet setup`: what it prints is what nnU-Net and the bench have."""

import csv
from pathlib import Path

import pytest

from gmd import cli
from gmd.errors import UserError
from gmd.nnunet.setup_lines import TRAINERS_OFFERED, setup_lines
from gmd.nnunet.train import train
from gmd.nnunet.trainer_folder import TRAINERS, VARIABLE
from helpers.places import ROOT


@pytest.mark.parametrize("command", [["nnunet"], ["nnunet", "setup"]], ids=" ".join)
def test_it_prints_the_lines_to_set(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert f"  export {VARIABLE}={TRAINERS}\n" in printed
    assert f"{VARIABLE} is not set: nnU-Net does not find them yet" in printed
    monkeypatch.setenv(VARIABLE, str(TRAINERS))
    assert f"{VARIABLE} is {TRAINERS}" in setup_lines()
    monkeypatch.setenv(VARIABLE, "nowhere")
    assert any(line.startswith(f"{VARIABLE}: there is no nowhere") for line in setup_lines())


def test_what_a_step_costs_is_what_was_measured():
    with (ROOT / "bench/results/nnunet_cpu.csv").open(encoding="utf-8") as file:
        measured = {row["contestant"]: float(row["of_plain"]) for row in csv.DictReader(file)}
    for name, (times, _) in TRAINERS_OFFERED.items():
        assert times == pytest.approx(measured[name], rel=0.25), "give gmd/nnunet/setup_lines.py the new figures"


def test_training_asks_for_nnunets_variables_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    with pytest.raises(UserError, match="nnUNet_preprocessed is not set, by which nnU-Net finds its files"):
        train(["501", "3d_fullres", "0"])
