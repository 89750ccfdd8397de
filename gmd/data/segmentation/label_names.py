"""What the names of a data set's files tell of its label values; the values themselves are never asked.

The challenges of BraTS give their cases names, and number their labels each in its own way.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES, listed
from gmd.errors import UserError

# the first that is found in the path of a label map counts: pattern -> the schemes that it leaves
_TOLD: dict[str, tuple[str, ...]] = {
    r"BraTS-GLI-\d+-1\d\d": ("brats2024-gli",),  # examinations after treatment are counted from 100
    r"BraTS-GLI-\d+-\d+|BraTS-SSA-\d+": ("brats2023",),
    # those of 2025 are called the same; their labels 1 to 3 mean the same
    r"BraTS-MET-\d+": ("brats2023-met",),
    r"BraTS-?2023-?PEDs?(?!\d).*BraTS-PED-\d+|BraTS-PEDs?-?2023(?!\d).*BraTS-PED-\d+": ("brats2023-ped",),
    r"BraTS-?202[45]-?PEDs?(?!\d).*BraTS-PED-\d+|BraTS-PEDs?-?202[45](?!\d).*BraTS-PED-\d+": ("brats2024-ped",),
    r"BraTS-PED-\d+": ("brats2023-ped", "brats2024-ped"),
    r"BraTS-MEN-RT-\d+": ("brats2024-men-rt",),
    r"BraTS-MEN-\d+": ("brats2023-men",),
    r"(VSD\.Brain|brats_(2013|tcia)_pat\d+).*\.npy$": ("brats2015",),  # of which RFNet leaves the numbers as they are
    r"_seg\.npy$": ("rfnet",),
    r"Brats1[789]_|BraTS20_(Training|Validation)_\d+|BraTS2021_\d+": ("brats2018",),
    r"VSD\.Brain|brats_(2013|tcia)_pat\d+": ("brats2015",),
    r"Task01_BrainTumour|labelsTr/BRATS_\d{3}(?!\d)": ("msd",),
    r"\bBRATS_\d{3}(?!\d)": ("msd", "brats2018"),  # the decathlon's cases, perhaps with labels of their source
}
# no name of a data set: only the way in which BraTS calls its files, which changed in 2023
_STYLES: dict[str, tuple[str, ...]] = {
    r"_seg\.nii(\.gz)?$": ("brats2018",),
    r"-seg\.nii(\.gz)?$": (
        *("brats2023", "brats2024-gli", "brats2023-met", "brats2025-met"),
        *("brats2023-ped", "brats2024-ped", "brats2023-men"),
    ),
}


def told_scheme(root: Path, labels: Sequence[Path], otherwise: LabelScheme | None = None) -> LabelScheme | None:
    """Returns what the label values of a data set mean, as the paths of its label maps tell; None if they do not.

    Where a part of the cases has further values and regions, as glioma after treatment has beside that before, it is
    the scheme of that part, in which the other values mean the same.

    root: of the data set, for messages
    otherwise: the scheme to take where the names leave it open, if it is among those that they leave
    Raises UserError if the names leave several schemes, or tell several that do not go together.
    """
    left: dict[tuple[str, ...], Path] = {}
    for path in labels:
        left.setdefault(left_by_names(path), path)
    if len(left) <= 1:
        return _only(root, next(iter(left), ()), otherwise)
    alone = [SCHEMES[names[0]] for names in left if len(names) == 1]
    for scheme in alone if len(alone) == len(left) else ():
        if all(scheme.includes(other) for other in alone):
            return scheme
    examples = " and ".join(f"{path} ({' or '.join(names) or 'unknown'})" for names, path in left.items())
    raise UserError(
        f"{root}: two namings are mixed, with other label values or meanings: {examples}; keep each data set in its "
        "own folder (--data takes several), or give --labels"
    )


def denied_by_names(root: Path, labels: Sequence[Path], scheme: LabelScheme) -> str:
    """Returns a sentence if label maps have the names of a data set with other label values than those of `scheme`.

    A scheme of a user's own is not doubted. root: of the data set; returns "" if there is nothing to say
    """
    for path in labels if SCHEMES.get(scheme.name) == scheme else ():
        told = [SCHEMES[name] for name in _left_by(path, _TOLD)]
        if told and not any(scheme.includes(other) for other in told):
            return (
                f"the labels of {root} are read as {scheme.name} ({scheme.described()}), as --labels says, but the "
                f"name of {path.name} tells {' or '.join(other.name for other in told)} ({told[0].described()})"
            )
    return ""


def left_by_names(label: Path) -> tuple[str, ...]:
    """Returns the names of the schemes that the path of a label map leaves; none if it tells nothing."""
    return _left_by(label, _TOLD | _STYLES)


def _left_by(label: Path, patterns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the names of the schemes that the path of a label map leaves."""
    path = Path(os.path.abspath(label)).as_posix()  # so that `.` tells what the folder's name does
    return next((names for pattern, names in patterns.items() if re.search(pattern, path, re.IGNORECASE)), ())


def _only(root: Path, names: tuple[str, ...], otherwise: LabelScheme | None) -> LabelScheme | None:
    """Returns the one scheme of these names, or `otherwise`. Raises UserError if there are several to choose from."""
    schemes = [SCHEMES[name] for name in names]
    if len(schemes) == 1:
        return schemes[0]
    if not schemes or otherwise in schemes:
        return otherwise
    raise UserError(
        f"{root}: the names of the files leave open what the label values mean. The documentation of the data set says "
        "it: give --labels with one of these names, or with a YAML file of your own:",
        listed(schemes),
    )
