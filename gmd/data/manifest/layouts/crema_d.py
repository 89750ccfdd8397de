"""CREMA-D (Cao et al., 2014): 91 actors say 12 sentences with 6 emotions; audio and video.

A name such as 1001_IEO_NEU_XX is actor, sentence, emotion and level. The lists of OGM-GE (Peng et al., CVPR 2022),
which BalanceBenchmark, MMPareto and others took over, and of MLA are two random splits of the same 7,442 clips.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from gmd.data.manifest.layouts import mla
from gmd.data.manifest.layouts.layout import Layout, Lists
from gmd.data.manifest.layouts.listed import Groups, Listed, Part, cells_of, checked_label, checked_name, lines_of
from gmd.data.manifest.layouts.places import Files, Frames, Modality
from gmd.data.text_files import brief
from gmd.errors import UserError

# as OGM-GE's lists have them, with MLA's words for the same
EMOTIONS = {"NEU": "Neutral", "HAP": "Happy", "SAD": "Sad", "FEA": "Fear", "DIS": "Disgust", "ANG": "Anger"}
_NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z]{1,2}")


def _groups_of(where: str, name: str) -> Groups:
    if not (match := _NAME.fullmatch(checked_name(where, name))):
        raise UserError(f"{where}: got the name {brief(name)}, expected one such as 1001_IEO_NEU_XX")
    return {"speaker": match["actor"]}


def _label_of(where: str, label: str) -> str:
    codes = {word: code for code, word in EMOTIONS.items()}
    return codes[checked_label(where, label, codes)]


def _read_ogm_ge(path: Path, part: Part) -> Iterator[Listed]:
    for where, line in lines_of(path):
        name, label = cells_of(where, line, 2, "NAME,EMOTION such as 1001_IEO_NEU_XX,NEU")
        groups = _groups_of(where, name)
        yield Listed(name, checked_label(where, label, EMOTIONS), part, where, groups)


OGM_GE = Lists(
    "ogm-ge", {"train": "train.csv", "test": "test.csv"}, _read_ogm_ge, ("", "data/CREMAD", "CREMAD", "data")
)
LAYOUT = Layout(
    name="crema-d",
    lists=(OGM_GE, mla.lists("cre", ".flv", _label_of, _groups_of)),
    modalities=(
        Modality(
            "audio",
            (
                Files(
                    "audio",
                    (
                        "AudioWAV/{name}.wav",
                        "audio/AudioWAV/{name}.wav",
                        "audio/{name}.wav",
                        "audio/{part}/{name}.wav",
                        "AudioMP3/{name}.mp3",
                    ),
                ),
                Files("features", mla.FBANKS),
            ),
        ),
        Modality(
            "video",
            (
                Frames(
                    (
                        "Image-01-FPS/{name}",
                        "visual/Image-01-FPS/{name}",
                        "visual/{part}_imgs/Image-01-FPS/{name}",
                        "visual/{name}",
                        "Image-02-FPS/{name}",
                        "Image-03-FPS/{name}",
                    )
                ),
            ),
        ),
    ),
    groups=("speaker",),
    splits={"speaker": "speaker"},
    unread={
        "VideoFlash": "videos are not read: take a frame of each second into Image-01-FPS/NAME/",
        "audio/*.pt": "spectrograms in .pt are not read, whose making nobody published: AudioWAV/ is",
        "audio/*.pkl": "spectrograms in .pkl are not read, whose making nobody published: AudioWAV/ is",
    },
)
