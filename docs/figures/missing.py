"""`python -m docs.figures.missing mosi_utterances.npz`: trains on MOSI, draws missing.png, writes bench's csv.

Two trainings of one network, each sample without some of its modalities from the first epoch on, and their scores over
the missing rate. A run that is there already is not trained again.
"""

import argparse
from pathlib import Path

from gmd.cli import main as main_of_gmd
from gmd.files import replacing
from gmd.pictures.missing_curves import draw_missing_curves
from gmd.scoring.missing_curve import CurvePoint, curve_csv, read_curve

PICTURE = Path(__file__).with_name("missing.png")
ROOT = PICTURE.parents[2]
METHODS = ("joint", "gmd")
OPTIONS = "--epochs 20 --batch 8 --validate-every 5 --missing 0.3 --device cpu".split()  # noqa: SIM905
SHOWN = ("MAE", "Corr", "Acc-2 neg/non-neg")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.figures.missing", description=__doc__)
    parser.add_argument("mosi", type=Path, help="mosi_utterances.npz")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "missing", help="folder of the runs")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "missing_mosi.csv")
    options = parser.parse_args()
    curves = {method: curve_of(method, options.mosi, options.work / f"mosi-{method}") for method in METHODS}
    print(draw_missing_curves({method: [shown(point) for point in curve] for method, curve in curves.items()}, PICTURE))
    (header, *_), *_ = tables = [curve_csv(curve).splitlines() for curve in curves.values()]
    lines = [f"{method},{line}" for method, (_, *rows) in zip(METHODS, tables, strict=True) for line in rows]
    with replacing(options.out) as unfinished:
        unfinished.write_text("\n".join([f"method,{header}", *lines, ""]), encoding="utf-8")
    print(options.out)


def curve_of(method: str, data: Path, run: Path) -> list[CurvePoint]:
    """Trains unless the run is there, evaluates, and returns the curve."""
    if not run.exists():
        do("train", "sentiment", "--data", str(data), "--method", method, "--out", str(run), *OPTIONS)
    do("evaluate", str(run), "--missing-curve")
    return list(read_curve(run / "evaluation" / "missing.csv"))


def shown(point: CurvePoint) -> CurvePoint:
    """Returns the point with the metrics that the picture shows."""
    means, deviations = ({metric: of[metric] for metric in SHOWN} for of in (point.means, point.deviations))
    return point._replace(means=means, deviations=deviations)


def do(*words: str) -> None:
    """Does a command of gmd. Raises SystemExit if it fails."""
    if status := main_of_gmd(list(words)):
        raise SystemExit(status)


if __name__ == "__main__":
    main()
