"""Runs with made-up tables of the subsets of up to six modalities, for the tests of the report."""

from pathlib import Path

from gmd.config import TrainDigits
from gmd.scoring.table_text import Line, lines_csv
from gmd.subsets import Subset, all_subsets, subset_name
from helpers.report_cases import write_run

NAMES = ("ear", "eye", "hand", "nose", "skin", "tongue")


def score_of(subset: Subset) -> float:
    """A number of its own for each subset: a permutation of them that is in no order."""
    place = sum(2 ** NAMES.index(name) for name in subset)
    return (37 * place % 64) / 64


def made_up_lines(modalities: Subset, absent: tuple[Subset, ...] = ()) -> list[Line]:
    def cells(subset: Subset) -> list[float | str]:
        return ["absent", "absent"] if subset in absent else [score_of(subset), 1 - score_of(subset)]

    lines = [Line(subset_name(s), s, 0 if s in absent else 40, cells(s)) for s in all_subsets(modalities)]
    scored = [score_of(s) for s in all_subsets(modalities) if s not in absent]
    mean = sum(scored) / len(scored) if scored else 0.0
    return [*lines, Line("mean", None, None, [mean, 1 - mean])]


def run_of(folder: Path, count: int, further: bool = False) -> Path:
    modalities = NAMES[:count]
    config = TrainDigits(data=Path("digits.npz"), modalities=modalities, epochs=1)
    about = {"classes": ["0", "1"], "features": dict.fromkeys(modalities, 3), "per_step": False}
    run = write_run(folder, config, splits={"about": about})
    lines = made_up_lines(modalities)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "table.csv").write_text(lines_csv(lines, modalities, "samples", ["accuracy", "ECE"]))
    if further:
        columns = [f"{region} {number}" for number in ("lesion_f1", "error_ml") for region in ("WT", "mean")]
        wide = [line._replace(cells=[*line.cells, *line.cells]) for line in lines]
        (run / "evaluation" / "other_metrics.csv").write_text(lines_csv(wide, modalities, "cases", columns))
    return run
