"""`python -m docs.figures.idea`: draws idea.png beside this file. What it shows is computed, not sketched."""

import sys
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import gmd_kernels as gk
from gmd.files import replacing

PICTURE = Path(__file__).with_name("idea.png")
DPI = 110
GRADIENTS = ((2.0, 0.6), (-1.2, 1.4))
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # told apart by people who do not see all of them

# left, bottom, width, height in a plane of 10 by 6; what stands in it
BOXES = {
    "inputs": (0.0, 2.4, 1.3, 2.0, "what the\nsample has\n\nFLAIR, T1, ...", GREY),
    "network": (1.9, 2.4, 1.5, 2.0, "one network,\nonce for each\nmodality:\n$H_m$", BLUE),
    "losses": (4.0, 2.4, 1.6, 2.0, "a loss for each\nsubset $S$:\n$L_S$ of the mean\nof $H_m$, $m \\in S$", BLUE),
    "gradients": (6.2, 2.4, 1.5, 2.0, "T gradients,\nN numbers\neach:\n$J$", RED),
    "gram": (8.3, 4.3, 1.7, 1.3, "gram\n$G = J J^T$", GREEN),
    "weights": (8.3, 2.35, 1.7, 1.3, "weights\n$w = f(G)$", GREEN),
    "combine": (8.3, 0.4, 1.7, 1.3, "combine\n$g = J^T w$", GREEN),
    "step": (4.0, 0.4, 1.6, 1.3, "any torch\noptimizer", GREY),
}


def main() -> int:
    with replacing(PICTURE) as unfinished:
        draw().savefig(unfinished, format="png", dpi=DPI)
    print(PICTURE)
    return 0


def draw() -> Figure:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    plane, flow = figure.subplots(1, 2, width_ratios=(1, 1.75))
    draw_conflict(plane)
    draw_flow(flow)
    return figure


def draw_conflict(ax: Axes) -> None:
    """Two gradients that conflict, each projected off the other, and the mean of both before and after."""
    grads = [[torch.tensor(g)] for g in GRADIENTS]
    rows = gk.pcgrad_weights(gk.gram(grads), gk.projection_order(2))  # each of two meets the other alone
    projected = [gk.combine(grads, row)[0].tolist() for row in rows]
    [merged] = gk.combine(grads, rows.mean(dim=0))
    [mean] = gk.combine(grads, gk.weightings.mean(gk.gram(grads)))
    for k, (g, p, colour) in enumerate(zip(GRADIENTS, projected, (BLUE, RED), strict=True), start=1):
        ax.plot(*zip(g, p, strict=True), color=colour, linestyle=":", linewidth=1.5)
        draw_arrow(ax, g, colour, f"$g_{k}$", "-")
        draw_arrow(ax, p, colour, f"$g_{k}$ projected", "--")
    draw_arrow(ax, mean.tolist(), GREY, "mean", "-")
    draw_arrow(ax, merged.tolist(), GREEN, "merged", "-")
    ax.set(
        xlim=(-1.9, 2.6), ylim=(-0.25, 2.0), aspect="equal", title="Two objectives that conflict: $g_1 \\cdot g_2 < 0$"
    )
    ax.axis("off")


def draw_arrow(ax: Axes, to: list[float], colour: str, text: str, style: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": colour, "linestyle": style, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", to, (0, 0), arrowprops=arrow)
    left = to[0] < -0.5
    ax.annotate(
        text, to, (-6 if left else 6, 4), textcoords="offset points", color=colour, ha="right" if left else "left"
    )


def draw_flow(ax: Axes) -> None:
    for left, bottom, width, height, text, colour in BOXES.values():
        box = FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0.05", fill=False, edgecolor=colour)
        ax.add_patch(box)
        ax.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9.5)
    for start, end in ((1.35, 1.85), (3.45, 3.95), (5.65, 6.15)):
        connect(ax, (start, 3.4), (end, 3.4))
    connect(ax, (7.75, 3.9), (8.25, 4.7))
    connect(ax, (9.15, 4.25), (9.15, 3.7))
    connect(ax, (9.15, 2.3), (9.15, 1.75))
    connect(ax, (7.75, 2.9), (8.25, 1.3))
    connect(ax, (8.25, 0.9), (5.65, 0.9))
    for x, y, text in ((7.3, 4.7, "read once"), (7.2, 1.9, "read once more"), (6.95, 1.05, ".grad, written once")):
        ax.text(x, y, text, ha="center", fontsize=9)
    ax.set(xlim=(-0.1, 10.2), ylim=(0.2, 5.8), title="One step: the Gramian is all that the method has to know")
    ax.axis("off")


def connect(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0})


if __name__ == "__main__":
    sys.exit(main())
