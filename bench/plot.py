"""`python -m bench.plot`: pictures of bench/results/*.csv beside them; with --markdown, the README's tables instead."""

import argparse
import sys
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.contestants import OURS, PUBLISHED, TORCHJD
from bench.run import RESULTS
from bench.step import PHASES, WAYS
from bench.tables import step_markdown, surgery_markdown

# Order of drawing; colours that are told apart by people who do not see all of them.
STYLES = {
    PUBLISHED: ("#D55E00", "s"),
    "surgery (reference)": ("#999999", "v"),
    TORCHJD: ("#E69F00", "^"),
    "torchjd (stacked)": ("#009E73", "<"),
    "torchjd (stacked, no concat)": ("#CC79A7", "D"),
    "plain mean": ("#56B4E9", "x"),
    OURS: ("#0072B2", "o"),
}
PHASE_COLOURS = dict(zip(PHASES, ("#56B4E9", "#0072B2", "#D55E00", "#999999"), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the README's tables instead")
    markdown = parser.parse_args().markdown
    files = [RESULTS / "surgery_cpu.csv", RESULTS / "step_cpu.csv"]
    if missing := [str(file) for file in files if not file.exists()]:
        print(f"nothing to plot, {', '.join(missing)} missing: run `python -m bench.run` first", file=sys.stderr)
        return 2

    surgery, steps = map(pd.read_csv, files)
    if markdown:
        print(surgery_markdown(surgery), step_markdown(steps), sep="\n\n")
        return 0
    matplotlib.use("Agg")
    for file, figure in zip(files, (draw_surgery(surgery), draw_step(steps)), strict=True):
        print(save(figure, file.with_suffix(".png")))
    return 0


def draw_surgery(surgery: pd.DataFrame) -> Figure:
    """Milliseconds over T, a panel for each layout and size; bars span the 20th to the 80th percentile."""
    panels = surgery["case"].str.rpartition("-")[0]
    layouts, sizes = (list(dict.fromkeys(panels.str.split("-").str[part])) for part in (0, 1))
    figure = Figure(figsize=(3.6 * len(sizes) + 1.2, 3.1 * len(layouts) + 1.0), layout="constrained")
    axes = figure.subplots(len(layouts), len(sizes), sharex=True, sharey="col", squeeze=False)
    for layout, row in zip(layouts, axes, strict=True):
        for size, ax in zip(sizes, row, strict=True):
            _draw_panel(ax, surgery[panels == f"{layout}-{size}"])
    for ax in axes[-1]:
        ax.set_xlabel("T, objectives")
    for ax in axes[:, 0]:
        ax.set_ylabel("milliseconds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    host = surgery.iloc[0]
    figure.suptitle(f"Gradient surgery on {host['cpu']}, {host['threads']} threads, float32", fontsize=11)
    return figure


def draw_step(steps: pd.DataFrame) -> Figure:
    """The phases of a step end to end, a bar for each way."""
    table = steps.pivot(index="contestant", columns="phase", values="median_ms").loc[list(WAYS)[::-1]] / 1e3
    figure = Figure(figsize=(8.5, 2.7), layout="constrained")
    ax = figure.subplots()
    left = pd.Series(0.0, index=table.index)
    for phase in PHASES:
        ax.barh(table.index, table[phase], left=left, label=phase, color=PHASE_COLOURS[phase], height=0.6)
        left += table[phase]
    for y, total in enumerate(left):
        ax.text(total, y, f" {total:.2f} s", va="center")
    first = steps.iloc[0]
    ax.set(xlabel="seconds", xlim=(0, 1.12 * left.max()))
    ax.set_title(
        f"One step: U-Net, {first['N'] / 1e6:.1f} million parameters, {first['size']}³ voxels, "
        f"four modalities, T = {first['T']}, {first['threads']} threads",
        fontsize=11,
    )
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(PHASES), frameon=False)
    return figure


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path


def _draw_panel(ax: Axes, rows: pd.DataFrame) -> None:
    positions = {t: x for x, t in enumerate(sorted(rows["T"].unique()))}
    for name, (colour, marker) in STYLES.items():
        own = rows[rows["contestant"] == name].sort_values("T")
        spread = (own["median_ms"] - own["p20_ms"], own["p80_ms"] - own["median_ms"])
        ax.errorbar(
            own["T"].map(positions),
            own["median_ms"],
            yerr=spread,
            label=name,
            color=colour,
            marker=marker,
            ms=5,
            lw=1.2,
        )
    floor = rows[rows["contestant"] == OURS].sort_values("T")
    ax.plot(floor["T"].map(positions), floor["floor_ms"], "k--", lw=1, label="floor: (2T+1)·4N bytes")
    ax.set_yscale("log")
    ax.set_xticks(list(positions.values()), list(positions))
    ax.grid(axis="y", which="major", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    first = rows.iloc[0]
    ax.set_title(f"{first['N'] / 1e6:.2g} million in {first['tensors']} tensors", fontsize=10)


if __name__ == "__main__":
    sys.exit(main())
