"""Line plots as SVG that a page can stretch: geometry only, the page gives colours and puts the words around it.

The plot fills a box of 1000 x 1000 that the browser stretches to any width; ticks are words beside it, in per cent, so
that they stay legible on a telephone and on paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

SIZE = 1000
DASHES = ("", "7 4", "9 3 2 3", "2 3")  # modalities differ without any colour


class Style(NamedTuple):
    """`colour`: a CSS colour; `dash`: of the stroke; `strong`: a thick line, and `faint` one in the background."""

    colour: str
    dash: str = ""
    weight: str = "normal"


class Line(NamedTuple):
    """x [n], y [n], NaN for gaps. `label`: in the legend; `title`: what it is called where it is pointed at."""

    x: np.ndarray
    y: np.ndarray
    style: Style
    label: str = ""
    title: str = ""


class Tick(NamedTuple):
    """At `place` per cent from the left or the bottom."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """What the page draws: `paths` are lines with their SVG path data."""

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
    """None where no line has a number.

    legend: instead of all lines that have a label, once each.
    bottom: where the axis of y begins; by default below the lowest value.
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
    return Style(f"var(--line{number % 6})", DASHES[number % len(DASHES)])


def _ends(values: Sequence[np.ndarray], around: float) -> tuple[float, float]:
    """The lowest and the highest; if these are the same, what lies so far around it."""
    everything = np.concatenate(values)
    low, high = float(everything.min()), float(everything.max())
    return (low, high) if low < high else (low - around, high + around)


def _ticks(values: np.ndarray, ends: tuple[float, float]) -> list[Tick]:
    low, high = ends
    inside = [float(value) for value in values if low - 1e-9 <= value <= high + 1e-9]
    return [Tick(100 * (value - low) / (high - low), f"{value:.6g}") for value in inside]


def _path(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """M and L; anew after a gap. A point by itself is a line of no length, which round ends make a dot."""
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
