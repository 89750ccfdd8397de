"""`python -m bench.tables.plot`: pictures of bench/results/*.csv beside them."""

import argparse
import sys
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measure.contestants import COMBINE, GRAM, LIBMTL, MEAN, OURS, PCGRAD, PUBLISHED, REFERENCE, TORCHJD
from bench.measure.files import RESULTS
from bench.measure.gpu_names import TRITON_SURGERY
from bench.measure.step import PHASES, WAYS
from bench.tables.markdown import significant
from bench.tables.results import read_results

# From top to bottom; colours that are told apart by people who do not see all of them.
BARS = {
    PUBLISHED: "#D55E00",
    PCGRAD: "#E69F00",
    LIBMTL: "#CC79A7",
    TORCHJD: "#009E73",
    REFERENCE: "#999999",
    MEAN: "#56B4E9",
    TRITON_SURGERY: "#F0E442",
    OURS: "#0072B2",
}
PARTS = {GRAM: "#0072B2", COMBINE: "#56B4E9"}
PHASE_COLOURS = dict(zip(PHASES, ("#56B4E9", "#0072B2", "#D55E00", "#999999"), strict=True))


def main() -> int:
    """Draws all pictures; returns 2 where there are no results to draw."""
    files = [RESULTS / "surgery_cpu.csv", RESULTS / "step_cpu.csv"]
    if missing := [str(file) for file in files if not file.exists()]:
        print(f"nothing to plot, {', '.join(missing)} missing: run `python -m bench.run` first", file=sys.stderr)
        return 2
    surgery, steps = map(read_results, files)
    matplotlib.use("Agg")
    print(save(draw_surgery(surgery), RESULTS / "surgery_cpu.png"))
    print(save(draw_floors(surgery), RESULTS / "floors_cpu.png"))
    print(save(draw_step(steps), RESULTS / "step_cpu.png"))
    return 0


def draw_surgery(surgery: pd.DataFrame) -> Figure:
    """Draws milliseconds of the whole surgery, float32: a panel for each T of a layout that peers met at several."""
    float32 = surgery[surgery["dtype"] == "float32"]
    float32 = float32[float32["case"].isin(float32.loc[float32["contestant"] == PUBLISHED, "case"])]
    chosen = float32[float32.groupby("layout")["T"].transform("nunique") > 1]
    layouts, objectives = chosen["layout"].unique(), sorted(chosen["T"].unique())
    figure = Figure(figsize=(3.5 * len(objectives) + 1.5, 2.6 * len(layouts) + 0.8), layout="constrained")
    axes = figure.subplots(len(layouts), len(objectives), sharex="col", sharey=True, squeeze=False)
    for layout, row in zip(layouts, axes, strict=True):
        for t, ax in zip(objectives, row, strict=True):
            _draw_bars(ax, chosen[(chosen["layout"] == layout) & (chosen["T"] == t)].set_index("contestant"))
    for ax in axes[-1]:
        ax.set_xlabel("milliseconds")
    figure.suptitle(f"Gradient surgery on float32 gradients, {_host(surgery)}. Black mark: the floor", fontsize=12)
    return figure


