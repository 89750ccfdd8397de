"""Reads a run back from its folder: its configuration, its splits, its trained network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

from gmd.config import TrainBrats, TrainConfig, TrainSequences, config_from_dict, differences
from gmd.config.file import CONFIG, read_yaml
from gmd.data.file_kind import other_kind
from gmd.errors import UserError
from gmd.models.multimodal import MultimodalNetwork
from gmd.training.checkpoint import check_fits, load_checkpoint
from gmd.training.networks import build_network, build_sequence_network


def load_run(run: Path, which: Literal["best", "last"] = "best") -> tuple[TrainConfig, MultimodalNetwork]:
    """Reads a run's configuration and its trained network, onto the CPU.

    which: the checkpoint: of the best validation, or the latest one.
    returns, of a segmentation run, a TrainBrats and a SegmentationNetwork; else a TrainSequences and a SequenceNetwork.
    Raises UserError if no run is there, or if the checkpoint is damaged, belongs to another configuration, or holds
    another network than this gmd builds.
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
    network = _network_of(run, config)
    check_fits(network, state, path)
    network.load_state_dict(state["network"])
    return config, network


def _network_of(run: Path, config: TrainConfig) -> MultimodalNetwork:
    """Builds the run's network, untrained."""
    if isinstance(config, TrainBrats):
        return build_network(config)
    assert isinstance(config, TrainSequences)  # all other tasks are on sequences
    return build_sequence_network(config, read_splits(run)["about"])


def read_config(run: Path) -> TrainConfig:
    """Reads `config.yaml` of a run. Raises UserError if it is not there or not readable."""
    path = Path(run) / CONFIG
    if not path.exists():
        if (Path(run) / "config.json").exists():
            raise UserError(f"{run}: made by an earlier gmd, as config.json tells; use it with that one, or train anew")
        raise UserError(f"{run}: no {CONFIG}, so this is not the folder of a run; give what --out was")
    return config_from_dict(read_yaml(path), path)


class SavedSplits(dict):
    """What `splits.json` of a run says. A key that it lacks is a UserError, which names the file.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, values: dict):
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(f"{self.path}: lacks {key!r}; damaged, or not written by gmd train? Restore it from a copy")

    def cases(self, split: str) -> list[dict]:
        """Returns what is said of each case or sample of a split, at least its name, under "name".

        Raises UserError if the file does not list them.
        """
        listed = self[split]
        if not isinstance(listed, list) or not all(
            isinstance(c, dict) and isinstance(c.get("name"), str) for c in listed
        ):
            raise UserError(
                f"{self.path}: expected a list of cases, each with its name, for {split!r}; damaged? "
                "Restore it from a copy"
            )
        return listed


def read_splits(run: Path) -> SavedSplits:
    """Reads `splits.json` of a run. Raises UserError if it is not there or not readable."""
    path = Path(run) / "splits.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{run}: no {path.name}, so this is not the folder of a run; give what --out was") from error
    except ValueError as error:  # also of bytes that are no UTF-8
        raise UserError(
            f"{path}: not valid JSON ({error}){other_kind(path, own=('JSON',))}; restore it from a copy"
        ) from error
    return SavedSplits(path, values if isinstance(values, dict) else {})


def fold_folders(folder: Path) -> list[Path]:
    """Returns the runs of a cross-validation, in order; none if the folder is a run itself, or holds none."""
    if (folder / CONFIG).exists():
        return []
    folders = [path for path in folder.glob("fold*") if path.name[4:].isdigit() and (path / CONFIG).exists()]
    return sorted(folders, key=lambda path: int(path.name[4:]))


def cross_validation_config(config: TrainConfig, out: Path) -> TrainBrats:
    """Returns the configuration of the cross-validation that a fold belongs to.

    config: of a fold.
    out: the folder of the folds.
    Raises UserError if it is that of a run by itself, which is called like a fold.
    """
    if not isinstance(config, TrainBrats) or config.folds is None:
        raise UserError(f"{out}: its fold0 and so on are runs, but no folds of a cross-validation; give one of them")
    return replace(config, fold=None, out=out)
