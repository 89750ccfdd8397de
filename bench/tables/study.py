"""`python -m bench.tables.study`: the study's picture; and its tables for docs/study.md, figures with intervals.

Intervals are t-intervals of 95 % over the seeds; a difference is taken within each seed first.
"""

import argparse
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measure.arms import ARMS, AUTO, EVERY_8, EXACT
from bench.measure.files import RESULTS
from bench.tables.intervals import interval
from bench.tables.markdown import markdown_table, signed
from bench.tables.results import read_results
from bench.tables.sentiment import accuracies, full_of

PICTURE = RESULTS / "study.png"
MARGIN = 0.5  # points
SCORES = {"mean": "mean of the subsets", "worst": "worst subset", "full": "all modalities"}
COLOURS = {"mean": "#0072B2", "worst": "#D55E00", "full": "#999999"}


class DataSet(NamedTuple):
    """What was measured on one data set.

    Attributes:
        name: in titles and in the names of the tables.
        quantity: what a score is.
        rows: a row for each arm and seed, with the columns `seed`, `arm` and SCORES, shares of 1.
    """

    name: str
    quantity: str
    rows: pd.DataFrame


def data_sets(phantoms: pd.DataFrame, mfeat: pd.DataFrame, mosi: pd.DataFrame) -> tuple[DataSet, ...]:
    """Returns the three of docs/study.md, from their results."""
    return (
        DataSet("phantoms", "Dice", phantoms),
        DataSet("mfeat", "accuracy", mfeat),
        DataSet("MOSI", "accuracy", whole_rows(mosi)),
    )


def whole_rows(mosi: pd.DataFrame) -> pd.DataFrame:
    """Returns MOSI's arms that the studies share as the others' rows are: one for each arm and seed."""
    names = [arm.name for arm in ARMS]
    shared = mosi[mosi["arm"].isin(names)].assign(share=accuracies(mosi).astype(float) / 100)
    table = shared.pivot(index=["seed", "arm"], columns="subset", values="share")
    subsets = table.drop(columns="mean")
    scores = {"mean": table["mean"], "worst": subsets.min(axis=1), "full": table[full_of(mosi)]}
    return pd.DataFrame(scores).reset_index().sort_values("arm", key=lambda arm: arm.map(names.index), kind="stable")


def differences(rows: pd.DataFrame, score: str, base: str = EXACT) -> dict[str, pd.Series]:
    """Returns each arm's points (hundredths) above the base's, seed by seed, for the seeds that both have."""
    table = rows.pivot(index="seed", columns="arm", values=score)
    return {arm: 100 * (table[arm] - table[base]).dropna() for arm in rows["arm"].unique() if arm != base}


def sections(phantoms: pd.DataFrame, mfeat: pd.DataFrame, mosi: pd.DataFrame) -> dict[str, str]:
    """Returns what docs/study.md shows between its markers."""
    sets = data_sets(phantoms, mfeat, mosi)
    return {
        "study verdict": verdict_markdown(sets),
        **{f"{one.name} differences": differences_markdown(one.rows) for one in sets},
        "phantoms scores": scores_markdown(phantoms),
        "mfeat scores": scores_markdown(mfeat),
        "phantoms training": training_markdown(phantoms),
        "mfeat training": training_markdown(mfeat),
        "phantoms seeds": seeds_markdown(phantoms),
    }


def verdict(gaps: pd.Series) -> str:
    """Returns whether an arm stays within the margin of exact GMD, in words, from its points above it by seed."""
    mean, half = interval(gaps)
    if abs(mean) + half <= MARGIN:
        return "yes"
    return "no" if abs(mean) - half > MARGIN else "not shown: the interval is wider"


def verdict_markdown(sets: tuple[DataSet, ...]) -> str:
    """Returns whether weights that are taken now and then are as good as exact GMD's, a row for each data set."""
    lines = [
        ["weights", "data", "seeds", "points more than exact", "interval", "within half a point, with its interval"]
    ]
    for arm in (EVERY_8, AUTO):
        for one in sets:
            gaps = differences(one.rows, "mean")[arm]
            mean, half = interval(gaps)
            points = [
                f"{round(value, 2) + 0:+.2f}" for value in (mean, mean - half, mean + half)
            ]  # + 0: there is no -0
            lines.append([arm, one.name, str(len(gaps)), points[0], f"{points[1]} to {points[2]}", verdict(gaps)])
    return markdown_table(lines)


