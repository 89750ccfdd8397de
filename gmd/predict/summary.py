"""Says of a prediction which modalities it lacked, how much it found, and how the run scores for such a case."""

import csv
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.errors import UserError
from gmd.evaluation.outdated import scored_channels, why_outdated
from gmd.evaluation.scored_checkpoint import scored_checkpoint
from gmd.files import read_text
from gmd.predict.request import Job
from gmd.subsets import Subset, subset_name


def region_volumes(labels: Tensor, affine: np.ndarray, scheme: LabelScheme) -> dict[str, float]:
    """Returns the volume of each region in ml.

    labels: uint8 [X, Y, Z] with the values of the scheme; affine: [4, 4], voxel indices to mm
    """
    voxel = abs(np.linalg.det(affine[:3, :3])) / 1000
    counts = regions_of(labels, scheme).sum(dim=(1, 2, 3)).tolist()
    return {region: float(voxel * count) for region, count in zip(scheme.regions, counts, strict=True)}


def case_line(job: Job, present: Subset, modalities: Sequence[str], volumes: dict[str, float]) -> str:
    """Returns the line on a case: the modalities it was predicted from, how much was found, what was written.

    present: the modalities that it was predicted from; modalities: all that the network has; volumes: region -> ml
    """
    missing = [m for m in modalities if m not in job.case.images]
    constant = [m for m in job.case.images if m not in present]
    absent = [
        f"{what}: {', '.join(those)}" for what, those in (("missing", missing), ("one value only", constant)) if those
    ]
    source = f"from {', '.join(present)}" + (f" ({'; '.join(absent)})" if absent else "")
    found = ", ".join(f"{region} {_millilitres(volume)}" for region, volume in volumes.items())
    empty = [region for region, volume in volumes.items() if not volume]
    warning = f"; warning: not a voxel of {' or '.join(empty)}" if empty else ""
    return f"{job.case.name}, {source}: {found}{warning}; written: {' and '.join(map(str, job.outputs))}"


MOST_TEXT = 2**24  # bytes of a table.csv, which has some kB


def score_line(run: Path, present: Subset, regions: Sequence[str]) -> str:
    """Returns sentences on how the run scored for exactly this subset, if it has been evaluated; and if that holds.

    Raises UserError for a table.csv that is damaged; OSError if it cannot be read.
    """
    results, again = run / "evaluation", f"gmd evaluate {shlex.quote(str(run))}"
    table = results / "table.csv"
    these = f"With {', '.join(present)} {run.resolve().name}"
    if not os.path.lexists(table):
        return f"How good that is, {again} would tell; it has not been run."
    tested, dice_of = _row_of(table, present, regions)
    if not tested:
        return f"{these} was never tested: no case of its evaluation has these modalities."
    dice = ", ".join(f"{region} {value:.3f}" for region, value in dice_of.items())
    what = "" if scored_channels(results) else "the label maps of "
    cases = f"{what}{tested} case{'s' * (tested != 1)}"
    of = f" of {scored}" if (scored := scored_checkpoint(results)) else ""
    warning = f" That is outdated: {changed}; {again} again." if (changed := why_outdated(run, results)) else ""
    return f"{these} scored a mean Dice of {dice} in its evaluation{of}, over {cases}.{warning}"


def _row_of(table: Path, present: Subset, regions: Sequence[str]) -> tuple[int, dict[str, float]]:
    """Reads a subset's row of a table.csv: how many cases it is of, and each region's Dice; none for no case.

    Raises UserError if there is no such row, or one with other values than scores.
    """
    try:
        lines = csv.DictReader(read_text(table, MOST_TEXT).splitlines())
        [row] = [row for row in lines if row["subset"] == subset_name(present)]
        tested = int(row["cases"])
        dice = {region: float(row[region]) for region in regions} if tested else {}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{table}: is damaged ({type(error).__name__}: {error}); evaluate the run again") from error
    if tested < 0 or not all(0 <= value <= 1 for value in dice.values()):
        raise UserError(f"{table}: has a Dice outside [0, 1], or fewer cases than none; evaluate the run again")
    return tested, dice


def _millilitres(volume: float) -> str:
    """Returns a volume with at least two digits: small lesions are a few voxels of a cubic millimetre."""
    return f"{volume:.1f} ml" if volume >= 10 else f"{volume:.2g} ml"
