"""Reads a run back from its folder: its configuration, its splits, its trained network."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

from gmd.config import TrainBrats, TrainConfig, TrainSamples, config_from_dict, differences
from gmd.config.file import CONFIG, read_yaml
from gmd.data.text_files import read_json
from gmd.errors import UserError
from gmd.memory_limit import check_claim
from gmd.models.multimodal import MultimodalNetwork
from gmd.training.checked_splits import check_splits
from gmd.training.checkpoint import check_fits, load_checkpoint
from gmd.training.made_by import check_run_made_by
from gmd.training.networks import network_bytes, network_of

SPLITS_FILE = "splits.json"

_FOLD = re.compile(r"fold(0|[1-9][0-9]{0,8})")


def load_run(
    run: Path, which: Literal["best", "last"] = "best", named: str | None = None
) -> tuple[TrainConfig, MultimodalNetwork]:
    """Reads a run's configuration and its trained network, onto the CPU.

    which: the checkpoint: of the best validation, or the latest one.
    named: the network of the run, if that is one of the user's own, `package.module:function`: what is named here is
        imported and called. What only the run's files name is not.
    returns, of a segmentation run, a TrainBrats and a SegmentationNetwork; else a TrainSamples and a FeatureNetwork.
    Raises UserError if no run is there, if one of its files is damaged, if its network is code that `named` does not
    name, and if the checkpoint belongs to another configuration, or holds another network than this gmd builds. What is
    built is of a configuration that was checked, and within what `check_claim` allows.
    """
    config = read_config(run)
    if isinstance(config, TrainBrats):
        config.check_named(named, run)
    path = Path(run) / f"{which}.pt"
    state = load_checkpoint(path)
    saved = config_from_dict(state["config"], path)
    if differing := differences(config, saved):
        raise UserError(
            f"{path}: of another configuration than {run}/{CONFIG} ('here'): {'; '.join(differing)}. "
            "Put the run's own checkpoint back"
        )
    check_claim(Path(run) / CONFIG, network_bytes(config, _about(run, config)), "the network that it asks for")
    network = network_of(config, _about(run, config))
    check_fits(network, state, path)
    network.load_state_dict(state["network"])
    return config, network


def _about(run: Path, config: TrainConfig) -> dict:
    """Returns what building the run's network takes besides its configuration; empty for segmentation."""
    return read_splits(run)["about"] if isinstance(config, TrainSamples) else {}


def read_config(run: Path) -> TrainConfig:
    """Reads `config.yaml` of a run. Raises UserError if it is not there, not readable, or of a later gmd's run."""
    path = Path(run) / CONFIG
    check_run_made_by(Path(run))
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
        listed: list[dict] = self[split]
        return listed


def read_splits(run: Path) -> SavedSplits:
    """Reads `splits.json` of a run.

    Raises UserError if it is not there, not readable, or not what a training of the run's configuration writes.
    """
    path = Path(run) / SPLITS_FILE
    if not path.exists():
        raise UserError(f"{run}: no {path.name}, so this is not the folder of a run; give what --out was")
    config = read_config(run) if (Path(run) / CONFIG).exists() else None
    return SavedSplits(path, check_splits(path, read_json(path), config))


def fold_folders(folder: Path) -> list[Path]:
    """Returns the runs of a cross-validation, in order; none if the folder is a run itself, or holds none."""
    if (folder / CONFIG).exists():
        return []
    folders = {path: match for path in folder.glob("fold*") if (match := _FOLD.fullmatch(path.name))}
    return sorted((path for path in folders if (path / CONFIG).exists()), key=lambda path: int(folders[path][1]))


def cross_validation_config(config: TrainConfig, out: Path) -> TrainBrats:
    """Returns the configuration of the cross-validation that a fold belongs to.

    config: of a fold.
    out: the folder of the folds.
    Raises UserError if it is that of a run by itself, which is called like a fold.
    """
    if not isinstance(config, TrainBrats) or config.folds is None:
        raise UserError(f"{out}: its fold0 and so on are runs, but no folds of a cross-validation; give one of them")
    return replace(config, fold=None, out=out)
