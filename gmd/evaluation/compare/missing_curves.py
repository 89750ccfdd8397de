"""The curves of several runs over the missing rate, in one picture."""

from collections.abc import Mapping
from pathlib import Path

from gmd.pictures.missing_curves import draw_missing_curves
from gmd.scoring.missing_curve import read_curve
from gmd.training.run_files import EVALUATION, MISSING_CURVE, remove_files


def draw_runs(runs: Mapping[str, Path], path: Path) -> list[Path]:
    """Draws the curves of the runs together, and returns the path of the picture, in a list.

    There is none, and one of a comparison before is removed, unless every run has a curve of the same metrics.

    runs: name -> folder
    Raises UserError if one of the curves is damaged.
    """
    places = {name: run / EVALUATION / MISSING_CURVE for name, run in runs.items()}
    curves = {name: read_curve(place) for name, place in places.items() if place.exists()}
    metrics = {frozenset(curve[0].means) for curve in curves.values()}
    if len(curves) < len(runs) or len(metrics) > 1:
        remove_files(path.parent, [path.name])
        return []
    return [draw_missing_curves(curves, path)]
