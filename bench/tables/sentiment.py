"""The tables of docs/sentiment.md, from what bench.measure.sentiment has measured.

Scores are means over the seeds with their standard deviation; differences are taken within each seed, with the 95 %
t-interval over the seeds.
"""

import pandas as pd

from bench.measure.arms import ARMS, EXACT
from bench.tables.intervals import interval
from bench.tables.markdown import markdown_table, signed

IN_STUDY = [arm.name for arm in ARMS if arm.method == "gmd" and arm.name != EXACT]
ABLATION = {
    "joint, late fusion": ("", ""),
    "cggm, rho": ("●", ""),
    "cggm, lambda": ("", "●"),
    "cggm, both": ("●", "●"),
}


def sections(mosi: pd.DataFrame, digits: pd.DataFrame) -> dict[str, str]:
    """Returns what docs/sentiment.md shows between its markers; weights now and then are in docs/study.md."""
    mosi = mosi[~mosi["arm"].isin(IN_STUDY)]
    return {
        "mosi subsets": subsets_markdown(mosi, accuracies(mosi)),
        "mosi scores": scores_markdown(mosi, ["MAE", "Corr", "Acc-5", "Acc-7"]),
        "mosi differences": differences_markdown(mosi),
        "mosi ablation": ablation_markdown(mosi),
        "mosi reference": reference_markdown(mosi),
        "digits subsets": subsets_markdown(digits, accuracies(digits)),
        "digits differences": differences_markdown(digits),
        "digits ablation": ablation_markdown(digits),
    }


def accuracies(table: pd.DataFrame) -> pd.Series:
    """Returns the accuracy of each row in per cent: of two classes, negative and not, or of the digits."""
    found = table["accuracy"].astype("Float64") if "accuracy" in table else pd.Series(pd.NA, index=table.index)
    if "Acc-2 neg/non-neg" in table:
        found = table["Acc-2 neg/non-neg"].astype("Float64").fillna(found)
    return 100 * found


def subsets_markdown(table: pd.DataFrame, values: pd.Series) -> str:
    """Returns accuracies: a row for each arm, a column for each subset and for their mean."""
    table = table.assign(value=pd.to_numeric(values, errors="coerce"))
    subsets = list(dict.fromkeys(table["subset"]))
    lines = [["method", *(name.replace("+", " + ") for name in subsets)]]
    for arm, rows in table.groupby("arm", sort=False):
        there = [subset for subset in subsets if subset in set(rows["subset"])]
        if len(there) < len(subsets):
            there.remove("mean")  # of other subsets than the other arms'
        spreads = {subset: _spread(rows.loc[rows["subset"] == subset, "value"]) for subset in there}
        lines.append([arm, *(spreads.get(subset, "") for subset in subsets)])
    return markdown_table(lines)


def scores_markdown(table: pd.DataFrame, metrics: list[str]) -> str:
    """Returns other metrics, with all modalities and as the mean over the subsets: a row for each arm that has them."""
    lines = [["method", *(f"{metric}, {what}" for what in ("all", "mean") for metric in metrics)]]
    for arm, rows in table.groupby("arm", sort=False):
        if rows[metrics].isna().to_numpy().any():
            continue  # classes have no such metrics
        of = {subset: rows[rows["subset"] == subset] for subset in (full_of(table), "mean")}
        lines.append([arm, *(_spread(part[metric], 3) for part in of.values() for metric in metrics)])
    return markdown_table(lines)


def differences(table: pd.DataFrame, subset: str) -> dict[str, tuple[str, pd.Series]]:
    """Returns for each arm what it is compared with, and its points of accuracy above that, seed by seed."""
    values = table.assign(value=accuracies(table).astype(float))
    by_arm = values[values["subset"] == subset].pivot(index="seed", columns="arm", values="value")
    bases = table.dropna(subset="base").drop_duplicates("arm").set_index("arm")["base"]
    return {arm: (base, (by_arm[arm] - by_arm[base]).dropna()) for arm, base in bases.items()}


def differences_markdown(table: pd.DataFrame) -> str:
    """Returns each arm's points of accuracy above what it is compared with; bold if the interval excludes 0."""
    columns = {"all modalities": full_of(table), "mean of the subsets": "mean"}
    found = [differences(table, subset) for subset in columns.values()]
    lines = [["method", "compared with", *columns]]
    for arm, (base, _) in found[0].items():
        lines.append([arm, base, *(signed(*interval(by_arm[arm][1]), digits=1) for by_arm in found)])
    return markdown_table(lines)


def ablation_markdown(table: pd.DataFrame) -> str:
    """CGGM's ablation as in the paper (Guo et al., NeurIPS 2024): accuracy and F1 with all modalities."""
    f1 = "F1 neg/non-neg" if "F1 neg/non-neg" in table else "macro F1"
    table = table.assign(accuracy_here=accuracies(table).astype(float), f1_here=100 * pd.to_numeric(table[f1]))
    full = table[table["subset"] == full_of(table)]
    lines = [["magnitude (rho)", "direction (lambda)", "accuracy", "F1"]]
    for arm, marks in ABLATION.items():
        rows = full[full["arm"] == arm]
        lines.append([*marks, _spread(rows["accuracy_here"]), _spread(rows["f1_here"])])
    return markdown_table(lines)


def reference_markdown(table: pd.DataFrame) -> str:
    """Returns how many methods reach the reference points: 77.6 with all modalities, 67.6 as the subsets' mean."""
    values = table.assign(value=accuracies(table).astype(float))
    lines = []
    for name, subset, reference in (("all three", full_of(table), 77.6), ("mean of the 7 subsets", "mean", 67.6)):
        means = values[values["subset"] == subset].groupby("arm", sort=False)["value"].mean()
        reached = [arm for arm, mean in means.items() if round(mean, 1) >= reference]
        words = (
            f"{len(reached)} of {len(means)} methods reach it, the best being {means.idxmax()} with {means.max():.1f}"
        )
        lines.append(f"- {name}: {reference} to reach; {words}; joint has {means['joint']:.1f}.")
    return "\n".join(lines) + "\n"


def full_of(table: pd.DataFrame) -> str:
    """Returns the subset of all modalities."""
    return max((s for s in table["subset"].unique()), key=lambda subset: subset.count("+"))


def _spread(values: pd.Series, digits: int = 1) -> str:
    numbers = pd.to_numeric(values).dropna()
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}" if len(numbers) else ""
