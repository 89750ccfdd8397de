"""Whether the results of an evaluation say how good a run is now: of which checkpoint they are, and of what output."""

from pathlib import Path

from gmd.evaluation.scored_checkpoint import checkpoint_change
from gmd.training.run_files import SCORED_RECORD

LABEL_MAPS = "label maps"


def why_outdated(run: Path, results: Path) -> str:
    """Returns why the results of a run are outdated, in words for a sentence; empty if they are not.

    Raises UserError if the run's checkpoint cannot be read.
    """
    if changed := checkpoint_change(run, results):
        return changed
    return "an earlier gmd scored the network's channels, not the label maps" if scored_channels(results) else ""


def scored_channels(results: Path) -> bool:
    """Returns whether the results of a segmentation are of an earlier gmd, which scored the network's channels as such.

    The label map that is written may differ from them: there a voxel of ET is one of TC and WT too.
    """
    return (results / "cases.csv").exists() and not (results / SCORED_RECORD).exists()
