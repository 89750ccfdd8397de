"""Finding the cases of a data set on disk, and what their labels mean."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.channels import is_images_folder
from gmd.data.segmentation.label_names import told_scheme
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.scan import Scan, doubts, scan_cases
from gmd.errors import UserError


def find_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    require_label: bool = True,
    channels: Sequence[str] = (),
    scheme: LabelScheme | None = None,
) -> list[Case]:
    """Finds the cases at or below `root`, of which each may lack any of the modalities, in the layouts of `scan_cases`.

    modalities, patterns, channels: as in `scan_cases`
    scheme: what the label values mean; by default what BraTS's names of the files tell, see `told_scheme`
    returns the cases, sorted by name. Warns of `doubts`.
    Raises UserError: as `scan_cases`; a folder whose files could be several things; no label map or brain mask where it
        is needed; labels of which the names leave several meanings.
    """
    root = Path(root)
    scan = scan_cases(root, modalities, patterns, channels)
    if scan.wrong:
        reason, *others = scan.wrong.values()
        raise UserError(reason + (f" (and so {len(others)} more)" if others else ""))
    if require_label:
        scan = _labelled(scan, patterns)
    for doubt in doubts(scan):
        warnings.warn(doubt, stacklevel=2)
    if not patterns:
        scheme = scheme or told_scheme(root, _labels_of(scan) if require_label else [])
    elif "mask" in patterns:  # to take another brain mask in some of the cases would be silent
        _check_none_lack([case for case in scan.cases if case.mask is None], "brain mask", patterns["mask"])
    return [replace(case, scheme=scheme) for case in scan.cases]


def _labels_of(scan: Scan) -> list[Path]:
    return [case.label for case in scan.cases if case.label]


def _labelled(scan: Scan, patterns: dict[str, str] | None) -> Scan:
    """Returns the scan with the cases that there are labels for.

    Raises UserError for any other case without a label map.
    """
    if patterns and "seg" not in patterns:
        raise UserError("labels are needed, but there is no pattern for them; add seg=GLOB")
    kept = _without_kept_back(scan)
    wanted = patterns["seg"] if patterns else "*_seg.nii.gz or *-seg.nii.gz, or as the image in labelsTr"
    _check_none_lack([case for case in kept.cases if case.label is None], "label map", wanted)
    return kept


def _without_kept_back(scan: Scan) -> Scan:
    """Returns the scan without the cases of folders such as imagesTs, whose labels a challenge keeps to itself."""
    with_labels = {case.folder for case in scan.cases if case.label}
    folders = {case.folder for case in scan.cases if is_images_folder(case.folder.resolve().name)} - with_labels
    if not with_labels or not folders:
        return scan
    back = {path for case in scan.cases if case.folder in folders for path in case.images.values()}
    kept = [case for case in scan.cases if case.folder not in folders]
    return scan._replace(cases=kept, unused=sorted([*scan.unused, *back]))


def _check_none_lack(lacking: list[Case], what: str, wanted: str) -> None:
    if lacking:
        folder = lacking[0].folder
        names = ", ".join(sorted(os.listdir(folder))[:6])
        others = f" ({len(lacking) - 1} more cases lack it too)" if len(lacking) > 1 else ""
        raise UserError(
            f"{folder}: no {what} ({wanted}) of case {lacking[0].name}, only {names}{others}; "
            "add the file, rename it, or remove the case"
        )
