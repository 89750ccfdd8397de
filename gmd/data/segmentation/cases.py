"""Finding the cases of a data set on disk, and what their labels mean."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.channels import is_images_folder
from gmd.data.segmentation.label_names import told_scheme
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.scan import Scan, doubts, scan_cases
from gmd.errors import UserError
from gmd.files import real_path
from gmd.printing import warn

LABEL_NAMES = "*_seg.nii.gz or *-seg.nii.gz, or as the image in labelsTr; seg/*_seg.npy for vol/*_vol.npy"


class Usable(NamedTuple):
    """The cases of a folder, of which one that cannot be used stops no other.

    Attributes:
        cases: those that can be used as far as names tell, sorted by name.
        wrong: name of a case or of a folder -> why it cannot be used.
    """

    cases: list[Case]
    wrong: dict[str, str]


def find_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    require_label: bool = True,
    channels: Sequence[str] = (),
    scheme: LabelScheme | None = None,
) -> list[Case]:
    """Finds the cases as `usable_cases` does, all of which must be usable.

    Raises UserError: as `usable_cases`; a case or folder that it would call wrong.
    """
    root = Path(root)
    scan, wrong = _sorted(root, modalities, patterns, require_label, channels)
    if wrong:
        reason, *others = wrong.values()
        raise UserError(reason + (f" (and so {len(others)} more)" if others else ""))
    return _with_scheme(root, scan, patterns, require_label, scheme)


def usable_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    require_label: bool = True,
    channels: Sequence[str] = (),
    scheme: LabelScheme | None = None,
) -> Usable:
    """Finds the cases at or below `root`, of which each may lack any of the modalities, in the layouts of `scan_cases`.

    A folder whose files could be several things is wrong, and a case without a label map or brain mask where it is
    needed.

    modalities, patterns, channels: as in `scan_cases`
    scheme: what the label values mean; by default what BraTS's names of the files tell, see `told_scheme`
    Warns of `doubts`.
    Raises UserError: as `scan_cases`; no case that can be used; labels of which the names leave several meanings.
    """
    root = Path(root)
    scan, wrong = _sorted(root, modalities, patterns, require_label, channels)
    if not scan.cases:
        reason, *others = wrong.values()
        raise UserError(reason + (f" (and so {len(others)} more)" if others else ""))
    return Usable(_with_scheme(root, scan, patterns, require_label, scheme), wrong)


def _sorted(
    root: Path,
    modalities: Sequence[str],
    patterns: dict[str, str] | None,
    require_label: bool,
    channels: Sequence[str],
) -> tuple[Scan, dict[str, str]]:
    """Returns what there is, with the cases that can be used only, and what cannot: a name -> why."""
    scan = scan_cases(root, modalities, patterns, channels)
    wrong = {os.path.relpath(folder, root): reason for folder, reason in scan.wrong.items()}
    if require_label:
        if patterns and "seg" not in patterns:
            raise UserError("labels are needed, but there is no pattern for them; add seg=GLOB")
        scan = _without_kept_back(scan)
    lacking = {case.name: why for case in scan.cases if (why := _lacks(case, patterns or {}, require_label))}
    return scan._replace(cases=[case for case in scan.cases if case.name not in lacking]), wrong | lacking


def _lacks(case: Case, patterns: Mapping[str, str], require_label: bool) -> str:
    """Returns the sentence for a case that lacks a file which is needed; "" if it has what it needs."""
    if require_label and case.label is None:
        return _lacking(case, "label map", patterns.get("seg", LABEL_NAMES))
    if "mask" in patterns and case.mask is None:  # to take another brain mask in some of the cases would be silent
        return _lacking(case, "brain mask", patterns["mask"])
    return ""


def _with_scheme(
    root: Path, scan: Scan, patterns: dict[str, str] | None, require_label: bool, scheme: LabelScheme | None
) -> list[Case]:
    """Returns the cases, with what their label values mean, and warns of doubts."""
    for doubt in doubts(scan):
        warn(doubt, stacklevel=3)
    if not patterns:
        scheme = scheme or told_scheme(root, _labels_of(scan) if require_label else [])
    return [replace(case, scheme=scheme) for case in scan.cases]


def _labels_of(scan: Scan) -> list[Path]:
    return [case.label for case in scan.cases if case.label]


def _without_kept_back(scan: Scan) -> Scan:
    """Returns the scan without the cases of folders such as imagesTs, whose labels a challenge keeps to itself."""
    with_labels = {case.folder for case in scan.cases if case.label}
    folders = {case.folder for case in scan.cases if is_images_folder(real_path(case.folder).name)} - with_labels
    if not with_labels or not folders:
        return scan
    back = {path for case in scan.cases if case.folder in folders for path in case.images.values()}
    kept = [case for case in scan.cases if case.folder not in folders]
    return scan._replace(cases=kept, unused=sorted([*scan.unused, *back]))


def _lacking(case: Case, what: str, wanted: str) -> str:
    """Returns the sentence for a case that lacks a file. what: it lacks; wanted: what that is called"""
    names = ", ".join(sorted(os.listdir(case.folder))[:6])
    return (
        f"{case.folder}: no {what} ({wanted}) of case {case.name}, only {names}; "
        "add the file, rename it, or remove the case"
    )
