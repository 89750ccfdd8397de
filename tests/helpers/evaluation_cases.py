"""Runs without a training, for the tests of what is said of them."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from gmd.config import TrainBrats
from gmd.training.checkpoint import save_checkpoint
from gmd.training.networks import build_network
from gmd.training.run_folder import open_run
from gmd.training.tasks import open_task


def untrained_run(folder: Path, out: str = "run", **options) -> Path:
    """A run on `folder/data`, as it stands after the first validation, but for the training."""
    asked = TrainBrats(folder / "data", folder / out, width=0.125, patch=(32, 32, 32), device="cpu")
    task = open_task(replace(asked, **options))
    config = task.config
    task.check()
    open_run(config, task.described())
    torch.manual_seed(config.seed)
    state = {"config": config.to_dict(), "network": build_network(config).state_dict(), "epochs": 1}
    save_checkpoint(config.out / "best.pt", state)
    return config.out


def names(run: Path, split: str) -> set[str]:
    return {case["name"] for case in json.loads((run / "splits.json").read_text())[split]}
