"""Sorts the images below a folder into cases, whichever way they are laid out."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.channels import by_channels, in_images_folder, read_channels
from gmd.data.segmentation.image_files import ImageFile, files_below, is_image, walk_folders
from gmd.data.segmentation.layouts import Group, Sorted, by_names, by_patterns
from gmd.data.segmentation.names import BRATS_MODALITIES, check_keys, examples, of_file
from gmd.data.segmentation.npy_layout import CHANNELS, by_npy, is_volumes
from gmd.errors import UserError
from gmd.files import real_path


class Scan(NamedTuple):
    """What the files below a folder are.

    Attributes:
        cases: sorted by name, no two of one name.
        wrong: folder -> why what it holds is no case, or could be several things.
        unused: images that are part of no case.
        others: images of cases that have none of the modalities.
    """

    cases: list[Case]
    wrong: dict[Path, str]
    unused: list[Path]
    others: list[Path]


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
    numbered as in the Medical Segmentation Decathlon and for nnU-Net (`imagesTr`, `labelsTr`); or be arrays of numpy as
    of RFNet (`vol/<case>_vol.npy`). Capitals make no difference, here and in patterns: else a case whose FLAIR is
    called Flair would pass for one without it.

    modalities: their names, in the canonical order
    patterns: modality -> glob of the file's name inside the case folder; so too for the keys `seg` (labels)
        and `mask` (brain mask). Then each folder is one case.
    channels: what the numbers of images mean, from 0 on, if no `dataset.json` says it; of arrays, the fourth axis
    leave_out: a folder whose own files are none of the data set
    A folder that cannot be looked into is wrong, and so is the second of two cases that would have one name.
    Raises UserError: no such folder; no case in it; a pattern for something that is no modality; numbered images of
        which nothing says what they are; images in several of these layouts.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; give the folder that holds the case folders")
    below = files_below(root)
    files = [file for file in below.files if leave_out is None or not _lies_in(file, leave_out)]
    if patterns:
        check_keys(modalities, patterns)
        layout = by_patterns(files, patterns)
    else:
        layout = _by_names_or_numbers(files, root, modalities, channels)
    layout.wrong |= below.closed
    scan = _scan_of(layout, root, modalities)
    if not scan.cases and not scan.wrong:
        raise UserError(_no_cases(root, modalities, patterns, files))
    return scan


def doubts(scan: Scan) -> list[str]:
    """Returns sentences on images that are part of no case, and on cases that may be parts of others."""
    found = []
    if scan.unused:
        count = len(scan.unused)
        these = (
            f"{count} images are part of no case and not used, as" if count > 1 else "part of no case, and not used:"
        )
        found.append(f"{these} {scan.unused[0]}. If they are to be, name them as the others, or train with --patterns")
    for one, other in _perhaps_one(scan.cases):
        found.append(
            f"{one} and {other} count as two cases of one modality each. If they are of one patient, as their names "
            "say, put its modalities into one folder"
        )
    return found


def _perhaps_one(cases: list[Case]) -> list[tuple[Path, Path]]:
    """Returns two images, each alone in its case, that by their names are different modalities of one patient."""
    first: dict[str, tuple[str, Path]] = {}
    for modality, path in (image for case in cases if len(case.images) == 1 for image in case.images.items()):
        named = of_file(path.name)
        before, other = first.setdefault(named[0].lower() if named else str(path), (modality, path))
        if before != modality:
            return [(other, path)]
    return []


def _lies_in(file: ImageFile, folder: Path) -> bool:
    return real_path(file.path.parent) == real_path(folder)


def _by_names_or_numbers(files: list[ImageFile], root: Path, modalities: Sequence[str], given: Sequence[str]) -> Sorted:
    """Sorts files that are named as in BraTS, numbered, or arrays. Raises UserError for files of several of these.

    given: what the numbers mean, if the user says it
    """
    named = by_names(files, real_path(root).name)
    with_images = [group for group in named.groups if group.files.keys() - {"seg"}]
    if volumes := [file for file in files if is_volumes(file)]:
        return _by_npy(volumes, root, modalities, given, with_images)
    numbered = [file for file in named.unused if in_images_folder(file, root)]
    if not numbered and not with_images and given:
        numbered = named.unused
    channels = read_channels(root, given) if numbered else ()
    check_keys(modalities, None, channels)
    if not numbered:
        return named
    _check_numbered(numbered[0], root, channels, with_images)
    result = by_channels(numbered, root, channels)
    result.wrong |= named.wrong
    result.unused += _without(named.unused, numbered, result.groups)
    return result


def _by_npy(
    volumes: list[ImageFile], root: Path, modalities: Sequence[str], given: Sequence[str], others: Sequence[Group]
) -> Sorted:
    """Sorts volumes that are arrays of numpy. Raises UserError if there are other images. given: as --channels"""
    check_keys(modalities, None, given or CHANNELS)
    _check_not_mixed(root, others, f"{volumes[0].path} holds volumes of numpy")
    return by_npy(volumes, given)


def _without(files: list[ImageFile], numbered: list[ImageFile], groups: list[Group]) -> list[ImageFile]:
    """Returns those of the files that are neither numbered images nor the label maps of such."""
    used = {path for group in groups for path in group.files.values()}
    return [file for file in set(files).difference(numbered) if file.path not in used]


def _check_numbered(first: ImageFile, root: Path, channels: Sequence[str], with_images: Sequence[Group]) -> None:
    """Raises UserError if nothing says what the numbers mean, or if other images do not have any."""
    if not channels:
        raise UserError(
            f"{first.path}: its name does not say the modality. Say what the numbers of the images mean, or the places "
            "along their fourth axis, from 0 on: --channels flair t1 t1ce t2 for example"
        )
    _check_not_mixed(root, with_images, f"{first.path} is numbered")


def _check_not_mixed(root: Path, with_images: Sequence[Group], what: str) -> None:
    """Raises UserError if other images are named as in BraTS. what: another file is, in words"""
    if with_images:
        other = next(iter(with_images[0].files.values()))
        raise UserError(
            f"{root}: two layouts are mixed: {what}, {other} is named as in BraTS; keep each data set in its own "
            "folder (--data takes several)"
        )


def _scan_of(layout: Sorted, root: Path, modalities: Sequence[str]) -> Scan:
    """Returns the groups with images of the modalities as cases, and what the other files are."""
    cases: list[tuple[Case, Group]] = []
    unused = [file.path for file in layout.unused]
    others: list[Path] = []
    for group in layout.groups:
        if not group.files.keys().isdisjoint(modalities):
            cases.append((_case(root, group, modalities), group))
        elif group.files.keys() <= {"seg", "mask"}:
            unused += group.files.values()
        else:
            others += group.files.values()
    named, alike = _with_unique_names(cases)
    return Scan(named, layout.wrong | alike, sorted(unused), others)


def _case(root: Path, group: Group, modalities: Sequence[str]) -> Case:
    """Returns the case of a group's files. Its folder may have no counterpart on the disk: t1/P1, t2/P1 are one P1."""
    images = {modality: group.files[modality] for modality in modalities if modality in group.files}
    home = root.joinpath(*group.folders)
    if not home.is_dir():
        home = Path(os.path.commonpath([path.parent for path in images.values()]))
    name = group.name or os.path.basename(os.path.abspath(root.joinpath(*group.folders)))
    elsewhere = home if home != next(iter(images.values())).parent else None
    label, mask = group.files.get("seg"), group.files.get("mask")
    return Case(name, images, label, mask, channels=group.channels, home=elsewhere)


