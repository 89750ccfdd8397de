"""Images that do not say their modality, but have a number for it: the Medical Segmentation Decathlon's and nnU-Net's.

Both keep the images of all cases in a folder `imagesTr` (or `imagesTs`), and the label maps, by the same names, in
`labelsTr`. The decathlon has one file for a case, with the modalities along its fourth axis; nnU-Net a file for each,
`case_0000`, `case_0001` and so on. What the numbers mean is said by `dataset.json`, or has to be by the user.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gmd.data.segmentation.image_files import ENDINGS, ImageFile, is_image, stem
from gmd.data.segmentation.layouts import Group, Sorted
from gmd.data.text_files import read_utf8
from gmd.errors import UserError
from gmd.files import real_path

MOST = 2**26  # bytes of a dataset.json, which lists the files of all cases
_NUMBERED = re.compile(r"(.+)_(\d{4})$")
_IMAGES = re.compile(r"images(?=[A-Z]|$)")
_WORDS = {
    **dict.fromkeys(("flair", "t2f", "t2-flair", "t2_flair"), "flair"),
    **dict.fromkeys(("t1", "t1n", "t1w"), "t1"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1-gd", "t1w-gd", "t1post"), "t1ce"),
    **dict.fromkeys(("t2", "t2w"), "t2"),
}


def in_images_folder(file: ImageFile, root: Path) -> bool:
    """Returns whether a file is an image in a folder called as both layouts have it."""
    return is_image(file.name) and is_images_folder(file.folders[-1] if file.folders else real_path(root).name)


def is_images_folder(name: str) -> bool:
    """Returns whether a folder is called imagesTr or the like."""
    return bool(_IMAGES.match(name))


def by_channels(files: Iterable[ImageFile], root: Path, channels: Sequence[str]) -> Sorted:
    """The images of a case are numbered, by their names or along the fourth axis of the one file.

    root: the folder that the files are below
    channels: the modality of each number, from 0 on
    """
    result = Sorted()
    folders: dict[tuple[str, ...], list[ImageFile]] = {}
    for file in files:
        if is_image(file.name):
            folders.setdefault(file.folders, []).append(file)
    for inside in folders.values():
        # a fourth axis may have cases that end in four digits, too; nnU-Net counts from 0000
        if any((match := _NUMBERED.match(stem(file.name))) and int(match[2]) == 0 for file in inside):
            _add_numbered(result, inside, channels)
        else:
            for file in inside:
                at = {channel: place for place, channel in enumerate(channels)}
                paths = dict.fromkeys(channels, file.path)
                result.groups.append(Group(file.folders, stem(file.name), paths | _label(file, stem(file.name)), at))
    return result


def _add_numbered(result: Sorted, inside: list[ImageFile], channels: Sequence[str]) -> None:
    """Adds the cases of a folder whose images have the number of their modality in their names."""
    cases: dict[str, dict[str, Path]] = {}
    for file in inside:
        match = _NUMBERED.match(stem(file.name))
        if match is None or int(match[2]) >= len(channels):
            numbers = ", ".join(f"{number:04d} {channel}" for number, channel in enumerate(channels))
            result.wrong[file.path.parent] = (
                f"{file.path}: expected a name that ends in one of the numbers {numbers}; name all modalities by "
                "--channels, or remove the file"
            )
            return
        cases.setdefault(match[1], _label(file, match[1]))[channels[int(match[2])]] = file.path
    result.groups += [Group(inside[0].folders, name, found) for name, found in cases.items()]


def _label(image: ImageFile, name: str) -> dict[str, Path]:
    """Returns the label map of a case, as "seg", if there is one: in labelsTr for an image in imagesTr."""
    images = image.path.parent
    labels = images.with_name(_IMAGES.sub("labels", real_path(images).name))
    there = [path for ending in ENDINGS if os.path.lexists(path := labels / f"{name}{ending}")]
    return {"seg": there[0]} if there and labels != images else {}


def read_channels(root: Path, given: Sequence[str]) -> tuple[str, ...]:
    """Returns the modalities that numbers mean: those that are given, or that `dataset.json` at or above `root` names.

    Raises UserError if both are there and differ, or for a `dataset.json` that cannot be read.
    """
    for path in (root / "dataset.json", real_path(root).parent / "dataset.json"):
        if not os.path.lexists(path):
            continue
        try:
            content = json.loads(read_utf8(path, MOST))
            named = content.get("channel_names") or content.get("modality") or {}
            told = [str(named[number]) for number in sorted(named, key=int)]
        except UserError:
            raise
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read ({error}); mend it, or copy it anew") from error
        told = [_WORDS.get(word.lower(), word.lower()) for word in told]
        if told and given and list(given) != told:
            raise UserError(
                f"--channels: got {' '.join(given)}, but {path} says {' '.join(told)}; leave --channels out, or mend "
                "the file"
            )
        if told:
            return tuple(told)
    return tuple(given)
