"""Labelled pictures: where they come from, and how they are split without a look at the test pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from gmd.errors import UserError

SPLIT_SEED = 1024  # one for all trainings, so that all are tested on the same pictures
VALIDATION = 0.1  # of the training pictures of each class, where nobody has put some aside


@dataclass(frozen=True)
class Pictures:
    """Pictures with their classes.

    Attributes:
        sources: a file for each, or all of them as an array of uint8, [n, height, width, 3].
        labels: number of the class of each, int64 [n].
    """

    sources: Sequence[Path] | np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, members: np.ndarray) -> "Pictures":
        """Returns those with these numbers, int64 [k]."""
        taken = self.sources[members] if isinstance(self.sources, np.ndarray) else [self.sources[i] for i in members]
        return Pictures(taken, self.labels[members])

    def picture(self, index: int) -> Image.Image:
        """Returns one picture in RGB. Raises UserError if its file is no picture, or damaged."""
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return Image.fromarray(source)
        try:
            with Image.open(source) as opened:
                return opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
            raise UserError(f"{source}: cannot be read as a picture ({error}); replace it or take it away") from error


@dataclass(frozen=True)
class PictureSet:
    """What a network is trained, chosen and tested on.

    Attributes:
        classes: their names, in the order of their numbers.
        test: None where there is none.
        photographs: whether a mirrored picture is of its class still, and its rim may be cut off; not so of digits.
    """

    classes: tuple[str, ...]
    training: Pictures
    validation: Pictures
    test: Pictures | None
    photographs: bool


def split(pictures: Pictures, share: float, classes: Sequence[str], stream: int) -> tuple[Pictures, Pictures]:
    """Returns pictures with a share of each class held out, and those held out, at least one of each class.

    The draw depends on SPLIT_SEED, the order of the pictures, and `stream`, a number for each purpose.
    Raises UserError for a class of fewer than two.
    """
    kept, held = [], []
    for number, name in enumerate(classes):
        members = np.flatnonzero(pictures.labels == number)
        if len(members) < 2:
            raise UserError(f"class {name}: got {len(members)} pictures to split, expected 2 at least")
        drawn = np.random.default_rng([SPLIT_SEED, stream, number]).permutation(members)
        out = min(len(drawn) - 1, max(1, round(share * len(drawn))))
        held.append(drawn[:out])
        kept.append(drawn[out:])
    return tuple(pictures.part(np.sort(np.concatenate(parts))) for parts in (kept, held))  # type: ignore[return-value]


def hold_out_validation(pictures: Pictures, classes: Sequence[str]) -> tuple[Pictures, Pictures]:
    """Returns training pictures with VALIDATION of each class held out, and those."""
    return split(pictures, VALIDATION, classes, stream=1)


class Transformed(Dataset):
    """Pictures as a network gets them, for a DataLoader: (picture [3, size, size] float32, class).

    A picture that cannot be read is handed over as the error, since raised in a worker it would lose its message.
    """

    def __init__(self, pictures: Pictures, transform: Callable[[Image.Image], Tensor]):
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | UserError:
        try:
            return self.transform(self.pictures.picture(index)), int(self.pictures.labels[index])
        except UserError as error:
            return error


def collate(items: list) -> list[Tensor] | UserError:
    """Returns a batch, [n, 3, size, size] and int64 [n], or the first error among its pictures."""
    return next((item for item in items if isinstance(item, UserError)), None) or default_collate(items)
