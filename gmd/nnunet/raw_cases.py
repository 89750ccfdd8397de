"""Data sets in nnU-Net's raw layout: what their dataset.json says, and the files of their cases."""

from pathlib import Path
from typing import NamedTuple

from gmd.data.text_files import brief
from gmd.errors import UserError
from gmd.nnunet.channels import DATASET_JSON, channel_files, channel_names, check_same_channels, read_dataset_json


class RawDataset(NamedTuple):
    """What a dataset.json of nnU-Net says.

    Attributes:
        path: the file.
        channels: names of the channels, in the order of their numbers.
        ending: of the names of images and label maps, such as .nii.gz.
        labels: name -> value, or values of a region; `background` and `ignore` among them.
    """

    path: Path
    channels: tuple[str, ...]
    ending: str
    labels: dict[str, int | list[int]]


class RawCase(NamedTuple):
    """The files of one case: its name, and number of a channel -> file."""

    name: str
    files: dict[int, Path]


def read_dataset(path: Path) -> RawDataset:
    """Reads a dataset.json. Raises UserError, which names the key, unless it is one of nnU-Net's second version."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; expected the one that describes a data set of nnU-Net")
    said = read_dataset_json(path)
    for key, kind in {"labels": dict, "file_ending": str}.items():
        if not isinstance(said.get(key), kind) or not said[key]:
            raise UserError(f"{path}: {key}: got {brief(said.get(key))}, expected what nnU-Net 2 has there")
    return RawDataset(path, _told_apart(channel_names(said, str(path))), said["file_ending"], said["labels"])


def group_cases(folder: Path, ending: str) -> list[RawCase]:
    """Returns the cases whose files CASE_0000.nii.gz and so on lie directly in a folder, by name; no hidden ones."""
    return [RawCase(*each) for each in channel_files(folder, ending).items() if not each[0].startswith(".")]


def check_numbers(case: RawCase, channels: tuple[str, ...]) -> None:
    """Raises UserError for a file whose number is that of no channel."""
    if (last := max(case.files)) >= len(channels):
        told = ", ".join(f"{index} {name}" for index, name in enumerate(channels))
        raise UserError(f"{case.files[last]}: channel {last} is not known; the channels are {told}")


def check_order(dataset: RawDataset, source: Path) -> None:
    """Raises UserError if a dataset.json in a folder, or beside it, has the channels in another order, or others."""
    for path in (source / DATASET_JSON, source.parent / DATASET_JSON):
        if path.is_file():
            here = _told_apart(channel_names(read_dataset_json(path), str(path)))
            check_same_channels(dataset.channels, here, str(path))


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names, those that several channels have with their number: pictures may have three called RGB."""
    return tuple(name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names))
