"""What a user says of how a file of sequences is to be read, and the file does not say itself."""

from dataclasses import dataclass

from gmd.errors import UserError


@dataclass(frozen=True)
class Reading:
    """How a file of sequences is read.

    Attributes:
        seed: draws what is held out for validation, where the file has no such split.
        numbers: whether scores may be any numbers; otherwise they are sentiment, in [-3, 3].
        clip_scores: whether scores beyond [-3, 3] become -3 or 3, instead of being refused.
        scale_scores: the ends of the scale that the scores are on, which become -3 and 3; None: they are as they are.
        fold: which of the folds that the file has, from 1 on; None where it has none.

    Raises UserError for ends of a scale that are none, and for clipping or scaling of numbers that are no sentiment.
    """

    seed: int = 0
    numbers: bool = False
    clip_scores: bool = False
    scale_scores: tuple[float, float] | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        if self.scale_scores is not None:
            check_scale(self.scale_scores)
        if self.numbers and (self.clip_scores or self.scale_scores):
            raise UserError("--clip-scores, --scale-scores: belong to sentiment, in [-3, 3]; leave them out")


def check_scale(ends: tuple[float, float]) -> None:
    """Raises UserError unless the ends of a scale are two finite numbers, the lower one first."""
    low, high = ends
    if not -1e18 < low < high < 1e18:
        raise UserError(f"--scale-scores: got {low:g} {high:g}, expected the lower end and the higher one, as in 0 6")
