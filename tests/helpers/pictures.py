"""Lines of metrics.jsonl to draw, and what was drawn."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmd.pictures.style import save_figure


def step_line(step: int, names: list[str], cosine: float | None = 0.5, epoch: int = 1) -> dict:
    """A line of metrics.jsonl; without a cosine, of a step with one gradient or of one that was skipped."""
    matrix = np.full((len(names), len(names)), cosine or 0.0)
    np.fill_diagonal(matrix, 1.0)
    several = cosine is not None
    return {
        "kind": "step",
        "epoch": epoch,
        "step": step,
        "lr": 0.001,
        "loss": 1.0,
        "losses": {name: 1.0 + k / 10 for k, name in enumerate(names)},
        "conflicts": 0.1 if several else None,
        "cosines": matrix.tolist() if several else None,
        "finite": True,
    }


def is_picture(path: Path) -> bool:
    """Of some size, and not blank."""
    pixels = matplotlib.image.imread(path)
    return min(pixels.shape[:2]) > 400 and pixels[..., :3].std() > 0.05


def axes_drawn(monkeypatch: pytest.MonkeyPatch, module: str) -> list[Axes]:
    """Collects the panels of the figures that are saved from now on."""
    found = []

    def keep(figure: Figure, path: Path) -> Path:
        found.extend(figure.axes)
        return save_figure(figure, path)

    monkeypatch.setattr(f"{module}.save_figure", keep)
    return found
