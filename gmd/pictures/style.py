"""What the pictures have in common: sizes of letters, how long series are thinned, how files are written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gmd.files import replacing

STYLE = {"font.size": 13, "axes.titlesize": 14, "figure.titlesize": 16, "savefig.dpi": 110}


def thinned(values: Sequence[float | None], points: int = 300) -> np.ndarray:
    """At most so many means of neighbours, without the missing ones: more points would be a block of ink."""
    numbers = np.ma.masked_invalid(np.array(values, dtype=float))
    parts = np.array_split(numbers, min(len(numbers), points))
    return np.array([part.mean() if part.count() else np.nan for part in parts])


def save_figure(figure: Figure, path: Path) -> Path:
    """The picture, or whatever was there before."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished)
    return path
