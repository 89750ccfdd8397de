"""The options of `gmd train classify`: pictures, sound, text and features, as files that a manifest lists."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from gmd.config.checks import check_option
from gmd.config.sequences import TrainSamples
from gmd.data.manifest.inputs import Preparation
from gmd.models.classification.picture_networks import picture_network

# the largest value of each: beyond it a single sample takes gigabytes
MOST = {
    **{"image_size": 2**12, "frames": 2**10, "rate": 2**18, "seconds": 3600, "mels": 2**10},
    **{"vocabulary": 2**24, "longest": 2**16, "workers": 2**8},
}

Recipe = Literal["cggm-food101", "mla-cremad", "mla-food101", "mla-mvsa", "mla-iemocap", "ogm-ge-cremad"]


@dataclass(frozen=True)
class TrainClassify(TrainSamples):
    """Train one network on pictures, sound, text and features, of which any may be missing: classes or numbers.

    The manifest is a table, CSV: a row a sample, with columns id, split and label, and one for each modality,
    image:NAME, audio:NAME, text:NAME or features:NAME. A cell is the path of a file, or the text itself; where it is
    empty, the sample lacks the modality.

    Options come from a YAML file, too: --config FILE, a run's config.yaml say; what stands on the line overrides it.

    Example: gmd train classify --data manifest.csv --method gmd --out runs/classes
    """

    data: Path
    """The manifest, .csv."""
    root: Path | None = None
    """The folder that the manifest's paths begin in; by default the manifest's own. Nothing outside of it is read."""
    out: Path = Path("runs/classify")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    modalities: tuple[str, ...] = ()
    """The modalities that the network has, by the names in the manifest's columns; by default all of them."""
    preset: Recipe | None = None
    """A published recipe's options, which others on the line, and in a file, override; what it sets and what differs
    from the publication is told before the training."""
    target: Literal["auto", "class", "number"] = "auto"
    """What labels are. auto: numbers if all of a column are, and one of them is not whole; else classes."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """What to do about files that are not there or cannot be read. skip: the samples lack them, which is told."""
    network: Literal["branches", "late", "ds"] = "branches"
    """branches: an encoder for each modality, one head for all. late: an encoder for each, a fusion encoder. ds:
    pictures and sound share one encoder, text and features another (Dynamic Sharing)."""
    pictures: str = "resnet18"
    """The encoder of pictures and of spectrograms: resnet18, strip-mlp-light, strip-mlp-tiny, strip-mlp-small or
    strip-mlp-base, or one of your own size, strip-mlp:WIDTH:DEPTHS as in strip-mlp:32:1-1-1-1."""
    image_size: int = Preparation.image_size
    """Pixels of a picture's side: pictures are resized, and cut to a square."""
    frames: int = Preparation.frames
    """Pictures of a folder that the network sees, evenly spread over it; their features are averaged."""
    rate: int = Preparation.rate
    """Samples of sound a second; recordings of other rates are resampled."""
    seconds: float = Preparation.seconds
    """Of sound that the network hears; longer recordings are cut, shorter ones end in silence."""
    mels: int = Preparation.mels
    """Bands of the spectrogram."""
    vocabulary: int = Preparation.vocabulary
    """Numbers that words are hashed to; where texts come as numbers, those are less than this."""
    longest: int = Preparation.longest
    """Words of a text and steps of features that the network sees; what is longer is cut."""
    augment: bool = Preparation.augment
    """While training, cut and mirror pictures at random, and take any part of long sounds. Not for what a mirror
    changes, such as digits."""
    workers: int = 1
    """Processes that read files while the network learns; 0 reads them in between. The batches are the same."""

    TASK: ClassVar = "classify"
    POSITIVE: ClassVar[tuple[str, ...]] = (
        *("image_size", "frames", "rate", "seconds", "mels", "vocabulary", "longest"),
        *TrainSamples.POSITIVE,
    )
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("workers", *TrainSamples.NOT_NEGATIVE)

    def check_values(self) -> None:
        """Raises UserError for a value that cannot work anywhere."""
        super().check_values()
        picture_network(self.pictures)
        for name, most in MOST.items():
            check_option(getattr(self, name) <= most, name, getattr(self, name), f"at most {most}")

    def preparation(self) -> Preparation:
        """Returns how files become what the network takes."""
        return Preparation(**{name: getattr(self, name) for name in Preparation.__dataclass_fields__})
