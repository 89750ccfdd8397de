"""The tables of `gmd train classify` on real input, from the rows of classify.csv.

Scores are means over the seeds with their standard deviation; differences are taken within each seed, with the 95 %
t-interval over the seeds.
"""

import pandas as pd

from bench.measure.classify import DATA
from bench.tables.intervals import interval
from bench.tables.markdown import markdown_table, signed

# means over 5 seeds, of the mean of the subsets, the worst one, and all modalities; measured without manifests
REFERENCE = {
    "ds, joint": "93.2 / 59.4 / 97.4",
    "ds, enumerate": "93.8 / 67.5 / 97.3",
    "ds, gmd": "93.8 / 67.5 / 97.3",
    "branches, joint": "93.8 / 65.8 / 97.4",
    "branches, mla": "93.6 / 70.9 / 97.0",
    "late, joint": "91.9 / 56.6 / 97.5",
    "late, cggm": "91.8 / 56.0 / 97.4",
}


def sections(table: pd.DataFrame) -> dict[str, str]:
    """Returns what docs/classify.md shows between its markers: a table for each data set."""
    return {f"{name} by manifest": data_markdown(table[table["data"] == name], name) for name in DATA}


def data_markdown(table: pd.DataFrame, name: str) -> str:
    """Returns a row for each arm: accuracies in per cent, and points above its base, of seeds that all arms have."""
    if table.empty:
        return "Not measured yet: `python -m bench.measure.classify` does it."
    arms = table.groupby("seed")["arm"].nunique()
    table = table[table["seed"].isin(arms.index[arms == arms.max()])]
    alone = [part for part in dict.fromkeys(table["part"]) if part.startswith("alone: ")]
    parts = [*alone, "all", "mean", "worst"] if len(alone) < len(REFERENCE) - 1 else ["mean", "worst", "all"]
    references = {arm.name: REFERENCE.get(arm.name, "") for arm in DATA[name].arms} if name == "mfeat" else {}
    lines = [["network, method", *parts, "mean, above joint", *(["reference"] if references else [])]]
    for arm, rows in table.groupby("arm", sort=False):
        scores = [_spread(100 * rows.loc[rows["part"] == part, "accuracy"]) for part in parts]
        lines.append([str(arm), *scores, _above(table, rows), *([references[str(arm)]] if references else [])])
    row, seeds = table.iloc[0], table["seed"].nunique()
    return (
        f"{markdown_table(lines)}\nAccuracy in per cent, {_over(seeds)}; "
        f"{_scored(table)} test samples. Measured {row['date']} UTC on {row['cpu']}, torch {row['torch']}, gmd "
        f"{row['commit']}.\n"
    )


def _above(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Returns the points of an arm's mean over the subsets above its base's; nothing for a base, and for one seed."""
    base = rows["base"].iloc[0]
    if pd.isna(base):
        return ""
    means = table[table["part"] == "mean"].pivot(index="seed", columns="arm", values="accuracy")
    difference = (100 * (means[rows["arm"].iloc[0]] - means[base])).dropna()
    return signed(*interval(difference), digits=1) if len(difference) > 1 else ""


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def _over(seeds: int) -> str:
    return f"mean over {seeds} seeds ± standard deviation" if seeds > 1 else "of one seed"


def _scored(table: pd.DataFrame) -> int:
    return int(table.loc[table["part"] == "all", "scored"].iloc[0])
