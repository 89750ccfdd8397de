"""What a run's folder holds: the names of all files that gmd writes there, and the removal of an old run's results."""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from gmd.config.file import CONFIG
from gmd.files import open_regular
from gmd.monitor.metrics_file import METRICS
from gmd.monitor.tensorboard import FOLDER as TENSORBOARD
from gmd.training.run_lock import locked
from gmd.training.run_mark import MARK
from gmd.training.saved_run import SPLITS_FILE

CHECKPOINTS = ("best.pt", "best.safetensors", "last.pt", "last.safetensors")
REPORT, EVALUATION = "report.html", "evaluation"
# pages of `gmd view`, and what each of them begins with, by which gmd knows it as its own
PAGE_OF_CASE = "view_{}.html"
PAGE_MARK = "<!DOCTYPE html>\n<!-- gmd view -->\n"
PICTURES = ("curves.png", "cosines.png", "dominance.png", "dominance.txt")
OF_A_RUN = (MARK, CONFIG, SPLITS_FILE, METRICS, *CHECKPOINTS, *PICTURES, TENSORBOARD, EVALUATION, REPORT)
# results of a run, which would pass for those of the next one in its folder
RESULTS = (*CHECKPOINTS, METRICS, *PICTURES, REPORT)
# in `evaluation/`, and in the folders of other data there
DATA_RECORD = "data.txt"  # in results on other data: the path of these
CHECKPOINT_RECORD = "checkpoint.txt"  # in all results, written last: which checkpoint was scored
SCORED_RECORD = "scored.txt"  # in results of segmentation: what was scored
PICTURES_OF_CASES = {which: f"case_{which}.png" for which in ("best", "median", "worst")}
# in results where --missing or --missing-curve asked for it
PREDICTIONS_ABSENT = "predictions_absent.csv"  # on sequences
MISSING_CURVE, MISSING_PICTURE = "missing.csv", "missing.png"
SHAPLEY = "shapley.csv"  # in all results: what each modality adds
# in results of segmentation where --metrics asked for more than Dice and HD95
FURTHER_TABLES = ("other_metrics.md", "other_metrics.csv")
OF_AN_EVALUATION = (
    *("table.md", "table.csv", "cases.csv", "predictions.csv", PREDICTIONS_ABSENT),
    *(SCORED_RECORD, CHECKPOINT_RECORD, DATA_RECORD, *PICTURES_OF_CASES.values(), MISSING_CURVE, MISSING_PICTURE),
    *(SHAPLEY, *FURTHER_TABLES),
)
COMPARISON = "compare_"  # what the folders of comparisons begin with
OF_A_COMPARISON = ("compare.md", "compare.csv", "compare_shapley.csv", "compare.png", "compare_missing.png")


def remove_results(run: Path) -> list[Path]:
    """Removes the results of an old run, file by file: what gmd has written there, and nothing else. Returns the paths.

    An `evaluation` that is a link is removed as such; what it leads to stays as it is.
    Raises UserError if an evaluation is writing there.
    """
    return remove_evaluation(run / EVALUATION) + remove_files(run, RESULTS) + remove_pages_of_cases(run)


def remove_pages_of_cases(run: Path) -> list[Path]:
    """Removes the pages of cases that `gmd view` has written into a folder, and returns their paths.

    What is called so and does not begin as they do stays, and so do links: they are somebody else's.
    """
    ours = []
    for path in sorted(run.glob(PAGE_OF_CASE.format("*"))):
        with suppress(OSError):  # what cannot be read is not known as gmd's
            if stat.S_ISREG(os.lstat(path).st_mode) and is_page_of_case(path):
                ours.append(path.name)
    return remove_files(run, ours)


def is_page_of_case(path: Path) -> bool:
    """Returns whether `gmd view` has written a file, by what it begins with. Raises UserError for what is no file."""
    with open_regular(path) as file:
        return file.read(len(PAGE_MARK)) == PAGE_MARK.encode("ascii")


def remove_evaluation(folder: Path) -> list[Path]:
    """Removes the results of evaluations from the folder `evaluation` of a run, as `remove_results` does."""
    if folder.is_symlink() or not folder.is_dir():
        return remove_files(folder.parent, [folder.name])
    links: list[str] = []
    names_in: dict[Path, Sequence[str]] = {}
    for other in sorted(folder.iterdir()):
        if names := _names_of_results(other):
            if other.is_symlink():
                links.append(other.name)
            else:
                names_in[other] = names
    names_in[folder] = [*OF_AN_EVALUATION, *links]
    with ExitStack() as locks:  # all of them before the first file is removed
        for place in names_in:
            locks.enter_context(locked(place))
        removed = [path for place, names in names_in.items() for path in remove_files(place, names)]
    for place in names_in:
        with suppress(OSError):  # there is something else in it
            place.rmdir()
    return removed


def _names_of_results(folder: Path) -> tuple[str, ...]:
    """Returns what gmd writes into a folder of `evaluation/`: one of other data, or of a comparison; else nothing."""
    if (folder / DATA_RECORD).is_file():
        return OF_AN_EVALUATION
    compared = folder.name.startswith(COMPARISON) and (folder / OF_A_COMPARISON[0]).is_file()
    return OF_A_COMPARISON if compared else ()


def remove_unfinished(run: Path) -> None:
    """Removes what killed processes of earlier versions have left: unfinished checkpoints under fixed names."""
    remove_files(run, [f"{name}.tmp" for name in CHECKPOINTS])


def remove_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Removes the files of these names that there are, and links as such. Returns their paths.

    What is neither, a folder say, has not been written by gmd, and stays.
    """
    removed = []
    for path in (folder / name for name in names):
        with suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                path.unlink()
                removed.append(path)
    return removed
