"""Turns the files of a data set into the files of its cases, for each way in which data sets are laid out.

A layout is a function from the files below a folder to `Sorted`: what is of which case and modality, what is neither,
and what could be several things. Nothing here opens a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from gmd.data.segmentation.image_files import ImageFile, is_image, stem
from gmd.data.segmentation.names import matches, of_file, of_folder

Folders = tuple[str, ...]  # the names of folders, from the root on


@dataclass(frozen=True)
class Group:
    """The files that make a case.

    Attributes:
        folders: of the case, from the root on; a part that only says the modality is left out.
        name: of the case, where its folder holds others too; "" if it is called by its folder.
        files: modality, "seg" or "mask" -> file.
        channels: modality -> its place on the fourth axis of the file, where one file holds all.
    """

    folders: Folders
    name: str
    files: dict[str, Path]
    channels: dict[str, int] = field(default_factory=dict)


@dataclass
class Sorted:
    """What a layout makes of files.

    Attributes:
        groups: the files that make a case, those without any image too.
        wrong: folder -> why what it holds is no case, or could be several things.
        unused: images that are of no modality, as far as names tell.
    """

    groups: list[Group] = field(default_factory=list)
    wrong: dict[Path, str] = field(default_factory=dict)
    unused: list[ImageFile] = field(default_factory=list)


@dataclass(frozen=True)
class _Named:
    """A file whose modality is known. `before`: what its name is before that; `folders`: those of its case."""

    file: ImageFile
    key: str
    before: str
    folders: Folders


def by_patterns(files: Iterable[ImageFile], patterns: Mapping[str, str]) -> Sorted:
    """Each folder in which a file matches a pattern is a case. Files that match none are somebody else's."""
    result = Sorted()
    for folders, inside in _by_folder(files):
        found = {key: [file for file in inside if matches(file.name, glob)] for key, glob in patterns.items()}
        found = {key: those for key, those in found.items() if those}
        folder = _folder_of(inside[0])
        if reason := _not_one_each(found, patterns) or _not_one_key(found):
            result.wrong[folder] = f"{folder}: {reason}"
        elif found:
            result.groups.append(Group(folders, "", {key: those[0].path for key, those in found.items()}))
        else:
            result.unused += [file for file in inside if is_image(file.name)]
    return result


def by_names(files: Iterable[ImageFile], root: str) -> Sorted:
    """Files are named as in BraTS, or lie in folders that are: one folder for each case, modality, or all of them.

    root: the name of the folder that the files are below
    """
    result = Sorted()
    named: list[_Named] = []
    images = [file for file in files if is_image(file.name)]
    roles = _modality_folders(images)
    for image in images:
        found = _identify(image, roles)
        if isinstance(found, _Named):
            named.append(found)
        elif found:
            result.wrong[_folder_of(image)] = found
        else:
            result.unused.append(image)
    for folders, those in groupby(sorted(named, key=lambda each: each.folders), key=lambda each: each.folders):
        _add_cases(result, folders, list(those), folders[-1] if folders else root)
    return result


def _identify(image: ImageFile, roles: Mapping[Folders, tuple[str, str]]) -> _Named | str:
    """Returns which modality of which case an image is; "" if nothing tells, or a sentence if two things do.

    roles: of `_modality_folders`
    """
    own = of_file(image.name)
    folders: list[str] = []
    keys: set[str] = set()
    for depth, part in enumerate(image.folders, start=1):
        rest, key = roles.get(image.folders[:depth], (part, None))
        folders += [rest] if rest else []
        keys |= {key} if key else set()
    keys |= {own[1]} if own else set()
    if len(keys) > 1:
        return (
            f"{image.path}: its name and those of its folders say different modalities, {' and '.join(sorted(keys))}; "
            "rename one"
        )
    before = own[0] if own else stem(image.name)
    return _Named(image, keys.pop(), before, tuple(folders)) if keys else ""


def _modality_folders(images: Iterable[ImageFile]) -> dict[Folders, tuple[str, str]]:
    """Returns the folders that hold one modality: their folders from the root on -> the rest of the name, the modality.

    A folder `t1` that holds files of several modalities is none: it may be the first of several examinations.
    """
    below: dict[Folders, set[str]] = {}
    for image in images:
        own = of_file(image.name)
        for depth in range(1, len(image.folders) + 1):
            below.setdefault(image.folders[:depth], set()).update([own[1]] if own else [])
    named = {folders: of_folder(folders[-1]) for folders in below}
    return {folders: role for folders, role in named.items() if role and len(below[folders]) <= 1}