def _draw_bars(ax: Axes, rows: pd.DataFrame) -> None:
    """Draws a bar for each contestant, with its floor, its 20th to 80th percentile and how it compares with ours."""
    bars = rows.reindex([name for name in reversed(BARS) if name in rows.index])
    positions = range(len(bars))
    spread = [bars["median_ms"] - bars["p20_ms"], bars["p80_ms"] - bars["median_ms"]]
    colours = [BARS[name] for name in bars.index]
    ax.barh(positions, bars["median_ms"], xerr=spread, color=colours, height=0.7, error_kw={"lw": 1, "alpha": 0.6})
    ax.scatter(bars["floor_ms"], positions, marker="|", s=230, linewidths=2.5, color="black", zorder=3)
    ax.set_yticks(positions, bars.index)
    for y, (name, row) in zip(positions, bars.iterrows(), strict=True):
        reached, ratio = f"{100 * row['fraction_of_floor']:.0f} % of the floor", f"{row['ratio_to_ours']:.1f}x"
        if row["median_ms"] > 0:  # no number where values were wrong
            label = f"{significant(row['median_ms'])} ms, {reached if name == OURS else ratio}"
            ax.annotate(label, (row["p80_ms"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(0.5 * bars["floor_ms"].min(), 30 * bars["p80_ms"].max())  # room for the labels
    first = rows.iloc[0]
    ax.set_title(f"{first['layout']}, {first['tensors']} tensors, T = {first['T']}", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)


def draw_floors(surgery: pd.DataFrame) -> Figure:
    """Draws how much of the floor the Gramian and the combination reach, case by case."""
    fractions = surgery.pivot(index="case", columns="contestant", values="fraction_of_floor")
    fractions = 100 * fractions.loc[surgery["case"].unique()[::-1], list(PARTS)]
    figure = Figure(figsize=(8.5, 0.45 * len(fractions) + 1.4), layout="constrained")
    ax = figure.subplots()
    longest = max(100, fractions.max(axis=None))
    for offset, (name, colour) in zip((0.2, -0.2), PARTS.items(), strict=True):
        positions = [y + offset for y in range(len(fractions))]
        ax.barh(positions, fractions[name], height=0.38, color=colour, label=name)
        for y, value in zip(positions, fractions[name], strict=True):
            label = "n/a" if pd.isna(value) else f"{value:.0f} %"
            ax.text(longest + 8, y, label, va="center", ha="right", fontsize=9)
    ax.axvline(100, color="black", lw=1.2)
    ax.set_yticks(range(len(fractions)), fractions.index)
    ax.set(xlim=(0, longest + 9), ylim=(-0.6, len(fractions) - 0.4))
    ax.set_xlabel("% of the floor, the time that memory takes: bandwidth measured in the same rounds")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(f"gram and combine, {_host(surgery)}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=len(PARTS), frameon=False)
    return figure


def draw_step(steps: pd.DataFrame) -> Figure:
    """Draws the phases of a step end to end: a bar for each way, a panel for each size, each with its own scale."""
    steps = steps[steps["phase"].notna()]  # a size with wrong values has no times
    cases = list(steps.groupby("case", sort=False))
    figure = Figure(figsize=(9, 0.9 + 2.1 * len(cases)), layout="constrained")
    for ax, (case, of_case) in zip(figure.subplots(len(cases), squeeze=False)[:, 0], cases, strict=True):
        table = of_case.pivot(index="contestant", columns="phase", values="median_ms").loc[list(WAYS)[::-1]] / 1e3
        faster = of_case[of_case["phase"] == "total"].set_index("contestant")["times_faster"]
        left = pd.Series(0.0, index=table.index)
        for phase in PHASES:
            label = phase if ax.get_subplotspec().is_first_row() else None
            ax.barh(table.index, table[phase], left=left, label=label, color=PHASE_COLOURS[phase], height=0.6)
            left += table[phase]
        for y, (way, total) in enumerate(left.items()):
            ax.text(total, y, f" {total:.2f} s, {faster[way]:.1f}x", va="center")
        ax.set(xlabel="seconds", xlim=(0, 1.18 * left.max()), title=f"{case} voxels")
        ax.spines[["top", "right"]].set_visible(False)
    first = steps.iloc[0]
    figure.suptitle(
        f"One step: U-Net, {first['N'] / 1e6:.1f} million parameters, T = {first['T']}, {_host(steps)}",
        fontsize=11,
    )
    figure.legend(loc="outside lower center", ncols=len(PHASES), frameon=False)
    return figure


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path


def _host(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return str(row["gpu"]) if "gpu" in row else f"{row['cpu']}, {row['threads']} threads"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m bench.tables.plot", description=__doc__).parse_args()
    sys.exit(main())
