"""The table that `gmd advise` quotes, `gmd/advice/evidence.csv`: methods against each other on each data set."""

import pandas as pd

from bench.tables import study
from bench.tables.intervals import interval
from gmd.advice.evidence import Finding

PAIRS = (("gmd", "enumerate"), ("enumerate", "joint"), ("dropout", "enumerate"))
GUESSED = {"phantoms": 0.0, "mfeat": 0.1, "MOSI": 0.5}  # the score of who looks at nothing


def advice_csv(phantoms: pd.DataFrame, mfeat: pd.DataFrame, mosi: pd.DataFrame) -> str:
    """Returns the table, with a row for each data set and pair of methods. Three digits are enough for words."""
    sets = study.data_sets(phantoms, mfeat, mosi)
    rows = [_finding(one, method, against, mosi) for one in sets for method, against in PAIRS]
    return pd.DataFrame(rows, columns=Finding._fields).to_csv(index=False, float_format="%.3g", lineterminator="\n")


def _finding(one: study.DataSet, method: str, against: str, mosi: pd.DataFrame) -> Finding:
    gains = {score: study.differences(one.rows, score, against)[method] for score in ("mean", "full")}
    ends = {score: interval(points) for score, points in gains.items()}
    spans = [value for mean, half in ends.values() for value in (mean, mean - half, mean + half)]
    conflicts = _conflicts(one.rows)
    seeds = len(gains["mean"])
    return Finding(one.name, one.quantity, conflicts, _weakest(one, mosi), method, against, seeds, *spans)


def _conflicts(rows: pd.DataFrame) -> float | None:
    """Returns the share of pairs in conflict in gmd's last quarter, where that was recorded."""
    if "conflicts_last" not in rows:
        return None
    return float(rows.loc[rows["arm"] == "gmd", "conflicts_last"].mean())


def _weakest(one: study.DataSet, mosi: pd.DataFrame) -> float:
    """Returns the skill of the modality that tells least by itself, trained by enumerate; 0 is guessing."""
    rows = one.rows[one.rows["arm"] == "enumerate"]
    alone = [rows[name].mean() for name in rows if name.startswith("alone_")]
    if not alone:
        single = mosi[(mosi["arm"] == "enumerate") & ~mosi["subset"].str.contains(r"\+|mean")]
        alone = list(single["Acc-2 neg/non-neg"].groupby(single["subset"]).mean())
    guessed = GUESSED[one.name]
    return float((min(alone) - guessed) / (1 - guessed))
