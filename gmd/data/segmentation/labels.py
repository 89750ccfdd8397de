"""What the label values of a data set mean, and the regions that are trained and scored."""

from dataclasses import dataclass

import numpy as np

from gmd.errors import UserError


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Attributes:
        name: what users and files call the scheme.
        regions: region -> the label values that it consists of; regions may overlap.
        background: the label values that belong to no region.
    """

    name: str
    regions: dict[str, tuple[int, ...]]
    background: tuple[int, ...] = (0,)

    @property
    def values(self) -> tuple[int, ...]:
        """Returns every label value that may occur, ascending."""
        return tuple(sorted(set(self.background).union(*self.regions.values())))


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        # 1 necrosis, 2 oedema, 3 non-enhancing core, 4 enhancing
        LabelScheme("brats2015", {"WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,)}),
        # 2018-2021: necrosis and non-enhancing core are both 1, and 3 is not used
        LabelScheme("brats2018", {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}),
        # 2023 on: enhancing moved from 4 to 3
        LabelScheme("brats2023", {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}),
        LabelScheme("binary", {"lesion": (1,)}),
    )
}

_TOLERANCE = 1e-3  # files with a scale factor in the header hold 0.99999997 for 1


def region_targets(labels: np.ndarray, scheme: LabelScheme, where: str) -> np.ndarray:
    """Makes a label map the targets of the scheme: one 0/1 map per region, in the scheme's order.

    labels: [X, Y, Z], any real numeric type
    where: what the labels come from, such as a file, for the error message
    returns uint8 [R, X, Y, Z]
    Raises UserError for a value that the scheme does not know.
    """
    whole = np.rint(labels)
    known = np.isin(whole, scheme.values) & (np.abs(labels - whole) <= _TOLERANCE)
    if not known.all():
        raise UserError(_unknown_labels(np.unique(labels), scheme, where))
    return np.stack([np.isin(whole, values) for values in scheme.regions.values()]).astype(np.uint8)


def _unknown_labels(found: np.ndarray, scheme: LabelScheme, where: str) -> str:
    """Returns the error message for label values, ascending, of which the scheme does not know some."""

    def fits(other: LabelScheme) -> bool:
        return bool(np.isclose(found[:, None], other.values, rtol=0, atol=_TOLERANCE).any(axis=1).all())

    listed = ", ".join(f"{value:g}" for value in found[:10]) + (", ..." if len(found) > 10 else "")
    fitting = [other.name for other in SCHEMES.values() if fits(other)]
    if fitting:
        advice = f"these values fit the label scheme {' or '.join(fitting)}"
    else:
        advice = "no known scheme has these values; is this file a label map?"
    return (
        f"{where}: label values {listed} found, but scheme {scheme.name!r} has only "
        f"{', '.join(map(str, scheme.values))}; {advice}"
    )
