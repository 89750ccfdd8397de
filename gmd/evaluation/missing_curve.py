"""The scores of an evaluation over the missing rate: their table and their picture beside the other results."""

from pathlib import Path

from gmd.decoration import decoration
from gmd.evaluation.results_folder import write_texts
from gmd.pictures.missing_curves import draw_missing_curves
from gmd.scoring.missing_curve import Curve, curve_csv
from gmd.training.run_files import MISSING_CURVE, MISSING_PICTURE, remove_files


def write_missing_curve(folder: Path, curve: Curve, data: Path | None = None) -> list[Path]:
    """Writes `missing.csv` and `missing.png`, and returns their paths; those of an evaluation before are removed.

    folder: of the results
    curve: without a point if none was asked for
    data: what the results are about, as in `write_texts`
    A picture that cannot be drawn is told on stderr. Raises OSError if the table cannot be written.
    """
    remove_files(folder, [MISSING_CURVE, MISSING_PICTURE])
    if not curve:
        return []
    written = write_texts(folder, {MISSING_CURVE: curve_csv(curve)}, data)[-1:]
    picture = decoration(
        "no picture of the missing rates", lambda: draw_missing_curves({"": curve}, folder / MISSING_PICTURE)
    )
    return [*written, *([picture] if picture else [])]
