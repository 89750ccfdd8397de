"""MVSA-Single (Niu et al., 2016): tweets with a picture each, positive, neutral or negative."""

from gmd.data.manifest.layouts import mla, mmbt
from gmd.data.manifest.layouts.layout import Layout
from gmd.data.manifest.layouts.listed import Groups, checked_label
from gmd.data.manifest.layouts.places import Files, Modality
from gmd.data.manifest.layouts.texts import Tokens, Words

SENTIMENTS = ("positive", "neutral", "negative")


def _label_of(where: str, label: object) -> str:
    return checked_label(where, label, SENTIMENTS)


def _no_groups(where: str, name: str) -> Groups:
    return {}


LAYOUT = Layout(
    name="mvsa",
    lists=(mmbt.lists(_label_of), mla.lists("mvsa", ".jpg", _label_of, _no_groups)),
    modalities=(
        Modality("image", (Files("image", ("{image}", *mla.PICTURES, "data/{name}.jpg")),)),
        Modality("text", (Words(), Tokens(mla.TOKENS))),
    ),
    groups=("text",),
)
