"""The layout of RFNet, mmFormer and those after them: `vol/NAME_vol.npy` [X, Y, Z, channels], `seg/NAME_seg.npy`."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from gmd.data.segmentation.image_files import ImageFile
from gmd.data.segmentation.layouts import Group, Sorted
from gmd.data.segmentation.npy_voxels import varying_volumes
from gmd.data.segmentation.readable import readable
from gmd.errors import UserError

CHANNELS = ("flair", "t1ce", "t1", "t2")  # the order in which their preprocess.py stacks the modalities
_VOLUMES, _LABELS = "_vol.npy", "_seg.npy"


def is_volumes(file: ImageFile) -> bool:
    """Returns whether a file is called as the volumes of a case are."""
    return file.name.lower().endswith(_VOLUMES)


def by_npy(files: Iterable[ImageFile], channels: Sequence[str] = ()) -> Sorted:
    """Each file of volumes is a case. A channel of one value only, as of zeros, is a modality that the case lacks.

    files: that `is_volumes`
    channels: the modality of each volume along the fourth axis; by default `CHANNELS`
    """
    result = Sorted()
    channels = tuple(channels) or CHANNELS
    for file in files:
        name = file.name[: -len(_VOLUMES)]
        there = _channels_there(file.path, channels)
        if not there:
            result.wrong[file.path] = f"{file.path}: every channel has one value only; mend or remove the case"
            continue
        folders = file.folders[:-1] if file.folders[-1:] == ("vol",) else file.folders
        at = {channel: place for place, channel in enumerate(channels)}
        paths = dict.fromkeys(there, file.path)
        result.groups.append(Group(folders, name, paths | _label(file.path, name), at))
    return result


def _channels_there(path: Path, channels: Sequence[str]) -> list[str]:
    """Returns the channels that hold more than one value; all of them for a file that cannot be read.

    Of such a file reading tells later, together with all others.
    """
    try:
        with readable(path):
            varying = varying_volumes(path)
    except UserError:
        return list(channels)
    if len(varying) != len(channels):
        return list(channels)
    return [channel for channel, varies in zip(channels, varying, strict=True) if varies]


def _label(volumes: Path, name: str) -> dict[str, Path]:
    """Returns the label map of a case, as "seg", if there is one: in `seg` beside `vol`, or beside the volumes."""
    places = [volumes.parent.with_name("seg"), volumes.parent]
    there = [path for place in places if os.path.lexists(path := place / f"{name}{_LABELS}")]
    return {"seg": there[0]} if there else {}
