"""What the columns of a manifest become: the inputs of a network, its outputs, and how files are prepared for it."""

from dataclasses import dataclass
from typing import NamedTuple

SIZES = {  # of each kind
    "image": ("frames", "height", "width"),
    "audio": ("steps", "mels"),
    "text": ("vocabulary", "longest"),
    "features": ("features", "longest"),
}
KINDS = tuple(SIZES)


class Input(NamedTuple):
    """What one modality gives a network.

    Attributes:
        kind: "image", "audio", "text" or "features".
        sizes: image: frames K, height H and width W, for values float32 [n, K, 3, H, W] in [0, 1];
            audio: steps T and mels M, for log-mel spectrograms float32 [n, 1, T, M];
            text: vocabulary V and longest L, for Padded tokens int64 [n, L] below V, of which 0 is padding;
            features: features F and longest L, for Padded float32 [n, L, F]. No sequence is longer than L.
    """

    kind: str
    sizes: dict[str, int]


class Output(NamedTuple):
    """What a network tells of a sample.

    Attributes:
        name: what stands behind `label:` in the manifest; "label" where there is one output without a name.
        classes: their names, in the order of their numbers; None for a number.
    """

    name: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class Preparation:
    """How files are prepared for a network.

    Attributes:
        image_size: height and width of a picture, in pixels.
        frames: pictures that are taken of a folder of them; of a single picture, how often it is repeated.
        rate: samples of sound per second, to which other rates are resampled.
        seconds: of sound, which is cut or continued with silence to this length.
        mels: bands of a spectrogram.
        vocabulary: tokens, padding among them, that words are hashed to.
        longest: tokens of a text, or steps of features, of which the first are kept.
        augment: whether pictures are cropped at random and mirrored while training, and long sound is cut at random.
    """

    image_size: int = 64
    frames: int = 1
    rate: int = 16000
    seconds: float = 3.0
    mels: int = 64
    vocabulary: int = 8192
    longest: int = 128
    augment: bool = False
