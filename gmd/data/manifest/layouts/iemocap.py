"""IEMOCAP (Busso et al., 2008) with four emotions, as MLA hands it around: text, audio and faces of 151 dialogues.

A name such as Ses04F_script02_2_F034 is the session, whose actor wears the markers, the dialogue, and the turn of one
of the session's two speakers. The two of a session speak with each other and with nobody else.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from gmd.data.manifest.layouts import mla
from gmd.data.manifest.layouts.layout import Layout, Lists
from gmd.data.manifest.layouts.listed import Listed, Part, checked_label, checked_name, lines_of
from gmd.data.manifest.layouts.places import Files, Frames, Modality
from gmd.data.manifest.layouts.texts import Tokens, Words
from gmd.data.text_files import brief
from gmd.errors import UserError

EMOTIONS = ("Neutral", "Angry", "Sad", "Happy")
SIGN = "[split|sign]"
_NAME = re.compile(r"(?P<dialogue>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<gender>[FM])\w+", re.ASCII)


def _read(path: Path, part: Part) -> Iterator[Listed]:
    for where, line in lines_of(path):
        cells = [cell.strip() for cell in line.split(SIGN)]
        if len(cells) != 3:
            raise UserError(f"{where}: got {brief(line)}, expected NAME.mp4 {SIGN} TEXT {SIGN} EMOTION")
        name = checked_name(where, cells[0].removesuffix(".mp4"))
        if not (match := _NAME.fullmatch(name)):
            raise UserError(f"{where}: got the name {brief(name)}, expected one such as Ses04F_script02_2_F034")
        session, dialogue = f"Ses0{match['session']}", match["dialogue"]
        groups = {"dialogue": dialogue, "speaker": f"{session}{match['gender']}", "session": session}
        fields = {"text": cells[1], "dialogue": dialogue, "number": match["session"]}
        yield Listed(name, checked_label(where, cells[2], EMOTIONS), part, where, groups, fields)


LAYOUT = Layout(
    name="iemocap",
    lists=(Lists("mla", mla.files_of("iemo"), _read, ("", "data")),),
    modalities=(
        Modality("text", (Tokens(mla.TOKENS), Words())),
        Modality(
            "audio",
            (
                Files(
                    "audio",
                    (
                        "Session{number}/sentences/wav/{dialogue}/{name}.wav",
                        "subaudio/{name}.wav",
                        "audio/{part}/{name}.wav",
                        "audio/{name}.wav",
                    ),
                ),
                Files("features", mla.FBANKS),
            ),
        ),
        Modality("video", (Frames(("visual/{part}_imgs/{name}", "faces/{name}")),)),
    ),
    groups=("speaker", "dialogue"),
    splits={"speaker": "session", "dialogue": "dialogue"},
    unread={
        "A/comparE.h5": "MMIN's layout is read by gmd train sequences",
        "subvideo": "videos are not read: take their faces into faces/NAME/",
    },
)
