"""What the pictures have in common: sizes of letters, how long series are thinned, how files are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from gmd.files import replacing

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

STYLE: "dict[RcKeyType, Any]" = {"font.size": 13, "axes.titlesize": 14, "figure.titlesize": 16, "savefig.dpi": 110}


def thinned(values: Sequence[float | None], points: int = 300) -> np.ndarray:
    """Returns means of neighbours, float64, since more points than that would be a block of ink.

    Args:
        values: one at least; None and NaN are left out of the means, and a mean of nothing else is NaN.
        points: how many means at most.
    """
    numbers = np.ma.masked_invalid(np.array(values, dtype=float))
    parts = map(np.ma.asarray, np.array_split(numbers, min(len(numbers), points)))
    return np.array([part.mean() if part.count() else np.nan for part in parts])


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes the picture and returns its path. If that fails, what was there before stays."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished)
    return path