def _with_unique_names(named: list[tuple[Case, Group]]) -> tuple[list[Case], dict[Path, str]]:
    """Returns the cases, sorted by name, where those of one name are called by their path, a__b for a/b.

    Of two that are still called alike the second is none of them; returned too: its folder -> why.
    """
    times = Counter(case.name for case, _ in named)
    found: dict[str, Case] = {}
    alike: dict[Path, str] = {}
    for case, group in named:
        parts = [*group.folders, group.name] if group.name else group.folders
        name = case.name if times[case.name] == 1 else "__".join(parts)
        if name in found:
            alike[case.folder] = f"{case.folder} and {found[name].folder} would both be called {name}; rename one"
        else:
            found[name] = replace(case, name=name)
    return [found[name] for name in sorted(found)], alike


def _no_cases(root: Path, modalities: Sequence[str], patterns: dict[str, str] | None, files: list[ImageFile]) -> str:
    """Returns the error message for a folder without cases: what was looked for, and what is there instead."""
    wanted = {key: glob for key, glob in (patterns or {}).items() if key in modalities}
    looked = ", ".join(f"{key}={glob}" for key, glob in wanted.items()) if patterns else examples(modalities)
    names = [file.name for file in files]
    names.sort(key=lambda name: not is_image(name))  # stable: images first, their names tell most
    seen = f"files there are, e.g., {', '.join(names[:4])}" if names else "there are no files"
    return (
        f"{root}: no case found in {sum(1 for _ in walk_folders(root))} folder(s). Looked for {looked}; {seen}. "
        "Give another folder, or train with --patterns for your file names, such as flair=*FLAIR*.nii.gz"
    )
