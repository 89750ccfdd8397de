"""Opens the folder of a run, for a new or a resumed one."""

import json
import shutil
from pathlib import Path

from gmd.config import TrainConfig, config_from_dict, differences
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError
from gmd.files import replacing
from gmd.monitor.metrics_file import METRICS, check_metrics
from gmd.training.checkpoint import load_checkpoint
from gmd.training.saved_run import SavedSplits, read_splits

SPLITS = ("train", "validation", "test")
# files of a run whose last.pt was deleted
LEFT_BEHIND = (
    *("best.pt", "best.safetensors", "last.safetensors", METRICS, "report.html"),
    *("curves.png", "cosines.png", "dominance.png", "dominance.txt"),
)


def state_to_resume(config: TrainConfig, described: dict) -> dict | None:
    """Returns the checkpoint to resume from, or None for a new run. Changes nothing.

    described: what `splits.json` says: of each split at least the names of its cases.
    Raises UserError if a run is there already, or none to resume, or one with other settings, other cases or damaged
    files.
    """
    check_folder(config)
    if not config.resume:
        return None
    last = config.out / "last.pt"
    state = load_checkpoint(last)
    _check_same_run(config, config_from_dict(state["config"], last))
    _check_same_cases(read_splits(config.out), described)
    check_metrics(config.out, config.modalities)
    return state


def open_run(config: TrainConfig, described: dict) -> None:
    """Makes the folder with `config.yaml` and `splits.json`, without what an old run has left there.

    described: what `splits.json` says.
    """
    if config.resume:
        described = _with_checksums(described, read_splits(config.out))
    else:
        _remove_left_behind(config.out)
    write_config(config.out / CONFIG, config)
    write_json(config.out / "splits.json", described)


def check_folder(config: TrainConfig) -> None:
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


def _check_same_files(saved: SavedSplits, named: dict, split: str) -> None:
    """Raises UserError if cases have gained or lost files since the run began, or hold other voxels now."""
    before = {case["name"]: case for case in saved.cases(split)}
    changed = [case["name"] for case in named[split] if _other_files(before[case["name"]], case)]
    if changed:
        count = f"{len(changed)} {split} case{'s' * (len(changed) > 1)}"
        raise UserError(
            f"{named['data']}: the files of {count} are not those that the run began with, or hold other voxels "
            f"({', '.join(changed[:5])}); restore them as they were, or start anew in another --out"
        )


def _other_files(before: dict, now: dict) -> bool:
    """Says whether two lines of `splits.json` on a case name other files, or other checksums, where both have them."""
    both = before.keys() & now.keys()
    other_keys = "files" in both and before["files"].keys() != now["files"].keys()
    return other_keys or ("checksums" in both and before["checksums"] != now["checksums"])


def _with_checksums(described: dict, saved: SavedSplits) -> dict:
    """Returns what `splits.json` is to say, with the checksums that it had where there are none now: --no-check."""
    kept = {case["name"]: case["checksums"] for split in SPLITS for case in saved.cases(split) if "checksums" in case}

    def completed(case: dict) -> dict:
        return {"checksums": kept[case["name"]]} | case if case["name"] in kept else case

    return described | {split: [completed(case) for case in described[split]] for split in SPLITS}


def _check_same_cases(saved: SavedSplits, named: dict) -> None:
    """Raises UserError if the data are not those that the run began with. `saved`: what its splits.json says."""
    for split in SPLITS:
        ours, theirs = ({case["name"] for case in cases} for cases in (named[split], saved.cases(split)))
        if ours != theirs:
            changed = [f"new: {name}" for name in sorted(ours - theirs)]
            changed += [f"gone: {name}" for name in sorted(theirs - ours)]
            folders = ", with the names of its folders (what stands before __ in those of cases)"
            named_by_folder = any("__" in name for name in ours ^ theirs)
            raise UserError(
                f"{named['data']}: the {split} cases are not those that the run began with "
                f"({', '.join(changed[:5])}); restore the data as it was{folders * named_by_folder}, or start anew in "
                "another --out"
            )
        _check_same_files(saved, named, split)
    if named.get("about") != saved.get("about"):
        raise UserError(
            f"{named['data']}: under the same names these are other data than the run began with "
            f"({saved['about']}, now {named['about']}); restore them as they were, or start anew in another --out"
        )
