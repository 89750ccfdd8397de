"""Kinetics-Sounds (Arandjelovic and Zisserman, 2017), as OGM-GE hands it around: 31 actions that are seen and heard.

A line is `ID_START,10,CLASS` or `ID_START_END,10,CLASS`: a video of YouTube, whose id has 11 characters, from that
second on, and the number of a class.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from gmd.data.manifest.layouts.layout import Layout, Lists
from gmd.data.manifest.layouts.listed import Listed, Part, cells_of, checked_label, lines_of
from gmd.data.manifest.layouts.places import Files, Frames, Modality
from gmd.data.text_files import brief
from gmd.errors import UserError

CLASSES = tuple(map(str, range(31)))
_NAME = re.compile(r"(?P<video>[\w-]{11})_\d+(_\d+)?", re.ASCII)


def _read(path: Path, part: Part) -> Iterator[Listed]:
    for where, line in lines_of(path):
        name, _, label = cells_of(where, line, 3, "ID_START_END,10,CLASS such as -3Mwkq-7TV4_2_12,10,23")
        if not (match := _NAME.fullmatch(name)):
            raise UserError(
                f"{where}: got the name {brief(name)}, expected 11 characters of a video and seconds, _2 or _2_12"
            )
        yield Listed(name, checked_label(where, label, CLASSES), part, where, {"video": match["video"]})


LAYOUT = Layout(
    name="kinetics-sounds",
    lists=(
        Lists("ogm-ge", {"train": "my_train.txt", "test": "my_test.txt"}, _read, ("", "data/KineticSound", "data")),
    ),
    modalities=(
        Modality(
            "audio",
            (
                Files(
                    "audio",
                    (
                        "{part}_wav/{part}/{name}.wav",
                        "{part}_wav/{name}.wav",
                        "audio/{part}/{name}.wav",
                        "audio/{name}.wav",
                    ),
                ),
                Files(
                    "features",
                    (
                        "{part}_spec/{name}.npy",
                        "audio/{part}_fbank/{name}.npy",
                        "audio/{part}/{name}.npy",
                        "audio/{name}.npy",
                    ),
                ),
            ),
        ),
        Modality(
            "video",
            (
                Frames(
                    (
                        "{part}-frames-1fps/{part}/{name}",
                        "val-frames-1fps/{part}/{name}",
                        "visual/{part}_imgs/Image-01-FPS/{name}",
                        "visual/{part}/{name}",
                        "visual/{name}",
                        "{name}",
                    )
                ),
            ),
        ),
    ),
    groups=("video",),
)
