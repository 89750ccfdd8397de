"""The evidence's results as they are read: gains of arms over arms, conflicts, and what `gmd advise` quotes of them.

All gains are points (hundredths of a score), a difference within each seed, with the paired bootstrap interval.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.measure.files import RESULTS
from bench.tables.bootstrap import Gain, bootstrap
from bench.tables.results import read_results
from gmd.advice.evidence import Finding

JOINT, DROPOUT, ENUMERATE, WEIGHTED, GMD = "joint", "dropout", "enumerate", "enumerate, weighted", "gmd"
SURGERY = (GMD, "pcd", "upgrad", "fairgrad")
SCORES = {"mean": "mean of the subsets", "worst": "worst subset", "full": "all modalities"}


class TaskResults(NamedTuple):
    """What was measured on one data set, or on one cell of a group of generated ones.

    Attributes:
        name: in the names of files.
        title: in tables and pictures.
        group: of cells of one picture; "" for a data set.
        knob: what was set in a generated one, by name.
        modalities: their number.
        score: what the scores are, in words.
        settings: how many each arm was tuned over.
        runs: a row for each arm and seed.
    """

    name: str
    title: str
    group: str
    knob: dict[str, float]
    modalities: int
    score: str
    settings: int
    runs: pd.DataFrame

    @property
    def arms(self) -> list[str]:
        """Returns the arms that have rows, in their order."""
        return list(dict.fromkeys(self.runs["arm"]))

    @property
    def bases(self) -> dict[str, str]:
        """Returns what each arm is compared with besides `enumerate`, of the arms that have such a one."""
        bases = self.runs.dropna(subset="base").drop_duplicates("arm").set_index("arm")["base"]
        return {arm: base for arm, base in bases.items() if base in self.arms}

    def gain(self, arm: str, base: str = ENUMERATE, score: str = "mean") -> Gain:
        """Returns the points of an arm above another, over the seeds that both have; of none where one is not there."""
        table = self.runs.pivot(index="seed", columns="arm", values=score)
        both = arm in table and base in table
        return bootstrap(100 * (table[arm] - table[base]) if both else pd.Series(dtype=float))

    def conflicts(self, arm: str = GMD) -> float:
        """Returns the share of pairs of objectives in conflict in the runs of an arm, in per cent; NaN: not known."""
        return 100 * self.runs.loc[self.runs["arm"] == arm, "conflicts"].astype(float).mean()

    def ratio(self, arm: str = GMD) -> float:
        """Returns the longest gradient by the shortest in the runs of an arm; NaN: not known."""
        return self.runs.loc[self.runs["arm"] == arm, "ratio"].astype(float).mean()


def read_evidence(results: Path = RESULTS) -> list[TaskResults]:
    """Returns what was measured on each task, in the order of the tables; nothing where no run has been made."""
    if not (results / "evidence.csv").exists():
        return []
    runs, tasks = (read_results(results / f"evidence{name}.csv") for name in ("", "_tasks"))
    return [
        TaskResults(
            row["task"],
            row["title"],
            row["group"] if isinstance(row["group"], str) else "",
            json.loads(row["knob"]),
            row["modalities"].count("+") + 1,
            row["score"],
            row["settings"],
            runs[runs["task"] == row["task"]].reset_index(drop=True),
        )
        for row in tasks.to_dict("records")
    ]


def groups(tasks: Sequence[TaskResults]) -> dict[str, list[TaskResults]]:
    """Returns the cells of each group."""
    found: dict[str, list[TaskResults]] = {}
    for task in tasks:
        if task.group:
            found.setdefault(task.group, []).append(task)
    return found


COMPARED = (
    *((GMD, ENUMERATE), (ENUMERATE, JOINT), (DROPOUT, ENUMERATE), (WEIGHTED, ENUMERATE)),
    *((arm, ENUMERATE) for arm in SURGERY[1:]),
)
GUESSED = {"mfeat": 0.1, "digits": 0.1, "mosi": 0.5}  # the accuracy of who looks at nothing, by a task's first word


def advice_rows(results: Path = RESULTS) -> list[Finding]:
    """Returns what `gmd advise` quotes: of each data set, not of generated cells, two arms wherever both were run.

    Empty where no run has been made.
    """
    found = []
    for task in (task for task in read_evidence(results) if not task.group):
        others = {(arm, base): None for arm, base in task.bases.items() if base != JOINT}
        conflicts, low = task.conflicts() / 100, weakest(task, results)
        score = task.score.partition(",")[0]
        for arm, base in dict.fromkeys((*COMPARED, *others)):
            mean, full = task.gain(arm, base), task.gain(arm, base, "full")
            if mean.seeds > 1:
                known = None if pd.isna(conflicts) else conflicts
                found.append(Finding(task.title, score, known, low, arm, base, mean.seeds, *mean[:3], *full[:3]))
    return found


def weakest(task: TaskResults, results: Path = RESULTS) -> float | None:
    """Returns the skill of the modality that tells least by itself to `enumerate`: 0 is guessing, 1 is perfect.

    Who guesses has the share of GUESSED where the score is an accuracy, else 0: of Dice and of R2. None: not known.
    """
    subsets = read_results(results / "evidence_subsets.csv")
    alone = subsets[
        (subsets["task"] == task.name)
        & (subsets["arm"] == ENUMERATE)
        & ~subsets["subset"].str.contains("+", regex=False)
    ]
    guessed = GUESSED.get(task.name.partition("-")[0]) if task.score.startswith("accuracy") else 0.0
    if alone.empty or guessed is None:
        return None
    return float((alone.groupby("subset")["score"].mean().min() - guessed) / (1 - guessed))
