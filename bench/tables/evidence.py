"""The evidence's results as they are read: gains of arms over arms, conflicts, and the table that `gmd advise` quotes.

All gains are points (hundredths of a score), a difference within each seed, with the paired bootstrap interval.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.measure.files import RESULTS
from bench.measure.host import ROOT
from bench.tables.bootstrap import Gain, bootstrap
from bench.tables.results import read_results
from gmd.files import replacing

JOINT, DROPOUT, ENUMERATE, WEIGHTED, GMD = "joint", "dropout", "enumerate", "enumerate, weighted", "gmd"
SURGERY = (GMD, "pcd", "upgrad", "fairgrad")
SCORES = {"mean": "mean of the subsets", "worst": "worst subset", "full": "all modalities"}
ADVICE = ROOT / "gmd" / "advice" / "evidence.csv"


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


def spread(task: TaskResults, subsets: pd.DataFrame, arm: str = JOINT) -> float:
    """Returns the points between the best and the worst subset of an arm, on average over its seeds; NaN: not there."""
    scores = subsets[(subsets["task"] == task.name) & (subsets["arm"] == arm)].groupby("seed")["score"]
    return 100 * float((scores.max() - scores.min()).mean())


COMPARED = (
    *((ENUMERATE, JOINT), (DROPOUT, JOINT), (DROPOUT, ENUMERATE), (WEIGHTED, ENUMERATE)),
    *((arm, ENUMERATE) for arm in SURGERY),
)


def advice_rows(results: Path = RESULTS) -> pd.DataFrame:
    """Returns what `gmd advise` quotes: a row for each task and each comparison of two arms that both have been run.

    Columns: task, title, group ("" for a data set), conflicts (per cent of the pairs, in the runs of gmd), ratio (the
    longest gradient by the shortest), spread (points between the best and the worst subset under joint training), arm,
    base, gain (points on the mean of the subsets), low, high (its interval), seeds. Empty where no run has been made.
    """
    tasks, rows = read_evidence(results), []
    subsets = read_results(results / "evidence_subsets.csv") if tasks else pd.DataFrame()
    for task in tasks:
        facts: dict[str, object] = {"task": task.name, "title": task.title, "group": task.group}
        numbers = {"conflicts": task.conflicts(), "ratio": task.ratio(), "spread": spread(task, subsets)}
        pairs = dict.fromkeys((*COMPARED, *((a, b) for a, b in task.bases.items() if a not in (JOINT, ENUMERATE))))
        for arm, base in pairs:
            mean, low, high, seeds = task.gain(arm, base)
            if seeds:
                gain = {"gain": mean, "low": low, "high": high, "seeds": seeds}
                rows.append(facts | numbers | {"arm": arm, "base": base} | gain)
    return pd.DataFrame(rows)


def write_advice(path: Path = ADVICE, results: Path = RESULTS) -> list[Path]:
    """Writes the table that `gmd advise` quotes, if any run has been made. Returns the file."""
    rows = advice_rows(results)
    if rows.empty:
        return []
    with replacing(path) as unfinished:
        rows.to_csv(unfinished, index=False, float_format="%.3f")
    return [path]
