"""A run read back from its folder: its configuration, its splits, its trained network."""

import json
from pathlib import Path
from typing import Literal

from torch import nn

from gmd.config import TrainBrats, TrainConfig, config_from_dict, differences
from gmd.config.file import CONFIG, read_yaml
from gmd.errors import UserError
from gmd.training.checkpoint import load_checkpoint
from gmd.training.networks import build_network, build_sequence_network


def load_run(run: Path, which: Literal["best", "last"] = "best") -> tuple[TrainConfig, nn.Module]:
    """A run's configuration and its trained network, on the CPU.

    Raises UserError: no run there, or a checkpoint that is damaged or belongs to another configuration.
    """
    config = read_config(run)
    path = Path(run) / f"{which}.pt"
    state = load_checkpoint(path)
    saved = config_from_dict(state["config"], path)
    if differing := differences(config, saved):
        raise UserError(
            f"{path}: of another configuration than {run}/{CONFIG} ('here'): {'; '.join(differing)}. "
            "Put the run's own checkpoint back"
        )
    if isinstance(config, TrainBrats):
        network = build_network(config)
    else:
        network = build_sequence_network(config, read_splits(run)["about"])
    network.load_state_dict(state["network"])
    return config, network


def read_config(run: Path) -> TrainConfig:
    """`config.yaml` of a run. Raises UserError if it is not there or not readable."""
    path = Path(run) / CONFIG
    if not path.exists():
        if (Path(run) / "config.json").exists():
            raise UserError(f"{run}: made by an earlier gmd, as config.json tells; use it with that one, or train anew")
        raise UserError(f"{run}: no {CONFIG}, so this is not the folder of a run; give what --out was")
    return config_from_dict(read_yaml(path), path)


def read_splits(run: Path) -> dict:
    """`splits.json` of a run. Raises UserError if it is not there or not readable."""
    return _read_json(Path(run) / "splits.json", run)


def _read_json(path: Path, run: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{run}: no {path.name}, so this is not the folder of a run; give what --out was") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); restore it from a copy") from error
