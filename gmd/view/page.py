"""The page of a case: fills in the templates with what is shown, volumes and all."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

import gmd
from gmd.errors import shown
from gmd.pictures.case import REGION_COLOURS
from gmd.subsets import subset_name
from gmd.view.case_view import CaseView, SubsetView
from gmd.view.run_case import WHAT_IT_DID
from gmd.view.voxels import in_letters

MARK = "<!DOCTYPE html>\n<!-- gmd view -->\n"  # what a page begins with, by which gmd knows it as its own
MOST_OPEN = 15  # subsets that are shown at once; of more, only small groups are unfolded
MOST_OF_OPEN_GROUP = 6
# of Okabe and Ito's colours those that no region has among three: found, found wrongly, missed
DIFFERENCES = (("in both", "#009E73"), ("predicted only", "#E69F00"), ("missed", "#CC79A7"))


class Shown(NamedTuple):
    """A prediction on the page: its place among all of them, its name, and its Dice in words."""

    place: int
    name: str
    dice: list[tuple[str, str]]


class Group(NamedTuple):
    """The predictions from as many modalities, foldable.

    Attributes:
        title: in words.
        about: their mean Dice, and the worst, in words; empty without a truth.
        unfolded: whether they are seen from the beginning.
        members: the predictions, worst first.
    """

    title: str
    about: str
    unfolded: bool
    members: list[Shown]


def page_of(seen: CaseView, run: str, checkpoint: str, split: str, regions: Sequence[str]) -> str:
    """Returns the page of a case: HTML with all that it needs in it. The same case gives the same text.

    run: the name of the run; checkpoint: in words; split: "train", "validation" or "test"
    regions: the names of the regions, in the order of the bits
    """
    environment = Environment(
        loader=PackageLoader("gmd.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colours = dict(zip(regions, REGION_COLOURS, strict=False))
    return MARK + environment.get_template("view.html.j2").render(
        name=shown(seen.name),
        run=shown(run),
        checkpoint=checkpoint,
        what_it_did=WHAT_IT_DID[split],
        sizes=_sizes(seen),
        modalities=list(seen.images),
        colours=colours,
        differences=DIFFERENCES,
        truth=seen.truth is not None,
        groups=_groups(seen),
        about=_about(seen, list(colours.values())),
        volumes=_volumes(seen),
        version=gmd.__version__,
    )


def _sizes(seen: CaseView) -> str:
    """Returns the grid of the case in words."""
    voxels, mm = (" x ".join(f"{side:.4g}" for side in sides) for sides in (seen.full, seen.spacing))
    return f"{voxels} voxels of {mm} mm"


def _about(seen: CaseView, colours: list[str]) -> dict[str, object]:
    """Returns what the script of the page has to know."""
    return {
        "shape": next(iter(seen.images.values())).shape,
        "full": seen.full,
        "origin": seen.origin,
        "spacing": seen.spacing,
        "start": seen.start,
        "modalities": list(seen.images),
        "predictions": [subset_name(one.subset) for one in seen.predictions],
        "truth": seen.truth is not None,
        "colours": colours,
        "differences": [colour for _, colour in DIFFERENCES],
    }


def _volumes(seen: CaseView) -> dict[str, str]:
    """Returns the volumes of the page: id of the element that holds it -> its letters."""
    found = {f"image-{place}": voxels for place, voxels in enumerate(seen.images.values())}
    found |= {} if seen.truth is None else {"truth": seen.truth}
    found |= {f"prediction-{place}": one.voxels for place, one in enumerate(seen.predictions)}
    return {name: in_letters(voxels) for name, voxels in found.items()}


def _groups(seen: CaseView) -> list[Group]:
    """Returns the predictions by the number of their modalities."""
    total, many = len(seen.images), len(seen.predictions) > MOST_OPEN
    groups = []
    for size, members in groupby(enumerate(seen.predictions), key=lambda each: len(each[1].subset)):
        those = list(members)
        title = f"{size} of {total} modalities" if total > 1 else "1 modality"
        unfolded = not many or len(those) <= MOST_OF_OPEN_GROUP
        groups.append(Group(title, _summary([one for _, one in those]), unfolded, [_shown(*each) for each in those]))
    return groups


def _summary(members: Sequence[SubsetView]) -> str:
    """Returns how good predictions are, worst first, in words; empty without a truth."""
    means = [one.mean for one in members if one.mean is not None]
    if not means:
        return ""
    mean = f"mean Dice {math.fsum(means) / len(means):.2f}"
    return mean if len(means) == 1 else f"{len(means)} subsets, {mean}, worst {means[0]:.2f}"


def _shown(place: int, one: SubsetView) -> Shown:
    """Returns a prediction as the page tells it."""
    return Shown(place, " + ".join(one.subset), [(region, f"{value:.2f}") for region, value in one.dice.items()])
