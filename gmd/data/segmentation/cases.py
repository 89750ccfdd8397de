"""Finding cases on disk: which files are the modalities of one examination."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gmd.data.segmentation.channels import by_channels, in_images_folder, is_images_folder, read_channels
from gmd.data.segmentation.image_files import ImageFile, files_below, is_image, walk_folders
from gmd.data.segmentation.label_names import told_scheme
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.layouts import Group, Sorted, by_names, by_patterns
from gmd.data.segmentation.names import BRATS_MODALITIES, check_keys, examples
from gmd.errors import UserError

SAME_PLACE = 1e-3  # mm by which the affines of a case may differ


@dataclass(frozen=True)
class Case:
    """The files of one examination.

    Attributes:
        name: no other case of the data set is called so.
        images: modality -> its file, for the modalities that exist only, in canonical order; at least one.
        label: the label map, if there is one.
        mask: the brain mask, if there is one.
        scheme: what the values of the label map mean, if that is known.
        channels: modality -> its place on the fourth axis of the file, for all of that axis; empty if each file holds
            one modality.
        home: the folder of the case, if its images lie further down; see `folder`.
        affine_tolerance: mm by which the affines of its files may differ.
    """

    name: str
    images: dict[str, Path]
    label: Path | None = None
    mask: Path | None = None
    scheme: LabelScheme | None = None
    channels: dict[str, int] = field(default_factory=dict)
    home: Path | None = None
    affine_tolerance: float = SAME_PLACE

    @property
    def folder(self) -> Path:
        """Returns the folder that the case's files lie in, or below."""
        return self.home or next(iter(self.images.values())).parent


class Scan(NamedTuple):
    """What the files below a folder are.

    Attributes:
        cases: sorted by name, no two of one name.
        wrong: folder -> why what it holds is no case, or could be several things.
        unused: images that are part of no case.
    """

    cases: list[Case]
    wrong: dict[Path, str]
    unused: list[Path]


def find_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    require_label: bool = True,
    channels: Sequence[str] = (),
    scheme: LabelScheme | None = None,
    otherwise: LabelScheme | None = None,
) -> list[Case]:
    """Finds the cases at or below `root`, of which each may lack any of the modalities, in the layouts of `scan_cases`.

    modalities, patterns, channels: as in `scan_cases`
    scheme: what the label values mean; by default what BraTS's names of the files tell, see `told_scheme`
    otherwise: what the label values mean if the names leave it open, or patterns name the files
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
    if patterns and "mask" in patterns:  # to take another brain mask in some of the cases would be silent
        _check_none_lack([case for case in scan.cases if case.mask is None], "brain mask", patterns["mask"])
    for doubt in doubts(scan) if not patterns else ():
        warnings.warn(doubt, stacklevel=2)
    if scheme is None and patterns:
        scheme = otherwise
    elif scheme is None and require_label:
        scheme = told_scheme(root, [case.label for case in scan.cases if case.label], otherwise)
    return [replace(case, scheme=scheme) for case in scan.cases]


def scan_cases(
    root: Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    channels: Sequence[str] = (),
    leave_out: Path | None = None,
) -> Scan:
    """Sorts the images at and below `root` into cases.

    Files may be named as in BraTS (`<case>_t1ce.nii.gz`, from 2023 on `<case>-t1c.nii.gz`), with a folder for each case
    or all in one; or lie in folders for the modalities (`<case>/t1ce/scan.nii.gz`, `t1ce/<case>.nii.gz`); or be
    numbered as in the Medical Segmentation Decathlon and for nnU-Net (`imagesTr`, `labelsTr`). Capitals make no
    difference, here and in patterns: else a case whose FLAIR is called Flair would pass for one without it.

    modalities: their names, in the canonical order
    patterns: modality -> glob of the file's name inside the case folder; so too for the keys `seg` (labels)
        and `mask` (brain mask). Then each folder is one case.
    channels: what the numbers of images mean, from 0 on, if no `dataset.json` says it
    leave_out: a folder whose own files are none of the data set
    Raises UserError: no such folder; no case in it; a pattern for something that is no modality; numbered images of
        which nothing says what they are; images in several of these layouts.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; give the folder that holds the case folders")
    files = files_below(root)
    if leave_out is not None:
        away = leave_out.resolve()
        files = [file for file in files if file.path.parent.resolve() != away]
    told = () if patterns else read_channels(root, channels)
    check_keys(modalities, patterns, told)
    layout = by_patterns(files, patterns) if patterns else _by_names_or_numbers(files, root, told)
    none = [group for group in layout.groups if group.files.keys().isdisjoint(modalities)]
    cases = [(_case(root, group, modalities), group) for group in layout.groups if group not in none]
    unused = [file.path for file in layout.unused] + [path for group in none for path in group.files.values()]
    if not cases and not layout.wrong:
        raise UserError(_no_cases(root, modalities, patterns, files))
    return Scan(_with_unique_names(cases), layout.wrong, sorted(unused))


