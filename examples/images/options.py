"""The options of `python -m examples.train_images`; the text below a field is its --help."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gmd.config.checks import check_option

MAY_CHANGE = ("out", "resume", "device", "init")  # in a resumed training: they do not say what is computed from then on


@dataclass(frozen=True)
class Options:
    """Train a network on labelled pictures, by the recipe that Strip-MLP was published with (Cao et al., ICCV 2023).

    A try, in seconds: python -m examples.train_images --data generated --network strip:16:1-1-1-1 --image-size 32
    --augmentation none --mixup 0 --cutmix 0 --epochs 5 --warmup-epochs 1 --lr 0.002 --out runs/shapes

    The published training: python -m examples.train_images --data caltech-101 --out runs/caltech
    """

    data: str
    """A folder with a folder of pictures for each class (Caltech-101: 20 % of each become the test), or with
    train/CLASS, val/CLASS, test/CLASS; CIFAR-100 or CIFAR-10 for Python, unpacked or as .tar.gz; digits: those of
    scikit-learn; generated: drawn shapes."""
    out: Path
    """Folder of this training: options.json, metrics.csv, last.pt, best.pt, and at the end result.json."""
    network: str = "strip-light"
    """strip-light, strip-tiny, strip-small, strip-base, resnet18, or a Strip-MLP of your own, strip:WIDTH:DEPTHS, as in
    strip:32:1-1-1-1."""
    image_size: int = 224
    """Pixels of a side, a multiple of 32. Smaller and larger pictures are resampled to it."""
    init: Path | None = None
    """Weights to begin with, such as the published ones; the last layer is new if its classes are others."""
    epochs: int = 300
    """How often each training picture is seen."""
    warmup_epochs: int = 20
    """Epochs in which the learning rate rises from a thousandth; then it falls to a hundredth, as a cosine."""
    batch: int = 128
    """Pictures in a step. The learning rate does not follow it: that of the publication does not either."""
    lr: float = 5e-4
    """The highest learning rate of AdamW."""
    weight_decay: float = 0.05
    """Of all parameters but biases and those of one axis."""
    clip: float = 5.0
    """The longest gradient; longer ones are scaled down to it."""
    label_smoothing: float = 0.1
    """The share of a target that is spread over all classes."""
    augmentation: Literal["published", "shift", "none"] = "published"
    """published: a random part of the picture, mirrored (not digits), RandAugment, random erasing; shift: moved by an
    eighth at most."""
    mixup: float = 0.8
    """Alpha of mixup; 0: off. Where CutMix is on too, one of both is drawn for each step."""
    cutmix: float = 1.0
    """Alpha of CutMix; 0: off."""
    seed: int = 0
    """Of the initial weights, the order of the pictures and the augmentation; the split is always the same."""
    workers: int = 0
    """Processes that read pictures beside the training. Another number draws other augmentations."""
    device: str = "auto"
    """cuda, cpu, or as torch names them; auto: a GPU where there is one."""
    resume: bool = False
    """Go on with the training in --out, as if it had never stopped."""

    def check(self) -> None:
        """Raises UserError for a value that cannot be."""
        for name in ("epochs", "batch", "image_size"):
            value = getattr(self, name)
            check_option(1 <= value < 2**31, name, value, "a number above 0")
        check_option(self.image_size % 32 == 0, "image_size", self.image_size, "a multiple of 32")
        check_option(self.batch >= 2, "batch", self.batch, "2 at least, since BatchNorm compares pictures")
        check_option(
            0 <= self.warmup_epochs < self.epochs, "warmup_epochs", self.warmup_epochs, "fewer than --epochs, 0 or more"
        )
        for name in ("lr", "clip"):
            value = getattr(self, name)
            check_option(0 < value < math.inf, name, value, "a number above 0")
        for name in ("weight_decay", "mixup", "cutmix"):
            value = getattr(self, name)
            check_option(0 <= value < math.inf, name, value, "0 or a number above it")
        check_option(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 or more, below 1")
        check_option(0 <= self.seed < 2**32, "seed", self.seed, "a number from 0 to 4294967295")
        check_option(0 <= self.workers <= 1024, "workers", self.workers, "a number of processes, 0 to 1024")

    def computing(self) -> dict[str, object]:
        """Returns the options that say what is computed, as plain values."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in MAY_CHANGE}