def differences_markdown(rows: pd.DataFrame) -> str:
    """Returns points that an arm has more than exact GMD; an interval that excludes 0 is bold."""
    by_score = {score: differences(rows, score) for score in SCORES}
    lines = [["arm", "seeds", *SCORES.values()]]
    for arm, gaps in by_score["mean"].items():
        points = (signed(*interval(by_score[score][arm]), digits=2) for score in SCORES)
        lines.append([arm, str(len(gaps)), *points])
    return markdown_table(lines)


def scores_markdown(rows: pd.DataFrame) -> str:
    """Returns scores in per cent, with intervals over the seeds: a row for each arm."""
    alone = [name for name in rows if name.startswith("alone_")]
    titles = [f"{name.removeprefix('alone_')} alone" for name in alone]
    lines = [["arm", "seeds", *SCORES.values(), *titles, "most often worst"]]
    for arm, some in rows.groupby("arm", sort=False):
        scores = [_spread(100 * some[name]) for name in SCORES]
        singles = [f"{100 * some[name].mean():.1f}" for name in alone]
        lines.append([arm, str(len(some)), *scores, *singles, some["worst_subset"].mode()[0]])
    return markdown_table(lines)


def training_markdown(rows: pd.DataFrame) -> str:
    """Returns what the steps of each arm were like: a row for each arm, means over the seeds."""
    compressed = "directions" in rows
    lines = [["arm", "loss", "steps that took weights", "pairs in conflict, first 10 %", "last 25 %"]]
    lines[0] += [*(["directions of 8", "discarded"] if compressed else []), "CPU s per step"]
    for arm, some in rows.groupby("arm", sort=False):
        mean = some.mean(numeric_only=True)
        shares = [_percent(mean[name]) for name in ("refreshed", "conflicts_first", "conflicts_last")]
        kept = []
        if compressed:
            kept += ["" if pd.isna(mean["directions"]) else f"{mean['directions']:.1f}"]
            kept += ["" if pd.isna(mean["discarded"]) else f"{mean['discarded']:.1e}"]
        lines.append([arm, f"{mean['loss_last']:.3f}", *shares, *kept, f"{mean['cpu_s_per_step']:.3f}"])
    return markdown_table(lines)


def seeds_markdown(rows: pd.DataFrame) -> str:
    """Returns, seed by seed, how often exact GMD's objectives conflict, and its points above the other arms."""
    gains = [(score, other) for other in ("joint", "enumerate") for score in ("mean", "worst")]
    by_seed = [-differences(rows, score)[other] for score, other in gains]
    conflicts = rows[rows["arm"] == EXACT].set_index("seed")["conflicts_last"].loc[by_seed[0].index]
    lines = [["seed", "pairs in conflict, last 25 %", *(f"{SCORES[score]}, than {other}" for score, other in gains)]]
    for seed in conflicts.sort_values().index:
        lines.append([str(seed), _percent(conflicts[seed]), *(f"{gain[seed]:+.2f}" for gain in by_seed)])
    return markdown_table(lines)


def draw(sets: tuple[DataSet, ...]) -> Figure:
    """Draws every arm's difference from exact GMD with its interval, and the single seeds as dots."""
    figure = Figure(figsize=(11, 3.8 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), len(SCORES), sharey="row", squeeze=False)
    for row, one in zip(axes, sets, strict=True):
        for ax, score in zip(row, SCORES, strict=True):
            _draw_differences(ax, one, score)
    figure.suptitle("Points more than exact GMD: mean, 95 % interval, each seed", fontsize=12)
    return figure


def _draw_differences(ax: Axes, one: DataSet, score: str) -> None:
    by_arm = differences(one.rows, score)
    for y, values in enumerate(reversed(by_arm.values())):
        mean, half = interval(values)
        ax.scatter(values, [y - 0.25] * len(values), s=16, color="black", alpha=0.4, linewidths=0)
        ax.errorbar(mean, y, xerr=half, fmt="o", color=COLOURS[score], capsize=4, lw=2, markersize=7)
    ax.axvspan(-MARGIN, MARGIN, color="#56B4E9", alpha=0.25, lw=0)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks(range(len(by_arm)), list(by_arm)[::-1])
    ax.set(title=f"{one.name}: {SCORES[score]}", xlabel=f"points of {one.quantity} (band: ±{MARGIN})")
    ax.spines[["top", "right"]].set_visible(False)


def _spread(values: pd.Series) -> str:
    mean, half = interval(values)
    return f"{mean:.1f} ± {half:.1f}"


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.1f} %"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m bench.tables.study", description=__doc__).parse_args()
    matplotlib.use("Agg")
    results = (read_results(RESULTS / f"{name}.csv") for name in ("study", "mfeat", "mosi"))
    draw(data_sets(*results)).savefig(PICTURE, dpi=130)
    print(PICTURE)
