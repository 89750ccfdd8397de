"""Gradient conflicts over time: the cosines between the objectives' gradients, for a slider and as pictures."""

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
THUMBNAILS = 6  # small pictures, for paper and for browsers without scripts


class Thumbnail(NamedTuple):
    """A small picture of one matrix of cosines.

    Attributes:
        when: the epochs that it is the mean of, in words.
        picture: a PNG with a pixel for each pair of objectives, as a data URL.
    """

    when: str
    picture: str


@dataclass(frozen=True)
class Conflicts:
    """The matrices of cosines between the T objectives that occur, one for each time.

    Attributes:
        names: [T], of the objectives.
        when: the epochs that each matrix is the mean of, in words.
        frames: for each matrix the T (T - 1) / 2 cosines above its diagonal, row by row, in hundredths; None where two
            objectives never met.
        palette: the colours of the hundredths from -100 to 100.
        small: pictures of some of the matrices, the first and the last among them.
        verdict: how the cosines have changed, in a sentence.
    """

    names: list[str]
    when: list[str]
    frames: list[list[int | None]]
    palette: list[str]
    small: list[Thumbnail]
    verdict: str


def gradient_conflicts(history: History) -> Conflicts | None:
    """Returns the conflicts of a training; None if no step had several gradients to compare."""
    bins = history.cosines.bins
    if not bins:
        return None
    t = len(history.objectives)
    matrices = np.array([one.mean().reshape(t, t) for one in bins])
    occurring = np.flatnonzero(np.isfinite(matrices).any(axis=(0, 1)))
    matrices = matrices[:, occurring][:, :, occurring]
    names = [history.objectives[place] for place in occurring]
    when = [_when(one.first, one.last) for one in bins]
    rows, columns = np.triu_indices(len(names), 1)
    frames = [[None if np.isnan(c) else round(100 * c) for c in matrix[rows, columns]] for matrix in matrices]
    chosen = sorted({round(place) for place in np.linspace(0, len(bins) - 1, THUMBNAILS)})
    small = [Thumbnail(when[place], _picture(matrices[place])) for place in chosen]
    palette = [to_hex(COLOURS(share)) for share in np.linspace(0, 1, 201)]
    return Conflicts(names, when, frames, palette, small, _verdict(matrices, names, when))


def _when(first: int, last: int) -> str:
    """Returns a range of epochs in words."""
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _picture(matrix: np.ndarray) -> str:
    """Returns a matrix of cosines, [T, T], as a PNG in a data URL; grey where it is NaN."""
    file = io.BytesIO()
    imsave(file, COLOURS((np.ma.masked_invalid(matrix) + 1) / 2), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _verdict(matrices: np.ndarray, names: Sequence[str], when: Sequence[str]) -> str:
    """Returns the first and the last matrix in words: their means, and the pair of objectives that agrees least."""
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
