"""`python -m bench.tables.evidence_figures`: the evidence's pictures beside its tables.

A forest plot for each data set, small maps of the cells of each group, and one picture of them all: what surgery gains
over `enumerate` against how often gradients conflict.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.measure.files import RESULTS
from bench.tables.bootstrap import Gain
from bench.tables.evidence import ENUMERATE, SCORES, SURGERY, TaskResults, groups, read_evidence
from gmd.files import replacing
from gmd.printing import say

COLOURS = dict(zip(SURGERY, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
NOTHING, SHOWN = "#999999", "#0072B2"
MARKERS = "oDv^<>Ps*Xph"
SHADES = "RdBu"
DPI = 130


def draw_all(results: Path = RESULTS) -> list[Path]:
    """Draws all pictures of the tables in a folder into that folder; returns them, none where no run has been made."""
    tasks = read_evidence(results)
    pictures = {task.name: forest(task) for task in tasks if not task.group}
    pictures |= {f"{name}_cells": maps(name, cells) for name, cells in groups(tasks).items()}
    if tasks:
        pictures["conflict"] = against_conflicts(tasks)
    paths = []
    for name, figure in pictures.items():
        with replacing(results / f"evidence_{name}.png") as unfinished:
            figure.savefig(unfinished, dpi=DPI, metadata={"Software": None})
        paths.append(results / f"evidence_{name}.png")
    return paths


def forest(task: TaskResults) -> Figure:
    """Draws every arm's points above `enumerate`: mean, interval, and the single seeds as dots."""
    arms = [arm for arm in task.arms if arm != ENUMERATE][::-1]
    figure = Figure(figsize=(12, 1.6 + 0.42 * len(arms)), layout="constrained")
    for ax, (score, title) in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES.items(), strict=True):
        table = task.runs.pivot(index="seed", columns="arm", values=score)
        for y, arm in enumerate(arms):
            gain = task.gain(arm, score=score)
            if gain.seeds:
                seeds = 100 * (table[arm] - table[ENUMERATE]).dropna()
                ax.scatter(seeds, [y - 0.27] * len(seeds), s=12, color="black", alpha=0.35, linewidths=0)
                _interval(ax, gain.mean, y, gain, SHOWN if gain.sign else NOTHING, horizontal=True)
        ax.axvline(0, color="black", lw=1)
        ax.set_yticks(range(len(arms)), arms)
        ax.set(title=title, xlabel=f"points above {ENUMERATE}")
        ax.grid(axis="x", alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    seeds_told = "mean, 95 % paired bootstrap interval (blue: excludes 0), each seed"
    figure.suptitle(f"{task.title}; {task.score}\n{seeds_told}", fontsize=11)
    return figure


def _interval(ax: Axes, x: float, y: float, gain: Gain, colour: str, horizontal: bool, **style: Any) -> None:
    """Draws a point and its interval, along x or along y."""
    arms = np.nan_to_num([[gain.mean - gain.low], [gain.high - gain.mean]])  # of one seed there is no interval
    options: dict[str, Any] = {"fmt": "o", "color": colour, "capsize": 3, "lw": 1.6, "markersize": 6} | style
    ax.errorbar(x, y, **{"xerr" if horizontal else "yerr": np.maximum(arms, 0)}, **options)


def maps(name: str, cells: Sequence[TaskResults]) -> Figure:
    """Draws the cells of a group: the first two things that are set across and up, the others a row of panels each.

    A column for each surgery. Bold figures have an interval, which stands below them, that excludes 0.
    """
    rows = _rows_of_panels(cells)
    arms = [arm for arm in SURGERY if any(arm in cell.arms for cell in cells)]
    most = max((abs(cell.gain(arm).mean) for cell in cells for arm in arms if cell.gain(arm).seeds), default=0.0) or 1.0
    figure = Figure(figsize=(1.2 + 3.7 * len(arms), 1.4 + 2.3 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(arms), sharex=True, sharey=True, squeeze=False)
    for row, (told, there) in zip(panels, rows.items(), strict=True):
        for ax, arm in zip(row, arms, strict=True):
            _map(ax, there, arm, most)
            ax.set_title(f"{arm}{told}", fontsize=10)
    shades = ScalarMappable(Normalize(-most, most), SHADES)
    figure.colorbar(shades, ax=panels, label=f"points above {ENUMERATE}")
    figure.suptitle(f"{name}: {SCORES['mean']}, points above {ENUMERATE}; bold: the interval excludes 0", fontsize=11)
    return figure


def _rows_of_panels(cells: Sequence[TaskResults]) -> dict[str, list[TaskResults]]:
    """Returns the cells that differ in the first two things only, by what the others are set to, in words."""
    rows: dict[str, list[TaskResults]] = {}
    for cell in cells:
        told = "".join(f", {key} {value:g}" for key, value in list(cell.knob.items())[2:])
        rows.setdefault(told, []).append(cell)
    return rows


def _map(ax: Axes, cells: Sequence[TaskResults], arm: str, most: float) -> None:
    """Draws the gains of one arm: a square for each cell."""
    across, up = [*cells[0].knob, ""][:2]
    xs, ys = (sorted({cell.knob.get(key, 0.0) for cell in cells}) for key in (across, up))
    grid = np.full((len(ys), len(xs)), np.nan)
    for cell in cells:
        x, y, gain = xs.index(cell.knob[across]), ys.index(cell.knob.get(up, 0.0)), cell.gain(arm)
        grid[y, x] = gain.mean
        _cell(ax, x, y, gain, most)
    ax.imshow(grid, cmap=SHADES, vmin=-most, vmax=most, origin="lower", aspect="auto")
    ax.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    ax.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    ax.set(xlabel=across, ylabel=up)
    ax.label_outer()


def _cell(ax: Axes, x: int, y: int, gain: Gain, most: float) -> None:
    """Writes a gain and its interval into a cell."""
    if not gain.seeds:
        return
    colour = "white" if abs(gain.mean) > 0.65 * most else "black"
    weight = "bold" if gain.sign else "normal"
    mean, low, high = (f"{round(value, 1) + 0:+.1f}" for value in gain[:3])  # + 0: there is no -0
    ax.text(x, y + 0.2, mean, ha="center", va="center", color=colour, fontsize=10, weight=weight)
    if gain.seeds > 1:
        ax.text(x, y - 0.17, f"{low} to\n{high}", ha="center", va="center", color=colour, fontsize=6.5)


def against_conflicts(tasks: Sequence[TaskResults]) -> Figure:
    """Draws each surgery's gain over `enumerate` against the share of pairs in conflict, all data sets and cells."""
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    sets = [task for task in tasks if not task.group]
    markers = {task.name: MARKERS[place % len(MARKERS)] for place, task in enumerate(sets)}
    for ax, arm in zip(panels.flat, SURGERY, strict=True):
        for task in (*(task for task in tasks if task.group), *sets):
            _against_conflicts(ax, task, arm, markers.get(task.name))
        ax.axhline(0, color="black", lw=1)
        ax.set_title(arm, fontsize=11)
        ax.set(xlabel="pairs of objectives in conflict in the runs of gmd, %")
        ax.set(ylabel=f"points above {ENUMERATE}, {SCORES['mean']}")
        ax.label_outer()
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle("What surgery gains over tuned enumerate, against how often gradients conflict", fontsize=13)
    shown: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "lw": 0}
    handles = [Line2D([], [], marker=markers[task.name], label=task.title, markersize=9, **shown) for task in sets]
    handles.append(Line2D([], [], marker="o", label="a cell of the generated task", markersize=4, color=NOTHING, lw=0))
    title = "mean and 95 % interval over the seeds; filled where the interval excludes 0"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, title=title)
    return figure


def _against_conflicts(ax: Axes, task: TaskResults, arm: str, marker: str | None) -> None:
    """Draws one data set, or without a marker of its own a cell, if the arm was run on it."""
    gain = task.gain(arm)
    if not gain.seeds:
        return
    colour = COLOURS[arm] if marker else NOTHING
    style: dict[str, Any] = {"markerfacecolor": colour if gain.sign else "white"}
    if marker:
        style |= {"fmt": marker, "markersize": 9}
    else:
        style |= {"lw": 0.8, "capsize": 0, "markersize": 4, "zorder": 1}
    _interval(ax, task.conflicts(), gain.mean, gain, colour, horizontal=False, **style)


def main() -> int:
    """Draws all pictures. Returns 2 where there is nothing to draw."""
    argparse.ArgumentParser(prog="python -m bench.tables.evidence_figures", description=__doc__).parse_args()
    drawn = draw_all()
    say(*drawn) if drawn else say("nothing to draw: run `python -m bench.evidence` first", error=True)
    return 0 if drawn else 2


if __name__ == "__main__":
    sys.exit(main())
