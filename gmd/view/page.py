"""The page of a case: fills in the templates with what is shown, volumes and all."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

import gmd
from gmd.errors import shown
from gmd.pictures.case import REGION_COLOURS
from gmd.report.html_templates import html_templates
from gmd.subsets import subset_name
from gmd.training.run_files import PAGE_MARK
from gmd.view.case_view import CaseView, SubsetView
from gmd.view.voxels import in_letters

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
        about: their mean Dice, and the worst, in words.
        unfolded: whether they are seen from the beginning.
        members: the predictions, worst first.
    """

    title: str
    about: str
    unfolded: bool
    members: list[Shown]


def page_of(
    seen: CaseView, run: str, checkpoint: str, what_it_did: str, regions: Sequence[str], modalities: Sequence[str]
) -> str:
    """Returns the page of a case: HTML with all that it needs in it. The same case gives the same text.

    run: the name of the run; checkpoint: in words; what_it_did: what the case was to the network, in a sentence
    regions: the names of the regions, in the order of the bits; modalities: those of the run
    """
    colours = dict(zip(regions, REGION_COLOURS[: len(regions)], strict=True))
    return PAGE_MARK + html_templates("gmd.view").get_template("view.html.j2").render(
        name=shown(seen.name),
        run=shown(run),
        checkpoint=checkpoint,
        what_it_did=what_it_did,
        lacking=_lacking([shown(modality) for modality in modalities if modality not in seen.images]),
        sizes=_sizes(seen),
        images=list(enumerate(seen.images)),
        colours=colours,
        differences=DIFFERENCES,
        groups=_groups(seen),
        about=_about(seen, list(colours.values())),
        volumes=_volumes(seen),
        version=gmd.__version__,
    )


def _lacking(absent: Sequence[str]) -> str:
    """Returns the sentence on the modalities of the run that a case lacks; empty if it has all."""
    if not absent:
        return ""
    *first, last = absent
    return f"The case lacks {', '.join(first)} and {last}." if first else f"The case lacks {last}."


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
        "colours": colours,
        "differences": [colour for _, colour in DIFFERENCES],
    }


def _volumes(seen: CaseView) -> dict[str, str]:
    """Returns the volumes of the page: id of the element that holds it -> its letters."""
    found = {f"image-{place}": voxels for place, voxels in enumerate(seen.images.values())} | {"truth": seen.truth}
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
    """Returns how good predictions are, worst first, in words."""
    means = [one.mean for one in members]
    mean = f"mean Dice {fmean(means):.2f}"
    return mean if len(means) == 1 else f"{len(means)} subsets, {mean}, worst {means[0]:.2f}"


def _shown(place: int, one: SubsetView) -> Shown:
    """Returns a prediction as the page tells it."""
    return Shown(place, " + ".join(one.subset), [(region, f"{value:.2f}") for region, value in one.dice.items()])
