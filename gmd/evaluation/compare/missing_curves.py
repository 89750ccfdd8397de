"""The curves of several runs over the missing rate, in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gmd.pictures.missing_curves import draw_missing_curves
from gmd.scoring.missing_curve import CurvePoint, read_curve
from gmd.training.run_files import EVALUATION, MISSING_CURVE, remove_files

T = TypeVar("T")


def draw_runs(runs: Mapping[str, Path], path: Path) -> list[Path]:
    """Draws the curves of the runs together, and returns the path of the picture, in a list.

    Drawn are the metrics that all have, since an earlier gmd measured fewer, and the points of a list that all were
    scored with. There is no picture, and one of a comparison before is removed, unless every run has a curve, and all
    have a metric in common.

    runs: name -> folder
    Raises UserError if one of the curves is damaged.
    """
    places = {name: run / EVALUATION / MISSING_CURVE for name, run in runs.items()}
    curves = {name: read_curve(place) for name, place in places.items() if place.exists()}
    metrics = _common([list(curve[0].means) for curve in curves.values()])
    if len(curves) < len(runs) or not metrics:
        remove_files(path.parent, [path.name])
        return []
    lists = _common([[_mark(point) for point in curve] for curve in curves.values()])
    shown = {
        name: [_of(point, metrics) for point in curve if not point.listed or _mark(point) in lists]
        for name, curve in curves.items()
    }
    return [draw_missing_curves(shown, path)]


def _common(several: Sequence[Sequence[T]]) -> list[T]:
    """Returns what is in each of several lists, in the order of the first."""
    return [each for each in several[0] if all(each in other for other in several)] if several else []


def _mark(point: CurvePoint) -> tuple[str, float]:
    """Returns what tells a point's list from others, of which two may have one name."""
    return point.listed, point.absent


def _of(point: CurvePoint, metrics: Sequence[str]) -> CurvePoint:
    """Returns the point with these metrics alone."""
    means, deviations = ({metric: of[metric] for metric in metrics} for of in (point.means, point.deviations))
    return point._replace(means=means, deviations=deviations)
