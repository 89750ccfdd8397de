"""Finds a case by its name among those of a run, or of a cross-validation, and says what the run knows of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from gmd.config import TrainBrats
from gmd.data import SPLITS
from gmd.data.segmentation.case import Case
from gmd.errors import UserError, shown
from gmd.evaluation.segmentation.listed_cases import ListedCase, case_as_listed, listed_cases
from gmd.evaluation.trained_network import check_segments
from gmd.files import real_path
from gmd.training.saved_run import SPLITS_FILE, fold_folders, read_config

SHOWN = 8  # names of cases that an error gives to choose from
WHAT_IT_DID = {
    "train": "It trained the network, so its predictions say nothing about new cases.",
    "validation": "It validated the network while that was trained, and chose the best epoch.",
    "test": "It is a test case: the network has not seen it.",
}
NOT_VALIDATED = "It is a validation case, and the network has not been validated yet."


class RunCase(NamedTuple):
    """A case of a run.

    Attributes:
        run: the folder of the run; of a cross-validation the fold that tests the case.
        shown_run: what the run is called, `run`, or `run/fold0` of a cross-validation.
        config: of the run.
        case: its files, where they were when the run began.
        split: "train", "validation" or "test".
    """

    run: Path
    shown_run: str
    config: TrainBrats
    case: Case
    split: str

    @property
    def which(self) -> Literal["best", "last"]:
        """Returns the checkpoint to look at: the best; of a run stopped before its first validation the last."""
        return "best" if (self.run / "best.pt").exists() else "last"

    @property
    def what_it_did(self) -> str:
        """Returns what the case has been to the network of that checkpoint, in a sentence."""
        unused = self.split == "validation" and self.which == "last"
        return NOT_VALIDATED if unused else WHAT_IT_DID[self.split]


def find_case(run: Path, name: str) -> RunCase:
    """Finds a case of a run by its name in splits.json.

    run: the folder of a run, or of a cross-validation
    Raises UserError: no run there, or one of another task; no such case, with some that there are; a fold that tests
        the case and is not there; files that are gone.
    """
    folds, untested = fold_folders(run), False
    for fold in folds or [run]:
        advice = f"gmd evaluate {fold} scores it and writes every prediction, gmd report {fold} shows how training went"
        config = check_segments(fold, read_config(fold), advice)
        shown_run = f"{real_path(run).name}/{fold.name}" if folds else real_path(run).name
        for split, listed in _listed(fold):
            if listed.name == name and (split == "test" or not folds):
                return RunCase(fold, shown_run, config, _with_files(fold, listed, config), split)
            untested |= listed.name == name
    raise _no_fold(run, name, folds) if untested else _no_such_case(run, name, folds)


def _listed(run: Path) -> Iterator[tuple[str, ListedCase]]:
    """Yields the cases of a run with their splits, test cases first."""
    for split in reversed(SPLITS):
        for listed in listed_cases(run, split):
            yield split, listed


def _with_files(run: Path, listed: ListedCase, config: TrainBrats) -> Case:
    """Returns the case with its files, among them its label map, which every case of a training has.

    Raises UserError if they are not where they were when the run began, or if splits.json names no label map.
    """
    try:
        case = case_as_listed(listed, config)
    except UserError as error:
        raise UserError(
            f"case {listed.name}: {error}; gmd view reads it where training did: put the data back there, or a link to "
            "where they are now"
        ) from error
    if case.label is None:
        raise UserError(
            f"{run / SPLITS_FILE}: names no label map of case {listed.name}; damaged, or not written by gmd train? "
            "Restore it from a copy"
        )
    return case


def _no_fold(run: Path, name: str, folds: list[Path]) -> UserError:
    """Returns the error for a case that the folds which are there do not test, though they know it."""
    there = f"{', '.join(fold.name for fold in folds)} {'is' if len(folds) == 1 else 'are'}"
    return UserError(
        f"{run}: the fold that tests case {shown(name, 100)} is not here ({there}); train it, or give one of the folds"
    )


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
