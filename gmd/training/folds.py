"""Cross-validation: trains one run for each part of the patients, which is tested on the part that it has not seen."""

from dataclasses import replace
from pathlib import Path

from gmd.config import TrainBrats
from gmd.config.file import CONFIG
from gmd.errors import UserError
from gmd.printing import say
from gmd.together import agreed, by_first, joined
from gmd.training.loop import train
from gmd.training.restart import gone_on
from gmd.training.run_files import EVALUATION, OF_A_RUN, REPORT, remove_evaluation, remove_files, remove_pages_of_cases
from gmd.training.run_folder import check_beside_data, check_folder, check_nothing_there, tell_removed
from gmd.training.run_lock import locked_together
from gmd.training.run_mark import why_unknown, write_mark
from gmd.training.several import check_several
from gmd.training.tasks.segmentation import BratsTask


def train_folds(config: TrainBrats) -> list[Path]:
    """Trains the `config.folds` runs OUT/fold0, OUT/fold1, ... in turn and returns their folders.

    With `config.resume` a fold that was begun goes on, to nothing if it is finished, and the others start.
    Raises UserError for whatever the user can mend; for options, the data, and runs that are there already
    before anything is trained.
    """
    with joined():
        return _train_folds(gone_on(config))


def _train_folds(config: TrainBrats) -> list[Path]:
    """Does what `train_folds` does, in each of the processes that are joined."""
    agreed(lambda: _check_options(config), "the check of the options")
    runs = [replace(config, fold=fold, out=config.out / f"fold{fold}") for fold in range(config.folds or 0)]
    by_first(lambda: _check_folders(config, runs), "the check of the folders")
    with locked_together(config.out, config.force):
        return _train_each(config, runs)


def _check_options(config: TrainBrats) -> None:
    """Raises UserError for what is wrong before anything is read."""
    config.check()
    if not config.resume:
        config.check_new()
    check_several(config)
    if config.folds is None:
        raise UserError("--folds: got None, expected the number of runs, at least 2; to train one run call train")


def _train_each(config: TrainBrats, runs: list[TrainBrats]) -> list[Path]:
    """Trains the runs in turn and returns their folders."""
    # all folds before the first: what is wrong with the last must not show after days
    tasks = agreed(lambda: [BratsTask(run) for run in runs], "finding the cases")
    tasks[0].check()  # each fold has all cases
    by_first(lambda: _open_folder(config), "opening the folder")
    tests = [task.splits.test for task in tasks]
    for number, (run, test) in enumerate(zip(runs, tests, strict=True), start=1):
        count = f"{len(test)} test case{'s' * (len(test) > 1)}"
        say(f"fold {number} of {config.folds}: {count}, {run.out}")
        train(_begun_or_new(run))
    return [run.out for run in runs]


def _begun_or_new(run: TrainBrats) -> TrainBrats:
    """Returns the run as one to be resumed if it was begun, else as a new one."""
    return replace(run, resume=(run.out / "last.pt").exists())


def _open_folder(config: TrainBrats) -> None:
    """Marks the folder of the folds, and removes what was written there of old folds: their scores and pages."""
    if why_unknown(config.out) is None and not config.resume:
        removed = remove_evaluation(config.out / EVALUATION) + remove_files(config.out, [REPORT])
        tell_removed(config.out, removed + remove_pages_of_cases(config.out))
    write_mark(config.out)


def _check_folders(config: TrainBrats, runs: list[TrainBrats]) -> None:
    """Raises UserError unless there are folds to go on with if there should be, and no run at all otherwise.

    In folders that gmd does not know there may be nothing that it would overwrite.
    """
    if reason := _why_unknown(config, runs):
        check_nothing_there(config.out, OF_A_RUN, reason)
        check_beside_data(config)
    for run in runs:
        check_folder(_begun_or_new(run))
    if any((config.out / name).exists() for name in (CONFIG, "last.pt")):
        raise UserError(f"{config.out}: holds a run of its own; choose another --out for the folds")
    begun = sorted(config.out.glob("fold*/last.pt"))
    if begun and not config.resume:
        raise UserError(f"{begun[0].parent}: already holds a run; go on with it by --resume, or choose another --out")
    if config.resume and not begun:
        raise UserError(f"{config.out}: no fold to resume; start without --resume, or give the folds' own --out")


def _why_unknown(config: TrainBrats, runs: list[TrainBrats]) -> str | None:
    """Returns why a folder is none that gmd has made for folds; None if it is one.

    That of an earlier gmd, which marked none, is known by a fold in it that goes on.
    """
    known_by_fold = config.resume and any(why_unknown(run.out) is None for run in runs)
    return None if known_by_fold else why_unknown(config.out)