def _add_cases(result: Sorted, folders: Folders, named: list[_Named], called: str) -> None:
    """Adds the case that the files of one folder make, or the cases, if each modality is there several times.

    called: the name of that folder
    """
    by_key, by_name = _grouped(named)
    folder = _folder_of(named[0].file)
    twice = next((those for those in by_key.values() if len(those) > 1), None)
    if twice is None:
        beside = [each for each in named if each.file.folders == folders]
        if reason := _one_or_several(beside):
            result.wrong[folder] = f"{folder}: {reason}"
        else:
            result.groups.append(Group(folders, "", {each.key: each.file.path for each in named}))
    elif called.lower() in by_name or _share_no_name(by_key, by_name):
        result.wrong[folder] = f"{folder}: {_both_match([each.file for each in twice], twice[0].key)}"
    else:
        for those in by_name.values():
            _add_case_by_name(result, folders, those)


def _grouped(named: list[_Named]) -> tuple[dict[str, list[_Named]], dict[str, list[_Named]]]:
    """Returns the files by their modality, and by what their names are before that."""
    by_key: dict[str, list[_Named]] = {}
    by_name: dict[str, list[_Named]] = {}
    for each in named:
        by_key.setdefault(each.key, []).append(each)
        by_name.setdefault(each.before.lower(), []).append(each)
    return by_key, by_name


def _share_no_name(by_key: Mapping[str, list[_Named]], by_name: Mapping[str, list[_Named]]) -> bool:
    """Returns whether there are several modalities, but no name has more than one: then names do not tell the case."""
    return len(by_key.keys() - {"seg"}) > 1 and all(len(those) == 1 for those in by_name.values())


def _add_case_by_name(result: Sorted, folders: Folders, named: list[_Named]) -> None:
    """Adds one of several cases in a folder: the files whose names are one before the modality."""
    by_key, _ = _grouped(named)
    folder = _folder_of(named[0].file)
    if reason := _not_one_each({key: [each.file for each in those] for key, those in by_key.items()}, {}):
        result.wrong[folder] = f"{folder}: {reason}"
    else:
        result.groups.append(Group(folders, named[0].before, {each.key: each.file.path for each in named}))


def _one_or_several(named: list[_Named]) -> str:
    """Returns what is wrong if files of one folder, each of another modality, have different names before that."""
    other = next((each for each in named if each.before.lower() != named[0].before.lower()), None)
    if other is None:
        return ""
    return (
        f"{named[0].file.name} and {other.file.name}: are these files of one case or of two? Give those of one case "
        "the same name before the modality, a folder for each case, or train with --patterns"
    )


def _not_one_each(found: Mapping[str, list[ImageFile]], patterns: Mapping[str, str]) -> str:
    """Returns what is wrong if several files are of one modality, else nothing."""
    twice = next((key for key, files in found.items() if len(files) > 1), None)
    return _both_match(found[twice], twice, patterns.get(twice)) if twice else ""


def _both_match(files: list[ImageFile], key: str, pattern: str | None = None) -> str:
    """Returns what is wrong with several files of one modality."""
    names = [
        file.name if files[0].folders == files[1].folders else "/".join((*file.folders[-1:], file.name))
        for file in files[:2]
    ]
    return (
        f"{' and '.join(names)} both match {key!r}{f' ({pattern})' if pattern else ''}; a case has one file per "
        f"modality: remove one, or train with {'narrower ' if pattern else ''}--patterns"
    )


def _not_one_key(found: Mapping[str, list[ImageFile]]) -> str:
    """Returns what is wrong if a file is of several modalities, else nothing."""
    # `T1*` finds T1POST in a case whose T1 is missing: the same image would count as two modalities
    keys: dict[str, list[str]] = {}
    for key, files in found.items():
        keys.setdefault(files[0].name, []).append(key)
    for name, those in keys.items():
        if len(those) > 1:
            return f"{name}: matches the patterns of {' and '.join(map(repr, those))}; make them narrower"
    return ""


def _by_folder(files: Iterable[ImageFile]) -> Iterable[tuple[Folders, list[ImageFile]]]:
    for folders, inside in groupby(sorted(files, key=lambda file: file.folders), key=lambda file: file.folders):
        yield folders, list(inside)


def _folder_of(file: ImageFile) -> Path:
    """Returns the folder that a file is seen in."""
    return file.path.parent if file.path.name == file.name else file.path.parent.parent
