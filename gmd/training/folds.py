"""Cross-validation: trains one run for each part of the patients, which is tested on the part that it has not seen."""

from dataclasses import replace
from pathlib import Path

from gmd.config import TrainBrats
from gmd.errors import UserError
from gmd.printing import say
from gmd.training.loop import train
from gmd.training.tasks.segmentation import BratsTask


def train_folds(config: TrainBrats) -> list[Path]:
    """Trains the `config.folds` runs OUT/fold0, OUT/fold1, ... in turn and returns their folders.

    With `config.resume` a fold that was begun goes on, to nothing if it is finished, and the others start.
    Raises UserError for whatever the user can mend; for options, the data, and runs that are there already
    before anything is trained.
    """
    config.check()
    if not config.resume:
        config.check_new()
    if config.folds is None:
        raise UserError("--folds: got None, expected the number of runs, at least 2; to train one run call train")
    _check_folder(config)
    runs = [replace(config, fold=fold, out=config.out / f"fold{fold}") for fold in range(config.folds)]
    # all folds before the first: what is wrong with the last must not show after days
    tasks = [BratsTask(run) for run in runs]
    tasks[0].check()  # each fold has all cases
    tests = [task.splits.test for task in tasks]
    for number, (run, test) in enumerate(zip(runs, tests, strict=True), start=1):
        count = f"{len(test)} test case{'s' * (len(test) > 1)}"
        say(f"fold {number} of {config.folds}: {count}, {run.out}")
        train(replace(run, resume=(run.out / "last.pt").exists()))
    return [run.out for run in runs]


def _check_folder(config: TrainBrats) -> None:
    """Raises UserError unless there are folds to go on with if there should be, and no run at all otherwise."""
    if (config.out / "last.pt").exists():
        raise UserError(f"{config.out}: holds a run of its own; choose another --out for the folds")
    begun = sorted(config.out.glob("fold*/last.pt"))
    if begun and not config.resume:
        raise UserError(f"{begun[0].parent}: already holds a run; go on with it by --resume, or choose another --out")
    if config.resume and not begun:
        raise UserError(f"{config.out}: no fold to resume; start without --resume, or give the folds' own --out")
