"""What a run predicts, from what its splits.json says of the data."""

from collections.abc import Mapping
from typing import Any

from gmd.data.sequences.samples import LARGEST_SCORE
from gmd.scoring.outcomes import Outcome


def outcomes_of(about: Mapping[str, Any]) -> tuple[Outcome, ...]:
    """Returns what is predicted.

    about: of a splits.json, with the "outputs" of a manifest, or the "classes" and the "unit" of sequences. Scores
        without a unit are taken for those on MOSI's scale; those on others are judged by a metric of the same name
    """
    if "outputs" not in about:
        unit = about.get("unit")
        return (Outcome("", about["classes"], *((None, *unit) if unit else (LARGEST_SCORE,))),)
    return tuple(Outcome(each["name"], each["classes"], None, each["mean"], each["std"]) for each in about["outputs"])
