"""What the pictures have in common: letters, names that may hold anything, thinned series, how files are written."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from gmd.errors import shown_line
from gmd.files import replacing
from gmd.printing import WITH_PLAIN_CHARACTERS

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

STYLE: "dict[RcKeyType, Any]" = {
    "font.size": 13,
    "axes.titlesize": 14,
    "figure.titlesize": 16,
    "savefig.dpi": 110,
    # a $ is a dollar, and no program is called to set letters, whatever a matplotlibrc says
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


def drawn(name: str, most: int = 40) -> str:
    """Returns a name from outside, of a case, a run or a modality, as a picture can have it: one line of letters.

    Control characters, line ends and bytes that are in no encoding are shown as in Python, the middle of a name of more
    than `most` letters is left out, and no first letter hides a name from a legend, as _ would.
    """
    text = shown_line(name, most).encode("utf-8", WITH_PLAIN_CHARACTERS).decode("utf-8")
    return f" {text}" if text.startswith("_") else text


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
    with replacing(path) as unfinished, boxes_for_letters():
        figure.savefig(unfinished)
    return path


@contextmanager
def boxes_for_letters() -> Iterator[None]:
    """Does not warn of scripts that matplotlib's own font lacks: a box stands for each letter of them.

    A warning for each would be no help.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        yield
