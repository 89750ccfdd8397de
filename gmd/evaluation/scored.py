"""What a run scored, one by one, read back from the files of its evaluation."""

import csv
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import NamedTuple

from gmd.checkpoint import read_config, read_splits
from gmd.config import TrainConfig, TrainSequences
from gmd.data.cases import Case
from gmd.data.splits import patient_of
from gmd.errors import UserError
from gmd.evaluation.tables import Score, read_cases
from gmd.subsets import Subset, all_subsets, subset_name

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
    """

    modalities: tuple[str, ...]
    columns: list[Column]
    words: tuple[str, str]
    values: dict[Item, dict[Subset, list[float]]]
    units: dict[Item, str]
    truths: dict[Item, str]


def read_scored(run: Path) -> Scored:
    """Of a run, or of a cross-validation. Raises UserError if it has not been evaluated, or is neither."""
    run = Path(run)
    first = run / "fold0"
    config = read_config(first if first.is_dir() else run)
    if isinstance(config, TrainSequences):
        return _of_sequences(_evaluated(run, "predictions.csv"), config, read_splits(run)["about"]["classes"] is None)
    return _of_cases(read_cases(_evaluated(run, "cases.csv")), config)


def _evaluated(run: Path, name: str) -> Path:
    path = run / "evaluation" / name
    if not path.is_file():
        raise UserError(
            f"{run}: not evaluated yet, there is no {path.relative_to(run)}; first: gmd evaluate {quote(str(run))}"
        )
    return path


def _of_cases(scores: list[Score], config: TrainConfig) -> Scored:
    regions = list(dict.fromkeys(score.region for score in scores))
    found: dict[Item, dict[Subset, list[Score]]] = {}
    for score in scores:
        found.setdefault((score.case,), {}).setdefault(score.subset, []).append(score)
    values = {
        item: {
            subset: [*_and_mean([s.dice for s in some]), *_and_mean([s.hd95 for s in some])]
            for subset, some in subsets.items()
        }
        for item, subsets in found.items()
    }
    columns = [(metric, region) for metric in ("Dice", "HD95") for region in (*regions, "mean")]
    units = {item: patient_of(Case(item[0], {})) for item in values}
    return Scored(config.modalities, columns, ("case", "patient"), values, units, {})


def _and_mean(values: list[float]) -> list[float]:
    return [*values, fmean(values)]


def _of_sequences(path: Path, config: TrainConfig, of_scores: bool) -> Scored:
    """The error of each score, or 1 for each class that is right and 0 for one that is not."""
    names = {subset: subset_name(subset) for subset in all_subsets(config.modalities)}
    values, truths = {}, {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                item, truth = (line["sample"], line["step"]), line["target"]
                told = {subset: line[name] for subset, name in names.items() if line[name] != ""}  # "": it lacks it
                values[item] = {
                    subset: [abs(float(text) - float(truth)) if of_scores else float(text == truth)]
                    for subset, text in told.items()
                }
            except (KeyError, ValueError, TypeError) as error:
                told = f"{type(error).__name__}: {error}"
                raise UserError(f"{path}: line {number} is damaged ({told}); evaluate the run again") from error
            truths[item] = truth
    units = {item: item[0] for item in values}
    column = ("MAE" if of_scores else "accuracy", "")
    return Scored(config.modalities, [column], ("prediction", "sample"), values, units, truths)
