"""Opens the folder of a run, for a new or a resumed one."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from gmd.config import TrainConfig, config_from_dict, differences
from gmd.config.file import CONFIG, write_config
from gmd.data import SPLITS
from gmd.data.text_files import write_json
from gmd.errors import UserError
from gmd.files import check_regular, open_regular, real_path, replacing
from gmd.monitor.metrics_file import METRICS, check_metrics
from gmd.monitor.tensorboard import FOLDER as TENSORBOARD
from gmd.printing import say
from gmd.training.checkpoint import load_checkpoint
from gmd.training.made_by import check_run_made_by
from gmd.training.run_files import CHECKPOINTS, OF_A_RUN, remove_results, remove_unfinished
from gmd.training.run_mark import why_unknown, write_mark
from gmd.training.saved_run import SPLITS_FILE, SavedSplits, read_splits

OWN = ".gmd-"  # what the names of locks and unfinished files begin with


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
    """Makes the folder with its mark, `config.yaml` and `splits.json`, without what an old run has left there.

    described: what `splits.json` says.
    """
    known = why_unknown(config.out) is None
    write_mark(config.out)  # first: if all else fails, a new start knows the folder
    if known:
        remove_unfinished(config.out)
    if config.resume:
        described = _with_checksums(described, read_splits(config.out))
        _make_own(config.out / METRICS)
    elif known:
        tell_removed(config.out, remove_results(config.out))
    write_config(config.out / CONFIG, config)
    write_json(config.out / SPLITS_FILE, described)


def check_folder(config: TrainConfig) -> None:
    """Raises UserError unless the run may have its folder. Changes nothing.

    There has to be a run if it is to be resumed, and none otherwise. In a folder that gmd has not made for a run there
    may be other things, such as the data, but none of the names that a run writes or removes.
    """
    out, last = config.out, config.out / "last.pt"
    check_run_made_by(out)
    if config.resume and not last.exists():
        raise UserError(f"{out}: no last.pt to resume from; start without --resume, or give the run's own --out")
    if reason := why_unknown(out):
        check_nothing_there(out, OF_A_RUN, reason)
        check_beside_data(config)
    elif last.exists() and not config.resume:
        raise UserError(f"{out}: already holds a run; go on with it by --resume, or choose another --out")
    elif not config.resume and (fold := next(out.glob("fold*/last.pt"), None)):
        raise UserError(f"{out}: holds folds, as {fold.parent.name}; choose another --out for a run by itself")
    _check_kinds(out)


def _check_kinds(out: Path) -> None:
    """Raises UserError for what is no file, or no folder, in the place of one that a training cannot do without."""
    for path in (out / name for name in (CONFIG, SPLITS_FILE, METRICS, *CHECKPOINTS)):
        if os.path.lexists(path) and not path.is_symlink():  # links are replaced
            check_regular(path)
    scalars = out / TENSORBOARD
    if os.path.lexists(scalars) and not scalars.is_dir():
        raise UserError(f"{scalars}: is no folder, which training writes into; take it away, or choose another --out")


def check_nothing_there(out: Path, names: Iterable[str], reason: str) -> None:
    """Raises UserError if some of the names are in a folder that gmd does not know as its own. reason: why not"""
    if there := [name for name in names if os.path.lexists(out / name)]:
        raise UserError(
            f"{out}: holds {', '.join(there)}, which training would overwrite or remove, but it is not the folder of a "
            f"run ({reason}); move them away, or choose another --out"
        )


def check_beside_data(config: TrainConfig) -> None:
    """Raises UserError if the run would be written among the data: into their folder, or that of a case."""
    out = real_path(config.out)
    for data in config.data if isinstance(config.data, tuple) else [config.data]:
        root = real_path(data)
        filled = out.is_dir() and any(not name.startswith(OWN) for name in os.listdir(out))
        if root == out or (root in out.parents and filled):
            raise UserError(f"--out: {config.out} is among the data of {data}; give a folder for the run alone")


def tell_removed(folder: Path, removed: Sequence[Path]) -> None:
    """Prints which files of an earlier run were removed from a folder."""
    if removed:
        names = ", ".join(str(path.relative_to(folder)) for path in removed)
        say(f"{folder}: removed what an earlier run has left there: {names}")


def _make_own(metrics: Path) -> None:
    """Replaces a metrics.jsonl that is, or may be, a link by a copy: a resumed run cuts its file and appends to it."""
    if not metrics.exists():
        metrics.unlink(missing_ok=True)  # a link to nothing
    elif metrics.is_symlink() or metrics.stat().st_nlink > 1:
        with open_regular(metrics) as file, replacing(metrics) as unfinished:
            unfinished.write_bytes(file.read())


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
