"""`python -m bench.tables.study`: the study's picture; and its tables for docs/study.md, figures with intervals.

Intervals are t-intervals of 95 % over the seeds; a difference is taken within each seed first.
"""

import argparse

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measure.study import CSV
from bench.tables.intervals import interval
from bench.tables.markdown import markdown_table, signed
from gmd.data.segmentation.names import BRATS_MODALITIES

BASE, DEFAULT = "gmd", "gmd, 1e-3"
MARGIN = 0.005  # of Dice: half a point
SCORES = {"dice_mean": "mean of 15 subsets", "dice_worst": "worst subset", "dice_full": "all modalities"}
SINGLES = {f"dice_{modality}": f"{modality} alone" for modality in BRATS_MODALITIES}
COLOURS = {"dice_mean": "#0072B2", "dice_worst": "#D55E00", "dice_full": "#999999"}


def differences(study: pd.DataFrame, score: str, base: str = BASE) -> dict[str, pd.Series]:
    """Returns each arm's score minus the base's, seed by seed, for the seeds that both have been run with."""
    table = study.pivot(index="seed", columns="arm", values=score)
    return {arm: (table[arm] - table[base]).dropna() for arm in study["arm"].unique() if arm != base}


def sections(study: pd.DataFrame) -> dict[str, str]:
    """Returns what docs/study.md shows between its markers."""
    return {
        "study differences": differences_markdown(study),
        "study verdict": verdict(study),
        "study scores": scores_markdown(study),
        "study training": training_markdown(study),
        "study seeds": seeds_markdown(study),
    }


def scores_markdown(study: pd.DataFrame) -> str:
    """Returns Dice in per cent, with intervals over the seeds: a row for each arm."""
    lines = [["method", "seeds", *SCORES.values(), *SINGLES.values(), "most often worst"]]
    for arm, rows in study.groupby("arm", sort=False):
        scores = [_points(*interval(rows[name])) for name in SCORES]
        singles = [f"{100 * rows[name].mean():.1f}" for name in SINGLES]
        lines.append([arm, str(len(rows)), *scores, *singles, rows["worst"].mode()[0]])
    return markdown_table(lines)


def differences_markdown(study: pd.DataFrame) -> str:
    """Returns points of Dice that an arm has more than exact GMD; an interval that excludes 0 is bold."""
    by_score = {score: differences(study, score) for score in SCORES}
    lines = [["method", "seeds", *SCORES.values()]]
    for arm, gaps in by_score["dice_mean"].items():
        lines.append([arm, str(len(gaps)), *(_points_signed(by_score[score][arm]) for score in SCORES)])
    return markdown_table(lines)


def training_markdown(study: pd.DataFrame) -> str:
    """Returns what the steps of each arm were like: a row for each arm, means over the seeds."""
    lines = [["method", "loss", "pairs in conflict, first 10 %", "last 25 %", "in the parts, last 25 %"]]
    lines[0] += ["directions of 8", "discarded", "CPU s per step"]
    for arm, rows in study.groupby("arm", sort=False):
        mean = rows.mean(numeric_only=True)
        shares = [_percent(mean[name]) for name in ("conflicts_first", "conflicts_last")]
        shares += ["" if rows["granularity"].iloc[0] == "model" else _percent(mean["parts_last"])]
        kept = ["" if pd.isna(mean["directions"]) else f"{mean['directions']:.1f}"]
        lost = ["" if pd.isna(mean["discarded"]) else f"{mean['discarded']:.1e}"]
        lines.append([arm, f"{mean['loss_last']:.3f}", *shares, *kept, *lost, f"{mean['cpu_s_per_step']:.2f}"])
    return markdown_table(lines)


def seeds_markdown(study: pd.DataFrame) -> str:
    """Returns, seed by seed, how often exact GMD's objectives conflict, and its points of Dice above the other arms."""
    gains = [(score, other) for other in ("joint", "enumerate") for score in ("dice_mean", "dice_worst")]
    by_seed = [-100 * differences(study, score)[other] for score, other in gains]
    conflicts = study[study["arm"] == BASE].set_index("seed")["conflicts_last"]
    lines = [["seed", "pairs in conflict, last 25 %", *(f"{SCORES[score]}, than {other}" for score, other in gains)]]
    for seed in conflicts.sort_values().index:
        lines.append([str(seed), _percent(conflicts[seed]), *(f"{gain[seed]:+.2f}" for gain in by_seed)])
    return markdown_table(lines)


def verdict(study: pd.DataFrame) -> str:
    """Returns whether compression at the default energy stays within the margin of exact GMD, in words."""
    gaps = differences(study, "dice_mean")[DEFAULT]
    mean, half = interval(gaps)
    low, high = 100 * (mean - half), 100 * (mean + half)
    if abs(mean) + half <= MARGIN:
        word = "the whole interval lies within half a point: compression is as good as exact"
    elif abs(mean) <= MARGIN:
        word = "the mean lies within half a point, but not the whole interval: no loss was seen, and none is excluded"
    else:
        word = "the mean lies outside of half a point"
    return (
        f"Compressed to a discarded energy of 1e-3 minus exact, mean Dice over the 15 subsets, {len(gaps)} seeds: "
        f"{100 * mean:+.2f} points, interval {low:+.2f} to {high:+.2f}; {word}."
    )


def draw(study: pd.DataFrame) -> Figure:
    """Draws every arm's difference from exact GMD with its interval, and the single seeds as dots."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, len(SCORES), sharey=True)
    for ax, score in zip(axes, SCORES, strict=True):
        _draw_differences(ax, study, score)
    steps = study["steps"].iloc[0]
    figure.suptitle(f"Points of Dice more than exact GMD, {steps} steps: mean, 95 % interval, each seed", fontsize=12)
    return figure


def _draw_differences(ax: Axes, study: pd.DataFrame, score: str) -> None:
    by_arm = differences(study, score)
    for y, values in enumerate(reversed(by_arm.values())):
        mean, half = interval(100 * values)
        ax.scatter(100 * values, [y - 0.25] * len(values), s=16, color="black", alpha=0.4, linewidths=0)
        ax.errorbar(mean, y, xerr=half, fmt="o", color=COLOURS[score], capsize=4, lw=2, markersize=7)
    ax.axvspan(-100 * MARGIN, 100 * MARGIN, color="#56B4E9", alpha=0.25, lw=0)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks(range(len(by_arm)), list(by_arm)[::-1])
    ax.set(title=SCORES[score], xlabel="points (band: ±0.5)")
    ax.spines[["top", "right"]].set_visible(False)


def _points(mean: float, half: float) -> str:
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def _points_signed(gaps: pd.Series) -> str:
    mean, half = interval(gaps)
    return signed(100 * mean, 100 * half, digits=2)


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.1f} %"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m bench.tables.study", description=__doc__).parse_args()
    matplotlib.use("Agg")
    draw(pd.read_csv(CSV)).savefig(CSV.with_suffix(".png"), dpi=130)
    print(CSV.with_suffix(".png"))
