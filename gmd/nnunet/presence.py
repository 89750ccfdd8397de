"""Which channels each preprocessed case has: a missing one is zero in every voxel.

It is told of cases before augmentation, which adds noise to channels of zeros too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmd.errors import UserError


def channels_there(data: Any, case: str, names: Sequence[str]) -> list[int]:
    """Returns the numbers of the channels that a preprocessed case has, ascending.

    A slice of a channel that is there tells so as a rule, so that no more of a large case has to be read.

    Args:
        data: [C, X, Y, Z], an array of numpy or of a file that gives one for an index.
        case: its name, for messages.
        names: of the channels.

    Raises UserError for a channel that has another constant than zero, and for a case that has no channel.
    """
    there = [number for number, name in enumerate(names) if _is_there(data, number, f"{case}: channel {name}")]
    if not there:
        raise UserError(f"{case}: got zeros in every channel, expected at least one of {', '.join(names)}")
    return there


def _is_there(data: Any, number: int, name: str) -> bool:
    if _varies(np.asarray(data[number, data.shape[1] // 2])):
        return True
    values = np.asarray(data[number])
    if _varies(values):
        return True
    if value := float(values.flat[0]):
        raise UserError(
            f"{name}: got {value:g} in every voxel of the preprocessed data, expected an image, or zeros for a missing "
            "channel. A raw file of another constant makes nnU-Net take the whole volume for the foreground; and where "
            "zeros are normalised to something else (CTNormalization), it cannot be told that a channel is missing"
        )
    return False


def _varies(values: np.ndarray) -> bool:
    return bool(values.min() != values.max())
