"""Finds a case by its name among those of a run, or of a cross-validation, and says what the run knows of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from gmd.config import TrainBrats
from gmd.data import SPLITS
from gmd.data.segmentation.case import Case
from gmd.errors import UserError, shown
from gmd.evaluation.segmentation.listed_cases import ListedCase, case_as_listed, listed_cases
from gmd.training.saved_run import fold_folders, read_config

SHOWN = 8  # names of cases that an error gives to choose from
WHAT_IT_DID = {
    "train": "It trained the network, so its predictions say nothing about new cases.",
    "validation": "It validated the network while that was trained, and chose the best epoch.",
    "test": "It is a test case: the network has not seen it.",
}


class RunCase(NamedTuple):
    """A case of a run.

    Attributes:
        run: the folder of the run; of a cross-validation the fold that tests the case.
        config: of the run.
        case: its files, where they were when the run began.
        split: "train", "validation" or "test".
    """

    run: Path
    config: TrainBrats
    case: Case
    split: str

    @property
    def which(self) -> Literal["best", "last"]:
        """Returns the checkpoint to look at: the best; of a run stopped before its first validation the last."""
        return "best" if (self.run / "best.pt").exists() else "last"


def find_case(run: Path, name: str) -> RunCase:
    """Finds a case of a run by its name in splits.json.

    run: the folder of a run, or of a cross-validation
    Raises UserError: no run there, or one of another task; no such case, with some that there are; files that are gone.
    """
    folds = fold_folders(run)
    for fold in folds or [run]:
        config = _check_segments(fold, read_config(fold))
        for split, listed in _listed(fold):
            if listed.name == name and (split == "test" or not folds):
                return RunCase(fold, config, _with_files(listed, config), split)
    raise _no_such_case(run, name, folds)


def _check_segments(run: Path, config: object) -> TrainBrats:
    """Returns the configuration. Raises UserError, which says what to do instead, for a run of another task."""
    if isinstance(config, TrainBrats):
        return config
    task = getattr(config, "TASK", "another task")
    raise UserError(
        f"{run}: was trained on {task}, which has no volumes to scroll through; gmd evaluate {run} scores it and "
        f"writes every prediction, gmd report {run} shows how training went"
    )


def _listed(run: Path) -> Iterator[tuple[str, ListedCase]]:
    """Yields the cases of a run with their splits, test cases first."""
    for split in reversed(SPLITS):
        for listed in listed_cases(run, split):
            yield split, listed


def _with_files(listed: ListedCase, config: TrainBrats) -> Case:
    """Returns the case with its files. Raises UserError if they are not where they were when the run began."""
    try:
        return case_as_listed(listed, config)
    except UserError as error:
        raise UserError(
            f"case {listed.name}: {error}; gmd view reads it where training did: put the data back there, or a link to "
            "where they are now"
        ) from error


def _no_such_case(run: Path, name: str, folds: list[Path]) -> UserError:
    """Returns the error for a name that no case has, with the names of some that there are."""
    there = [(split, listed.name) for fold in folds or [run] for split, listed in _listed(fold)]
    tests = [shown(each, 60) for split, each in there if split == "test"]
    others = [] if folds else [shown(each, 60) for split, each in there if split != "test"]
    lines = [f"  {what}: {_some(names)}" for what, names in (("test cases", tests), ("other cases", others)) if names]
    return UserError(f"{run}: has no case {shown(name, 100)}; expected one of these", lines)


def _some(names: list[str]) -> str:
    """Returns the first names, and how many there are besides."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
