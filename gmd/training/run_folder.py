"""Opens the folder of a run, for a new or a resumed one."""

import json
import shutil
from pathlib import Path

from gmd.config import TrainConfig, config_from_dict, differences
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError
from gmd.files import replacing
from gmd.monitor.metrics_file import METRICS
from gmd.training.checkpoint import load_checkpoint
from gmd.training.saved_run import read_splits

# files of a run whose last.pt was deleted
LEFT_BEHIND = (
    *("best.pt", "best.safetensors", "last.safetensors", METRICS, "report.html"),
    *("curves.png", "cosines.png", "dominance.png", "dominance.txt"),
)


def open_run(config: TrainConfig, described: dict) -> dict | None:
    """Makes the folder with `config.yaml` and `splits.json`; returns the checkpoint to resume from, if any.

    described: what `splits.json` says: of each split at least the names of its cases.
    Raises UserError if a run is there already, or none to resume, or one with other settings or other cases.
    """
    _check_folder(config)
    last = config.out / "last.pt"
    state = None
    if config.resume:
        state = load_checkpoint(last)
        _check_same_run(config, config_from_dict(state["config"], last))
        _check_same_cases(read_splits(config.out), described)
    else:
        _remove_left_behind(config.out)
    write_config(config.out / CONFIG, config)
    write_json(config.out / "splits.json", described)
    return state


def _check_folder(config: TrainConfig) -> None:
    """Raises UserError unless there is a run to resume if one should be, and none otherwise."""
    last = config.out / "last.pt"
    if config.out.exists() and not config.out.is_dir():
        raise UserError(f"--out: {config.out} is a file; give a folder for the run")
    if last.exists() and not config.resume:
        raise UserError(f"{config.out}: already holds a run; go on with it by --resume, or choose another --out")
    if not last.exists() and config.resume:
        raise UserError(f"{config.out}: no last.pt to resume from; start without --resume, or give the run's own --out")


def _remove_left_behind(run: Path) -> None:
    """Removes the results of an old run, which the new one would show as its own."""
    for name in LEFT_BEHIND:
        (run / name).unlink(missing_ok=True)
    # not what somebody else may keep under this name in a folder that has never been a run's
    if (run / CONFIG).exists() and (run / "evaluation").exists():
        shutil.rmtree(run / "evaluation")


def write_json(path: Path, values: dict) -> None:
    """Writes the values so that the previous file or the new one is there, whole. Makes the folder if need be."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _check_same_run(config: TrainConfig, saved: TrainConfig) -> None:
    """Raises UserError, naming them, if settings are not those that the run was started with."""
    if differing := differences(config, saved):
        why = " The learning rate decays over all epochs, so that more of them make another run." * (
            config.epochs != saved.epochs
        )
        raise UserError(
            f"{config.out}: was started with other settings ('there'): {'; '.join(differing)}.{why} "
            "Give --resume the same settings, or start anew in another --out"
        )


def _check_same_cases(saved: dict, named: dict) -> None:
    """Raises UserError if the data are not those that the run began with. `saved`: what its splits.json says."""
    for split in ("train", "validation", "test"):
        ours, theirs = ({case["name"] for case in cases[split]} for cases in (named, saved))
        if ours != theirs:
            changed = [f"new: {name}" for name in sorted(ours - theirs)]
            changed += [f"gone: {name}" for name in sorted(theirs - ours)]
            raise UserError(
                f"{named['data']}: the {split} cases are not those that the run began with "
                f"({', '.join(changed[:5])}); restore the data as it was, or start anew in another --out"
            )
    if named.get("about") != saved.get("about"):
        raise UserError(
            f"{named['data']}: under the same names these are other data than the run began with "
            f"({saved['about']}, now {named['about']}); restore them as they were, or start anew in another --out"
        )