def _by_names_or_numbers(files: list[ImageFile], root: Path, channels: Sequence[str]) -> Sorted:
    """Sorts files that are named as in BraTS, or numbered. Raises UserError if some are the one, others the other."""
    named = by_names(files, root.resolve().name)
    with_images = [group for group in named.groups if group.files.keys() - {"seg"}]
    numbered = [file for file in named.unused if in_images_folder(file, root)]
    if not numbered and channels and not with_images:
        numbered = named.unused
    if not numbered:
        return named
    if not channels:
        raise UserError(
            f"{numbered[0].path}: its name does not say the modality. Say what the numbers of the images mean, or the "
            "places along their fourth axis, from 0 on: --channels flair t1 t1ce t2 for example"
        )
    if with_images:
        other = next(iter(with_images[0].files.values()))
        raise UserError(
            f"{root}: two layouts are mixed: {numbered[0].path} is numbered, {other} is named as in BraTS; keep each "
            "data set in its own folder (--data takes several)"
        )
    result = by_channels(numbered, root, channels)
    used = {path for group in result.groups for path in group.files.values()}
    result.wrong |= named.wrong
    result.unused += [file for file in named.unused if file.path not in used and file not in numbered]
    return result


def _case(root: Path, group: Group, modalities: Sequence[str]) -> Case:
    """Returns the case of a group's files. Its folder may have no counterpart on the disk: t1/P1, t2/P1 are one P1."""
    images = {modality: group.files[modality] for modality in modalities if modality in group.files}
    home = root.joinpath(*group.folders)
    if not home.is_dir():
        home = Path(os.path.commonpath([path.parent for path in images.values()]))
    name = group.name or (group.folders[-1] if group.folders else os.path.basename(os.path.abspath(root)))
    elsewhere = home if home != next(iter(images.values())).parent else None
    label, mask = group.files.get("seg"), group.files.get("mask")
    return Case(name, images, label, mask, channels=group.channels, home=elsewhere)


def _with_unique_names(named: list[tuple[Case, Group]]) -> list[Case]:
    """Returns the cases, sorted by name, where those of one name are called by their path, a__b for a/b.

    Raises UserError if two are still called alike.
    """
    times = Counter(case.name for case, _ in named)
    found: dict[str, Case] = {}
    for case, group in named:
        parts = [*group.folders, group.name] if group.name else group.folders
        name = case.name if times[case.name] == 1 else "__".join(parts)
        if name in found:
            raise UserError(f"{case.folder} and {found[name].folder} would both be called {name}; rename one")
        found[name] = replace(case, name=name)
    return [found[name] for name in sorted(found)]


def _labelled(scan: Scan, patterns: dict[str, str] | None) -> Scan:
    """Returns the cases that there are labels for, without the images that a challenge keeps the labels of to itself.

    Raises UserError for any other case without a label map.
    """
    if patterns and "seg" not in patterns:
        raise UserError("labels are needed, but there is no pattern for them; add seg=GLOB")
    with_labels = {case.folder for case in scan.cases if case.label}
    kept = [
        case for case in scan.cases if case.folder in with_labels or not is_images_folder(case.folder.resolve().name)
    ]
    kept = kept or scan.cases
    wanted = patterns["seg"] if patterns else "*_seg.nii.gz or *-seg.nii.gz, or as the image in labelsTr"
    _check_none_lack([case for case in kept if case.label is None], "label map", wanted)
    unused = [path for case in scan.cases if case not in kept for path in dict.fromkeys(case.images.values())]
    return scan._replace(cases=kept, unused=sorted([*scan.unused, *unused]))


def _check_none_lack(lacking: list[Case], what: str, wanted: str) -> None:
    if lacking:
        folder = lacking[0].folder
        names = ", ".join(sorted(os.listdir(folder))[:6])
        others = f" ({len(lacking) - 1} more cases lack it too)" if len(lacking) > 1 else ""
        raise UserError(
            f"{folder}: no {what} ({wanted}) of case {lacking[0].name}, only {names}{others}; "
            "add the file, rename it, or remove the case"
        )


def doubts(scan: Scan) -> list[str]:
    """Returns sentences on images that are part of no case, and on cases that may be parts of others."""
    found = []
    if scan.unused:
        count = len(scan.unused)
        these = (
            f"{count} images are part of no case and not used, as" if count > 1 else "part of no case, and not used:"
        )
        found.append(f"{these} {scan.unused[0]}. If they are to be, name them as the others, or give patterns")
    only = {next(iter(case.images)): case for case in scan.cases if len(case.images) == 1}
    if len(only) > 1 and all(len(case.images) == 1 for case in scan.cases):
        examples = ", ".join(f"{modality} in {case.folder}" for modality, case in only.items())
        found.append(f"every case has one modality, {examples}. If these are of one patient, put them into one folder")
    return found


def _no_cases(root: Path, modalities: Sequence[str], patterns: dict[str, str] | None, files: list[ImageFile]) -> str:
    """Returns the error message for a folder without cases: what was looked for, and what is there instead."""
    wanted = {key: glob for key, glob in (patterns or {}).items() if key in modalities}
    looked = ", ".join(f"{key}={glob}" for key, glob in wanted.items()) if patterns else examples(modalities)
    names = [file.name for file in files]
    names.sort(key=lambda name: not is_image(name))  # stable: images first, their names tell most
    seen = f"files there are, e.g., {', '.join(names[:4])}" if names else "there are no files"
    return (
        f"{root}: no case found in {sum(1 for _ in walk_folders(root))} folder(s). Looked for {looked}; {seen}. "
        "Give another folder, or patterns for your file names such as flair=*FLAIR*.nii.gz"
    )
