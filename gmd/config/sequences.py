"""The options of tasks whose samples have targets, and those of `gmd train sequences`, `sentiment` and `digits`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from gmd.config.checks import check_option
from gmd.config.modulation import Modulation
from gmd.config.train_config import TrainConfig
from gmd.data.sequences.reading import check_scale
from gmd.data.sequences.samples import SENTIMENT_MODALITIES

WIDEST, DEEPEST = 2**16, 100  # some hundred GB each


@dataclass(frozen=True)
class TrainSamples(Modulation, TrainConfig):
    """The options that the tasks share whose samples have targets: on sequences, and on the files of a manifest."""

    data: Path
    """The file of the samples."""
    width: int = 64
    """Features of the transformer, a multiple of --heads."""
    layers: int = 2
    """Blocks of each encoder."""
    heads: int = 4
    """Heads of the attention."""
    dropout: float = 0.1
    """Rate of dropout in the transformer, while it trains."""
    epochs: int = 30
    """Passes over the training samples; poly and cosine take the learning rate to 0 over them."""
    batch: int = 32
    """Samples per forward and backward pass."""
    weight_decay: float = 1e-2
    """Weight decay: adamw's takes this share of the weights, times the learning rate, off in each step; adam and sgd
    add it to the gradient (L2)."""
    validate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""

    POSITIVE: ClassVar[tuple[str, ...]] = (
        *("width", "layers", "heads"),
        *Modulation.POSITIVE_MODULATION,
        *TrainConfig.POSITIVE,
    )
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("dropout", *TrainConfig.NOT_NEGATIVE)
    FOR: ClassVar[dict[str, tuple[str, ...]]] = TrainConfig.FOR | Modulation.FOR_MODULATION

    def check_values(self) -> None:
        """Raises UserError for a value that cannot work anywhere."""
        super().check_values()
        self.check_modulation(self.modalities, self.epochs)
        check_option(self.width <= WIDEST, "width", self.width, f"at most {WIDEST}")
        check_option(self.layers <= DEEPEST, "layers", self.layers, f"at most {DEEPEST}")
        check_option(self.width % self.heads == 0, "width", self.width, f"a multiple of --heads {self.heads}")
        check_option(self.dropout < 1, "dropout", self.dropout, "a probability below 1")


@dataclass(frozen=True)
class TrainSequences(TrainSamples):
    """The options that the tasks on sequences share."""

    network: Literal["ds", "late", "branches"] = "ds"
    """ds: one encoder for all modalities (Dynamic Sharing), mean fusion. late: an encoder for each, a fusion encoder.
    branches: an encoder for each, one head for all."""


@dataclass(frozen=True)
class TrainAnySequences(TrainSequences):
    """Train one network that reads a class or a number from any subset of the modalities that a file has.

    Options come from a YAML file, too: --config FILE, a run's config.yaml say; what stands on the line overrides it.

    Example: gmd train sequences --data iemocap.npz --method gmd --out runs/iemocap
    """

    data: Path
    """What `gmd convert` reads or writes: .npz, a pickle, .pt, HDF5, csv, or a folder. Scores may be any numbers."""
    out: Path = Path("runs/sequences")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    modalities: tuple[str, ...] = ()
    """The modalities that the network has, by default all that the data have; a sample may lack any of them, but not
    all."""
    preset: Literal["cggm-iemocap"] | None = None
    """A published recipe's options, which others on the line, and in a file, override; what it sets and what differs
    from the publication is told before the training."""
    fold: int | None = None
    """Of a folder in the layout of MMIN: which of its folds, from 1 on."""

    TASK: ClassVar = "sequences"


@dataclass(frozen=True)
class TrainSentiment(TrainSequences):
    """Train one network that reads sentiment from any subset of text, audio and vision.

    Options come from a YAML file, too: --config FILE, a run's config.yaml say; what stands on the line overrides it.

    Example: gmd train sentiment --data mosi_utterances.npz --method gmd --out runs/mosi
    """

    data: Path
    """What `gmd convert` reads or writes: .npz, a pickle of MOSI or MOSEI, .pt, HDF5, csv, or a folder."""
    out: Path = Path("runs/sentiment")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    modalities: tuple[str, ...] = SENTIMENT_MODALITIES
    """The modalities that the network has, by default those of the three that the data have; a sample may lack any of
    them, but not all."""
    preset: Literal["cggm-mosi"] | None = None
    """A published recipe's options, which others on the line, and in a file, override; what it sets and what differs
    from the publication is told before the training."""
    target: Literal["score", "sign"] = "score"
    """score: regression of the sentiment, in [-3, 3] or [-1, 1]. sign: two classes, negative and not negative."""
    clip_scores: bool = False
    """Take scores beyond [-3, 3] for -3 or 3, instead of refusing the file."""
    scale_scores: tuple[float, float] | None = None
    """The ends of the scale that the file's scores are on, which become -3 and 3: 0 6, 0 100, ..."""

    TASK: ClassVar = "sentiment"
    ADDED: ClassVar[dict[str, object]] = {"clip_scores": False, "scale_scores": None}

    def check_values(self) -> None:
        """Raises UserError for a value that cannot work anywhere."""
        super().check_values()
        if self.scale_scores is not None:
            check_scale(self.scale_scores)


@dataclass(frozen=True)
class TrainDigits(TrainSequences):
    """Train one network that reads spoken and written digits, of which one may be missing.

    The pairs are synthetic: recordings of the Free Spoken Digit Dataset with scikit-learn's images of the same digit.

    Options come from a YAML file, too: --config FILE, a run's config.yaml say; what stands on the line overrides it.

    Example: gmd train digits --data fsdd.npz --method mla --network branches --out runs/digits
    """

    data: Path
    """The recordings, fsdd.npz; the images come with scikit-learn."""
    out: Path = Path("runs/digits")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    modalities: tuple[str, ...] = ("audio", "image")
    """The modalities that the network has."""
    preset: Literal["mla-audio-visual"] | None = None
    """A published recipe's options, which others on the line, and in a file, override; what it sets and what differs
    from the publication is told before the training."""

    TASK: ClassVar = "digits"
