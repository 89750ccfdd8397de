"""What a run scored, one by one, read back from the files of its evaluation."""

import csv
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import NamedTuple

from gmd.config import TrainConfig, TrainSequences
from gmd.data.segmentation.cases import Case
from gmd.data.segmentation.patients import patient_of
from gmd.errors import UserError
from gmd.evaluation.segmentation.held_out import listed_cases
from gmd.scoring.segmentation.tables import Score, read_cases
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.training.folds import fold_folders
from gmd.training.saved_run import read_config, read_splits

Column = tuple[str, str]  # metric and region: ("Dice", "WT"), ("HD95", "mean"), ("MAE", "")
Item = tuple[str, ...]  # what is scored: (case,), or (sample, step)


class Metric(NamedTuple):
    """How its differences are told: in which unit, how many of these make 1, with how many digits."""

    unit: str
    scale: float
    digits: int
    higher_is_better: bool


METRICS = {
    "Dice": Metric("points", 100, 1, True),
    "HD95": Metric("mm", 1, 1, False),
    "MAE": Metric("", 1, 3, False),
    "accuracy": Metric("points", 100, 1, True),
}


@dataclass
class Scored:
    """Of one run.

    Attributes:
        modalities: those of the run, in its order.
        words: what an item is called, and what is resampled.
        values: item -> subset -> a number for each of `columns`.
        units: item -> to what it belongs: the patient of a case, the sample of a step.
        truths: item -> its target as written; empty where the files do not say.
        folders: item -> where its images are, or were when the run began; empty of sequences.
    """

    modalities: tuple[str, ...]
    columns: list[Column]
    words: tuple[str, str]
    values: dict[Item, dict[Subset, list[float]]]
    units: dict[Item, str]
    truths: dict[Item, str]
    folders: dict[Item, Path]


def read_scored(run: Path) -> Scored:
    """Of a run, or of a cross-validation. Raises UserError if it has not been evaluated, or is neither."""
    run = Path(run)
    runs = fold_folders(run) or [run]
    config = read_config(runs[0])
    if isinstance(config, TrainSequences):
        return _of_sequences(_evaluated(run, "predictions.csv"), config, read_splits(run)["about"]["classes"] is None)
    path = _evaluated(run, "cases.csv")
    folders = {(case.name,): case.folder for each in runs for case in listed_cases(each, "test")}
    return _of_cases(path, config, folders)


def _evaluated(run: Path, name: str) -> Path:
    path = run / "evaluation" / name
    if not path.is_file():
        raise UserError(
            f"{run}: not evaluated yet, there is no {path.relative_to(run)}; first: gmd evaluate {quote(str(run))}"
        )
    return path


def _of_cases(path: Path, config: TrainConfig, folders: dict[Item, Path]) -> Scored:
    scores = read_cases(path)
    regions = list(dict.fromkeys(score.region for score in scores))
    found: dict[Item, dict[Subset, list[Score]]] = {}
    for score in scores:
        found.setdefault((score.case,), {}).setdefault(score.subset, []).append(score)
    _check_whole(path, found, regions)
    values = {
        item: {
            subset: [*_and_mean([s.dice for s in some]), *_and_mean([s.hd95 for s in some])]
            for subset, some in subsets.items()
        }
        for item, subsets in found.items()
    }
    columns = [(metric, region) for metric in ("Dice", "HD95") for region in (*regions, "mean")]
    units = {item: patient_of(Case(item[0], {})) for item in values}
    return Scored(config.modalities, columns, ("case", "patient"), values, units, {}, folders)


def _check_whole(path: Path, found: dict[Item, dict[Subset, list[Score]]], regions: list[str]) -> None:
    """Raises UserError unless every region of each case and subset is there once: the end of the file may be gone."""
    for (case,), subsets in found.items():
        for subset, scores in subsets.items():
            if (got := [score.region for score in scores]) != regions:
                raise UserError(
                    f"{path}: damaged, {case} with {subset_name(subset)} has scores of {', '.join(got)}, expected "
                    f"{', '.join(regions)}; evaluate the run again"
                )


def _and_mean(values: list[float]) -> list[float]:
    return [*values, fmean(values)]


def _of_sequences(path: Path, config: TrainConfig, of_scores: bool) -> Scored:
    """The error of each score, or 1 for each class that is right and 0 for one that is not."""
    names = {subset: subset_name(subset) for subset in all_subsets(config.modalities)}
    values, truths = {}, {}
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        try:
            for line in lines:
                item, truth = (line["sample"], line["step"]), line["target"]
                told = {subset: line[name] for subset, name in names.items() if line[name] != ""}  # "": it lacks it
                values[item] = {
                    subset: [abs(float(text) - float(truth)) if of_scores else float(text == truth)]
                    for subset, text in told.items()
                }
                truths[item] = truth
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            told = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}: line {lines.line_num} is damaged ({told}); evaluate the run again") from error
    units = {item: item[0] for item in values}
    column = ("MAE" if of_scores else "accuracy", "")
    return Scored(config.modalities, [column], ("prediction", "sample"), values, units, truths, {})
