"""The cosines between the objectives' gradients over time: what the page's slider shows, and pictures of some."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.image import imsave

from gmd.report.history import History

COLOURS = matplotlib.colormaps["RdBu"].with_extremes(bad="0.8")
SHOWN = 6  # as small pictures, for paper and for pages without scripts


class Small(NamedTuple):
    """A matrix with a pixel for each pair, as a data URL."""

    when: str
    picture: str


@dataclass(frozen=True)
class Conflicts:
    """Of the T objectives that occur.

    Attributes:
        names: [T].
        when: of each matrix, for people.
        frames: of each matrix the T (T - 1) / 2 cosines above its diagonal, row by row, in hundredths; None where two
            objectives never met.
        palette: the colours of the hundredths from -100 to 100.
        small: some of the matrices, the first and the last among them.
        verdict: of the last one.
    """

    names: list[str]
    when: list[str]
    frames: list[list[int | None]]
    palette: list[str]
    small: list[Small]
    verdict: str


def gradient_conflicts(history: History) -> Conflicts | None:
    """None if no step had several gradients to compare."""
    parts = history.cosines.parts
    if not parts:
        return None
    t = len(history.objectives)
    matrices = np.array([part.mean().reshape(t, t) for part in parts])
    occurring = np.flatnonzero(np.isfinite(matrices).any(axis=(0, 1)))
    matrices = matrices[:, occurring][:, :, occurring]
    names = [history.objectives[place] for place in occurring]
    when = [_when(part.first, part.last) for part in parts]
    rows, columns = np.triu_indices(len(names), 1)
    frames = [[None if np.isnan(c) else round(100 * c) for c in matrix[rows, columns]] for matrix in matrices]
    chosen = sorted({round(place) for place in np.linspace(0, len(parts) - 1, SHOWN)})
    small = [Small(when[place], _picture(matrices[place])) for place in chosen]
    palette = [to_hex(COLOURS(share)) for share in np.linspace(0, 1, 201)]
    return Conflicts(names, when, frames, palette, small, _verdict(matrices, names, when))


def _when(first: int, last: int) -> str:
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _picture(matrix: np.ndarray) -> str:
    file = io.BytesIO()
    imsave(file, COLOURS((np.ma.masked_invalid(matrix) + 1) / 2), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _verdict(matrices: np.ndarray, names: Sequence[str], when: Sequence[str]) -> str:
    """The first and the last matrix in words: their means, and the pair that agrees least in the end."""
    if len(names) < 2:
        return ""
    rows, columns = np.triu_indices(len(names), 1)
    first, last = matrices[0][rows, columns], matrices[-1][rows, columns]
    lowest = int(np.nanargmin(last))
    pair = f"{names[rows[lowest]]} and {names[columns[lowest]]}"
    opposed, met = int((last < 0).sum()), int(np.isfinite(last).sum())
    return (
        f"The mean cosine between two objectives goes from {np.nanmean(first):.2f} ({when[0]}) to "
        f"{np.nanmean(last):.2f} ({when[-1]}). In the end {opposed} of {met} pairs are opposed on average; "
        f"{pair} agree least, at {last[lowest]:.2f}."
    )
