"""Scores case by case, each written as soon as it is there; a case that fails does not stop the others."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.config.metrics import Metrics
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.outdated import LABEL_MAPS
from gmd.evaluation.results_folder import write_texts
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.files import check_regular
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.printing import say
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Score, cases_csv
from gmd.together import by_first, is_first, processes, shared_out
from gmd.training.run_files import (
    CHECKPOINT_RECORD,
    FURTHER_TABLES,
    MISSING_CURVE,
    MISSING_PICTURE,
    PICTURES_OF_CASES,
    SCORED_RECORD,
    SHAPLEY,
)

CASES = "cases.csv"
# what is written once all cases are scored
OF_ALL_CASES = (
    *("table.md", "table.csv", SHAPLEY, CHECKPOINT_RECORD),
    *(*PICTURES_OF_CASES.values(), MISSING_CURVE, MISSING_PICTURE),
    *FURTHER_TABLES,
)


def score_cases(
    network: SegmentationNetwork,
    cases: Sequence[Case],
    config: TrainBrats,
    folder: Path,
    data: Path | None,
    metrics: Metrics,
) -> tuple[list[Score], dict[str, str]]:
    """Scores every case, for each region and each subset of the modalities that it has, and writes `cases.csv`.

    The file has all lines of a case or none: an evaluation that is killed leaves the scores of the cases before. Those
    of an earlier evaluation, and its tables, are removed from the folder once there is a new score.

    config: of the run, with the precision to predict in; folder: of the results
    data: what they are about, None for the run's own test cases; metrics: what is measured beside Dice and HD95
    returns all scores, and the cases that could not be scored: name -> why. These are told on stderr at once.
    """
    scheme = config.label_scheme()
    scores: list[Score] = []
    failed: dict[str, str] = {}

    def score(case: Case) -> list[Score] | str:
        """Returns the scores of a case, or why there are none."""
        try:
            return evaluate_cases(network, [load_case(case)], scheme, config.patch, config.precision, True, metrics)
        except (UserError, MemoryError, RuntimeError) as error:
            return why_failed(error)

    with tqdm(total=len(cases), desc="evaluation", unit="case") as bar:
        for first in range(0, len(cases), processes()):  # each process has one at a time
            several = cases[first : first + processes()]
            for case, found in zip(several, shared_out(several, score, "the scores of some cases"), strict=True):
                if isinstance(found, str):
                    failed[case.name] = found
                    tell_failed({case.name: found})
                else:
                    by_first(partial(_write, folder, data, found, begin=not scores), "writing the scores of a case")
                scores += [] if isinstance(found, str) else found
            bar.update(len(several))
    return scores, failed


def _write(folder: Path, data: Path | None, scores: Sequence[Score], begin: bool) -> None:
    """Writes the scores of a case behind the others. begin: whether they are the first ones"""
    header, lines = cases_csv(scores).split("\n", 1)
    if begin:
        _begin(folder, data, header)
    with open(folder / CASES, "ab", buffering=0) as file:  # by one write, which a kill leaves done or not done
        file.write(lines.encode("utf-8", "surrogateescape"))


def tell_failed(failed: dict[str, str]) -> None:
    """Prints on stderr which cases could not be scored, and why, in the first process. failed: name -> why"""
    for name, reason in failed.items() if is_first() else ():
        say(f"gmd: {name} cannot be scored: {reason}", error=True)


def _begin(folder: Path, data: Path | None, header: str) -> None:
    """Makes the folder ready for new scores: what would pass for a table of them is removed. header: of `cases.csv`"""
    places = [folder / name for name in OF_ALL_CASES]
    for path in places:
        if path.is_dir():
            check_regular(path)  # says so, before the scores from before are gone
    for path in places:
        path.unlink(missing_ok=True)
    write_texts(folder, {CASES: f"{header}\n", SCORED_RECORD: f"{LABEL_MAPS}\n"}, data)
