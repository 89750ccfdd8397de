"""A line plot as SVG that a page can stretch: geometry only, the page gives colours and puts the words around it.

The plot fills a box of 1000 x 1000 that the browser stretches to any width; ticks are words beside it, in per cent, so
that they stay legible on a telephone and on paper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

SIZE = 1000
DASHES = ("", "7 4", "9 3 2 3", "2 3", "12 5", "9 3 2 3 2 3")  # modalities differ without any colour


class Style(NamedTuple):
    """How a line is drawn.

    Attributes:
        colour: a CSS colour.
        dash: the lengths of dashes and gaps, as SVG has them; empty for a solid line.
        weight: "normal", "strong" for a thick line, or "faint" for one in the background.
    """

    colour: str
    dash: str = ""
    weight: str = "normal"


class Line(NamedTuple):
    """A line of a plot.

    Attributes:
        x: [n], steps.
        y: [n], NaN for gaps.
        style: how it is drawn.
        label: its name in the legend; empty: it is not there.
        title: its name where it is pointed at.
    """

    x: np.ndarray
    y: np.ndarray
    style: Style
    label: str = ""
    title: str = ""


class Tick(NamedTuple):
    """A number beside an axis, `place` per cent from the left or the bottom."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """What the page draws.

    Attributes:
        title, unit, note: the words above the plot.
        paths: the lines, each with the path data of its SVG.
        x_ticks, y_ticks: the numbers beside the axes.
        legend: the lines that are named, once each.
        x_range, y_range: the values at the ends of the axes.
    """

    title: str
    unit: str
    note: str
    paths: list[tuple[Line, str]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    legend: list[Line]
    x_range: tuple[float, float]
    y_range: tuple[float, float]


def make_plot(
    title: str,
    lines: Sequence[Line],
    unit: str = "",
    note: str = "",
    legend: Sequence[Line] | None = None,
    bottom: float | None = None,
) -> Plot | None:
    """Makes a plot of some lines; None if no line has a number.

    title, unit, note: the words above the plot; the unit is that of y
    legend: the lines to name; by default all that have a label, once each
    bottom: where the axis of y begins; by default below the lowest value
    """
    lines = [line for line in lines if np.isfinite(line.y).any()]
    if not lines:
        return None
    x_range = _ends([line.x for line in lines], around=1)
    lowest, highest = _ends([line.y[np.isfinite(line.y)] for line in lines], around=0.5)
    steps = MaxNLocator(nbins=6, integer=True).tick_values(*x_range)
    heights = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(lowest if bottom is None else bottom, highest)
    y_range = float(heights[0]), float(heights[-1])
    named = {line.label: line for line in (lines if legend is None else legend) if line.label}
    return Plot(
        title,
        unit,
        note,
        paths=[(line, _path(line, x_range, y_range)) for line in lines],
        x_ticks=_ticks(steps, x_range),
        y_ticks=_ticks(heights, y_range),
        legend=list(named.values()),
        x_range=x_range,
        y_range=y_range,
    )


def modality_style(number: int) -> Style:
    """Returns how the line of a modality is drawn. number: its place among the network's modalities"""
    return Style(f"var(--line{number % 6})", DASHES[number % len(DASHES)])


def _ends(values: Sequence[np.ndarray], around: float) -> tuple[float, float]:
    """Returns the lowest and the highest of all values; if these are the same, the places `around` below and above."""
    everything = np.concatenate(values)
    low, high = float(everything.min()), float(everything.max())
    return (low, high) if low < high else (low - around, high + around)


def _ticks(values: Iterable[float], ends: tuple[float, float]) -> list[Tick]:
    """Returns the ticks of an axis: those of the values that lie between its ends."""
    low, high = ends
    inside = [float(value) for value in values if low - 1e-9 <= value <= high + 1e-9]
    return [Tick(100 * (value - low) / (high - low), f"{value:.6g}") for value in inside]


def _path(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """Returns the path data of a line, in commands M and L, with a new M after each gap.

    A point by itself is a line of no length, which the round ends of the stroke make a dot.
    """
    x = SIZE * (line.x - x_range[0]) / (x_range[1] - x_range[0])
    y = SIZE * (1 - (line.y - y_range[0]) / (y_range[1] - y_range[0]))
    parts, drawing = [], False
    for across, down in zip(x, y, strict=True):
        if not np.isfinite(down):
            drawing = False
            continue
        # a path that only moves is not drawn, so every start is also a line to itself
        parts.append(f"L{across:.0f} {down:.0f}" if drawing else f"M{across:.0f} {down:.0f}h0")
        drawing = True
    return "".join(parts)
