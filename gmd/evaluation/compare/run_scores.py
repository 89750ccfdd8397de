"""The scores of one run, case by case or prediction by prediction, read back from the files of its evaluation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import NamedTuple

from gmd.config import TrainConfig, TrainSamples
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.patients import patient_of
from gmd.errors import UserError
from gmd.evaluation.compare.predictions import read_predictions
from gmd.evaluation.outdated import scored_channels
from gmd.evaluation.segmentation.listed_cases import ListedCase, listed_cases
from gmd.scoring.outcomes import Outcomes
from gmd.scoring.segmentation.post_processing import mean_over_regions
from gmd.scoring.segmentation.tables import Score, read_cases
from gmd.subsets import Subset, subset_name
from gmd.training.outcomes import outcomes_of
from gmd.training.run_files import EVALUATION
from gmd.training.saved_run import fold_folders, read_config, read_splits

# metric and region, or output: ("Dice", "WT"), ("HD95", "mean"), ("MAE", ""), ("accuracy", "emotion")
Column = tuple[str, str]
Item = tuple[str, ...]  # what is scored: (case,), or (sample, step)


class Metric(NamedTuple):
    """How the differences of a metric are printed.

    Attributes:
        unit: "points", "mm", or nothing.
        scale: how many of the unit make 1.
        digits: how many follow the point.
        higher_is_better: whether a positive difference is an improvement.
    """

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
class RunScores:
    """Every score of one run, or of one cross-validation.

    Attributes:
        modalities: those of the run, in its order.
        columns: the metric and region of each number, where ET after post-processing counts as a region; of predictions
            the metric and output.
        item_noun: what an item is called: "case", or "prediction".
        unit_noun: what the bootstrap resamples: "patient", or "sample".
        values: item -> subset -> a number for each of `columns`; NaN where an output has no label.
        units: item -> the unit it belongs to: the patient of a case, the sample of a step.
        targets: item -> its target as the file has it; empty where the file does not hold the targets.
        listed: item -> what the run says of its files; empty for samples.
        of_channels: whether an earlier gmd made them, see `scored_channels`.
    """

    modalities: tuple[str, ...]
    columns: list[Column]
    item_noun: str
    unit_noun: str
    values: dict[Item, dict[Subset, list[float]]]
    units: dict[Item, str]
    targets: dict[Item, str]
    listed: dict[Item, ListedCase]
    of_channels: bool


def read_run_scores(run: Path) -> RunScores:
    """Reads the scores of a run, or of a cross-validation.

    Raises UserError if the folder is neither, if it has not been evaluated, or if the evaluation's file is damaged.
    """
    run = Path(run)
    runs = fold_folders(run) or [run]
    config = read_config(runs[0])
    if isinstance(config, TrainSamples):
        path = _evaluation_file(run, "predictions.csv")
        return _sample_scores(path, config, outcomes_of(read_splits(run)["about"]))
    path = _evaluation_file(run, "cases.csv")
    listed: dict[Item, ListedCase] = {(case.name,): case for each in runs for case in listed_cases(each, "test")}
    return _case_scores(path, config, listed)


def _evaluation_file(run: Path, name: str) -> Path:
    """Returns the path of a file of the run's evaluation. Raises UserError if the run has not been evaluated."""
    path = run / EVALUATION / name
    if not path.exists():
        raise UserError(
            f"{run}: not evaluated yet, there is no {path.relative_to(run)}; first: gmd evaluate {quote(str(run))}"
        )
    return path


def _case_scores(path: Path, config: TrainConfig, listed: dict[Item, ListedCase]) -> RunScores:
    """Returns the scores of a `cases.csv`: Dice and HD95 in each region, and their means over the regions."""
    scores = read_cases(path, config.modalities)
    regions = list(dict.fromkeys(score.region for score in scores))
    by_subset: dict[Item, dict[Subset, list[Score]]] = {}
    for score in scores:
        by_subset.setdefault((score.case,), {}).setdefault(score.subset, []).append(score)
    _check_complete(path, by_subset, regions)
    values = {
        item: {subset: _numbers(of_regions) for subset, of_regions in subsets.items()}
        for item, subsets in by_subset.items()
    }
    columns = [(metric, region) for metric in ("Dice", "HD95") for region in (*regions, "mean")]
    units = {item: patient_of(Case(item[0], {})) for item in values}
    of_channels = scored_channels(path.parent)
    return RunScores(config.modalities, columns, "case", "patient", values, units, {}, listed, of_channels)


def _check_complete(path: Path, by_subset: dict[Item, dict[Subset, list[Score]]], regions: list[str]) -> None:
    """Raises UserError unless every region of each case and subset is there once: the end of the file may be gone."""
    for (case,), subsets in by_subset.items():
        for subset, scores in subsets.items():
            if (got := [score.region for score in scores]) != regions:
                raise UserError(
                    f"{path}: damaged, {case} with {subset_name(subset)} has scores of {', '.join(got)}, expected "
                    f"{', '.join(regions)}; evaluate the run again"
                )


def _numbers(scores: list[Score]) -> list[float]:
    """Returns each region's Dice and their mean, then each HD95 and their mean. scores: of one case and subset."""
    dice = {score.region: score.dice for score in scores}
    hd95 = {score.region: score.hd95 for score in scores if score.hd95 is not None}
    assert len(hd95) == len(dice)  # a file without HD95 has been refused by `read_cases`
    return [*dice.values(), mean_over_regions(dice), *hd95.values(), mean_over_regions(hd95)]


def _sample_scores(path: Path, config: TrainConfig, outcomes: Outcomes) -> RunScores:
    """Returns the scores of a `predictions.csv`: absolute errors of numbers; of classes 1 if right, 0 if wrong.

    With several outcomes there is a column for each, and the means of those that are measured alike.
    """
    values, targets = read_predictions(path, config.modalities, outcomes)
    units = {item: item[0] for item in values}
    columns = _columns(outcomes)
    values = {
        item: {subset: _means(scores, columns.values()) for subset, scores in of.items()} for item, of in values.items()
    }
    return RunScores(config.modalities, list(columns), "prediction", "sample", values, units, targets, {}, False)


def _columns(outcomes: Outcomes) -> dict[Column, list[int]]:
    """Returns the columns that the outcomes make, each with the places of the outcomes whose mean it is."""
    metrics = ["MAE" if outcome.classes is None else "accuracy" for outcome in outcomes]
    if len(outcomes) == 1:
        return {(metrics[0], ""): [0]}
    columns: dict[Column, list[int]] = {}
    for metric in dict.fromkeys(metrics):
        alike = [place for place, other in enumerate(metrics) if other == metric]
        columns |= {(metric, outcomes[place].name): [place] for place in alike} | {(metric, "mean"): alike}
    return columns


def _means(scores: Sequence[float], columns: Iterable[list[int]]) -> list[float]:
    """Returns the mean over each column's places of the scores that are there; NaN if none is."""
    there = [[scores[place] for place in places if not isnan(scores[place])] for places in columns]
    return [fmean(some) if some else nan for some in there]
