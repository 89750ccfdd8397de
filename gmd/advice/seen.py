"""What a training has shown so far of its objectives, its modalities and its subsets."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from gmd.advice.skill import Skill, read_skill
from gmd.config import TrainConfig
from gmd.errors import UserError
from gmd.monitor.checked_records import read_records
from gmd.monitor.dominance import rises
from gmd.monitor.dominance_verdict import dominating, last_quarter, mean_rises
from gmd.monitor.metrics_file import METRICS
from gmd.subsets import subset_name
from gmd.training.run_files import EVALUATION
from gmd.training.saved_run import fold_folders, read_config


class Conflict(NamedTuple):
    """How the objectives' gradients lay to each other, over the last quarter of the steps that compared them.

    Attributes:
        share: of the pairs of objectives those whose inner product is negative, mean over the steps, in [0, 1].
        ratio: the longest gradient by the shortest, geometric mean over the steps; None if a norm was 0.
        steps: at how many steps that was.
        objectives: how many there were at most.
    """

    share: float
    ratio: float | None
    steps: int
    objectives: int


class Seen(NamedTuple):
    """What a run shows.

    Attributes:
        run: its folder.
        config: its options.
        epochs: how many are finished.
        steps: how many there are.
        conflict: None for a method that has one gradient a step, and where no step has compared any yet.
        dominant: the modality that the network leans on; None if there is none, or if that cannot be told.
        skill: of its predictions on test data; None if it is not evaluated.
    """

    run: Path
    config: TrainConfig
    epochs: int
    steps: int
    conflict: Conflict | None
    dominant: str | None
    skill: Skill | None


def look_at(run: Path) -> Seen:
    """Reads a run that is finished, still at it, or was stopped, whether it is evaluated or not.

    Raises UserError for a folder that is no run, for the folder of a cross-validation, and for damaged files.
    """
    if folds := fold_folders(run):
        raise UserError(f"{run}: a cross-validation of {len(folds)} runs; give one of them, such as {folds[0]}")
    config = read_config(run)
    path = run / METRICS
    records = [record for record, _ in read_records(path, config.modalities)] if path.exists() else []
    steps = [record for record in records if record["kind"] == "step"]
    finite = [step for step in steps if step["finite"]]
    epochs = sum(record["kind"] == "epoch" for record in records)
    evaluated = any((run / EVALUATION / name).exists() for name in ("cases.csv", "predictions.csv"))
    skill = read_skill(run) if evaluated else None
    return Seen(run, config, epochs, len(steps), _conflict(finite), _dominant(finite, config.modalities), skill)


def _conflict(steps: Sequence[dict]) -> Conflict | None:
    """Returns how the gradients lay in the last quarter of the steps that compared several."""
    compared = last_quarter([step for step in steps if step["conflicts"] is not None and step["cosines"]])
    if not compared:
        return None
    share = fmean(step["conflicts"] for step in compared)
    return Conflict(share, _ratio(compared), len(compared), max(len(step["losses"]) for step in compared))


def _ratio(steps: Sequence[dict]) -> float | None:
    """Returns the longest gradient by the shortest, geometric mean over the steps; None where one is 0 or not told."""
    norms = [[norm or 0 for norm in step["dominance"]["norms"].values()] for step in steps if step.get("dominance")]
    if not norms or any(not some or min(some) <= 0 for some in norms):
        return None
    return math.exp(fmean(math.log(max(some) / min(some)) for some in norms))


def _dominant(steps: Sequence[dict], modalities: Sequence[str]) -> str | None:
    """Returns the modality that is missed most, if it dominates in the sense of `dominance.txt`."""
    if len(modalities) < 2:
        return None
    compared = last_quarter([step for step in steps if rises(step, modalities)])
    if not compared:
        return None
    loss = fmean(step["losses"][subset_name(tuple(modalities))] for step in compared)
    return dominating(mean_rises(compared, modalities), loss)
