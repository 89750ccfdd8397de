"""Says of a prediction which modalities it lacked, how much it found, and how the run scores for such a case."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.text_files import EVALUATE_AGAIN, damaged
from gmd.evaluation.outdated import scored_channels, why_outdated
from gmd.evaluation.scored_checkpoint import scored_checkpoint
from gmd.files import real_path
from gmd.predict.request import Job
from gmd.scoring.read_back import read_table
from gmd.subsets import Subset, subset_name
from gmd.training.run_files import EVALUATION


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


def score_line(run: Path, present: Subset, modalities: Sequence[str], regions: Sequence[str]) -> str:
    """Returns sentences on how the run scored for exactly this subset, if it has been evaluated; and if that holds.

    modalities, regions: all that the network has, in its order
    Raises UserError for a table.csv that is damaged; OSError if it cannot be read.
    """
    results, again = run / EVALUATION, f"gmd evaluate {shlex.quote(str(run))}"
    table = results / "table.csv"
    these = f"With {', '.join(present)} {real_path(run).name}"
    if not os.path.lexists(table):
        return f"How good that is, {again} would tell; it has not been run."
    tested, dice_of = _row_of(table, present, modalities, regions)
    if not tested:
        return f"{these} was never tested: no case of its evaluation has these modalities."
    dice = ", ".join(f"{region} {value:.3f}" for region, value in dice_of.items())
    what = "" if scored_channels(results) else "the label maps of "
    cases = f"{what}{tested} case{'s' * (tested != 1)}"
    of = f" of {scored}" if (scored := scored_checkpoint(results)) else ""
    warning = f" That is outdated: {changed}; {again} again." if (changed := why_outdated(run, results)) else ""
    return f"{these} scored a mean Dice of {dice} in its evaluation{of}, over {cases}.{warning}"


def _row_of(
    table: Path, present: Subset, modalities: Sequence[str], regions: Sequence[str]
) -> tuple[int, dict[str, float]]:
    """Reads a subset's row of a table.csv: how many cases it is of, and each region's Dice; none for no case.

    Raises UserError if there is no such row, or a table that no evaluation has written.
    """
    _, columns, lines = read_table(table, modalities)
    line = next((line for line in lines if line.subset == present), None)
    if line is None or not set(regions) <= set(columns):
        raise damaged(table, f"has no row of {subset_name(present)} with {', '.join(regions)}", EVALUATE_AGAIN)
    if not line.scored:
        return 0, {}
    dice = {region: line.cells[columns.index(region)] for region in regions}
    if texts := [text for text in dice.values() if isinstance(text, str)]:
        raise damaged(table, f"{subset_name(present)} has {texts[0]!r} where a Dice should be", EVALUATE_AGAIN)
    return line.scored, {region: float(value) for region, value in dice.items()}


def _millilitres(volume: float) -> str:
    """Returns a volume with at least two digits: small lesions are a few voxels of a cubic millimetre."""
    return f"{volume:.1f} ml" if volume >= 10 else f"{volume:.2g} ml"
