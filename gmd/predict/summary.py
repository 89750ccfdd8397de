"""Says of a prediction which modalities it lacked, how much it found, and how the run scores for such a case."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.spreadsheet_cells import unguarded
from gmd.evaluation.outdated import scored_channels, why_outdated
from gmd.evaluation.scored_checkpoint import scored_checkpoint
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


def score_line(run: Path, present: Subset, regions: Sequence[str]) -> str:
    """Returns sentences on how the run scored for exactly this subset, if it has been evaluated; and if that holds."""
    results, again = run / "evaluation", f"gmd evaluate {shlex.quote(str(run))}"
    table = results / "table.csv"
    these = f"With {', '.join(present)} {run.resolve().name}"
    if not table.exists():
        return f"How good that is, {again} would tell; it has not been run."
    with open(table, newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *lines = map(unguarded, csv.reader(file))
    [row] = [dict(zip(header, line, strict=True)) for line in lines if line[0] == subset_name(present)]
    if not int(row["cases"]):
        return f"{these} was never tested: no case of its evaluation has these modalities."
    dice = ", ".join(f"{region} {float(row[region]):.3f}" for region in regions)
    what = "" if scored_channels(results) else "the label maps of "
    cases = f"{what}{row['cases']} case{'s' * (row['cases'] != '1')}"
    of = f" of {scored}" if (scored := scored_checkpoint(results)) else ""
    warning = f" That is outdated: {changed}; {again} again." if (changed := why_outdated(run, results)) else ""
    return f"{these} scored a mean Dice of {dice} in its evaluation{of}, over {cases}.{warning}"


def _millilitres(volume: float) -> str:
    """Returns a volume with at least two digits: small lesions are a few voxels of a cubic millimetre."""
    return f"{volume:.1f} ml" if volume >= 10 else f"{volume:.2g} ml"
