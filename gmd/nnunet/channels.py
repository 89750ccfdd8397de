"""The channels of nnU-Net's data sets: what dataset.json calls them, in their order, and the files of each case.

nnU-Net knows a channel by its number alone: CASE_0002.nii.gz is channel 2, whatever it shows. Names stand in
dataset.json, and are what tells that somebody's channels are in another order than those a network was trained on.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmd.data.text_files import brief, read_json
from gmd.errors import UserError

DATASET_JSON = "dataset.json"


def read_dataset_json(path: Path) -> dict[str, Any]:
    """Returns what a dataset.json says.

    Raises UserError if it cannot be read, is no JSON, or is not an object; FileNotFoundError.
    """
    said = read_json(path)
    if not isinstance(said, dict):
        raise UserError(f"{path}: got {brief(said)}, expected an object with the key channel_names")
    return said


def channel_names(dataset_json: Mapping[str, Any], where: str = DATASET_JSON) -> tuple[str, ...]:
    """Returns the names of the channels in the order of their numbers.

    Args:
        dataset_json: what a dataset.json says; under "channel_names" (or "modality", as of old) number -> name.
        where: what messages call it.

    Raises UserError unless the numbers are 0, 1, 2 and so on, and the names are texts.
    """
    named = dataset_json.get("channel_names", dataset_json.get("modality"))
    expected = f'{where}: expected channel_names such as {{"0": "flair", "1": "t1"}}, got'
    if not isinstance(named, Mapping) or not named:
        raise UserError(f"{expected} {'none' if named is None else brief(named)}")
    numbers = {str(number): name for number, name in named.items()}
    order = [str(number) for number in range(len(numbers))]
    if sorted(numbers) != sorted(order):
        raise UserError(f"{expected} the numbers {', '.join(numbers)}: they have to be {', '.join(order)}")
    if wrong := [number for number in order if not isinstance(numbers[number], str)]:
        raise UserError(f"{expected} {brief(numbers[wrong[0]])} as the name of channel {wrong[0]}")
    return tuple(numbers[number] for number in order)


def check_same_channels(trained: Sequence[str], given: Sequence[str], where: str) -> None:
    """Raises UserError unless data have the channels that a network was trained on, in the same order.

    Upper and lower case do not count.

    Args:
        trained: names of the channels that the network was trained on, in their order.
        given: those of the data.
        where: what the message calls the data.
    """
    if [name.casefold() for name in trained] == [name.casefold() for name in given]:
        return
    same = sorted(map(str.casefold, trained)) == sorted(map(str.casefold, given))
    told = "the same channels in another order" if same else "other channels"
    raise UserError(
        f"{where}: got {told}, {', '.join(given)}; expected {', '.join(trained)}, as the network was trained: nnU-Net "
        "knows a channel by its number alone, and would take one for another"
    )


def channel_files(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    """Returns case -> channel number -> its file, of the files CASE_0000.nii.gz, CASE_0001.nii.gz and so on.

    Cases and numbers come in order; files of other names are left out.

    Args:
        folder: with the images.
        ending: of the files, as dataset.json says under file_ending, such as ".nii.gz".
    """
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    cases: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            cases.setdefault(match[1], {})[int(match[2])] = path
    return {case: dict(sorted(files.items())) for case, files in sorted(cases.items())}
