"""The data of a run and how they were split, from its splits.json."""

from collections.abc import Sequence
from typing import NamedTuple

from gmd.data import SPLITS
from gmd.report.facts import Fact
from gmd.training.saved_run import SavedSplits


class Split(NamedTuple):
    """The cases or samples of one split.

    Attributes:
        name: "train", "validation" or "test".
        names: of the cases or samples.
        patients: how many there are; None where the run does not say whose the cases are.
    """

    name: str
    names: Sequence[str]
    patients: int | None


def splits(described: SavedSplits) -> list[Split]:
    """Returns the three splits of a run. described: its splits.json. Raises UserError if that does not list them."""
    return [_split(name, described.cases(name)) for name in SPLITS]


def _split(name: str, members: Sequence[dict]) -> Split:
    """Returns one split. members: its cases or samples as splits.json has them"""
    patients = {member.get("patient") for member in members}
    return Split(name, [member["name"] for member in members], None if None in patients else len(patients))


def data_facts(described: SavedSplits) -> list[Fact]:
    """Returns where the data are, the number of the fold, and what the reader of the data said of them.

    described: the run's splits.json
    """
    known = [Fact("Data", described["data"])]
    if described.get("folds") is not None:
        known.append(Fact("Fold", f"{described['fold']} of {described['folds']}, counted from 0"))
    about = described.get("about") or {}
    if "features" in about:
        known.append(Fact("Features", ", ".join(f"{m} {size}" for m, size in about["features"].items())))
    if "inputs" in about:
        inputs = (f"{m} ({kind}: {_sizes(sizes)})" for m, (kind, sizes) in about["inputs"].items())
        known.append(Fact("Inputs", ", ".join(inputs)))
    for output in about.get("outputs", ()):
        named = f"{output['name']}: " if output["name"] else ""
        known.append(Fact("Output", f"{named}{', '.join(output['classes']) if output['classes'] else 'a number'}"))
    if about.get("classes"):
        known.append(Fact("Classes", ", ".join(map(str, about["classes"]))))
    return known + [Fact("Note", note) for note in described.get("notes", ())]


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{size} {number}" for size, number in sizes.items())
