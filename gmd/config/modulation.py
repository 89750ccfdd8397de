"""The options of methods that know which modality a gradient is of: mla, ogm-ge, and the classifiers of cggm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from gmd.config.checks import check_option


@dataclass(frozen=True)
class Modulation:
    """The options of these methods; a part of the options of tasks that offer them.

    The text below a field is its --help.
    """

    alpha: float | None = None
    """ogm-ge: how much the modality that is ahead is slowed down (0.1 by default). mla: how slowly the head closes the
    directions it has seen, in units of their squared length (the head's width by default)."""
    alpha_end: float | None = None
    """mla: what --alpha becomes in the course of each epoch, by the same factor at each step; published 0.01, from 0.1.
    By default it stays as it is."""
    projector: Literal["plain", "normalised"] = "plain"
    """mla: normalised divides the projector by its Frobenius norm after each update, as in the published code."""
    fusion_weights: tuple[str, ...] = ()
    """mla: fixed weights of the modalities' predictions, such as audio=0.55 image=0.45, of those that a sample has; by
    default the surer ones count for more, sample by sample, by their entropy."""
    modulation_epochs: tuple[int, int] | None = None
    """ogm-ge: the first and the last epoch, from 1 on, in which gradients are changed; published 1 51. By default
    all."""
    modulated: Literal["all", "convolutions"] = "all"
    """ogm-ge: what is changed: all parameters before a modality's output, or only the 2-D convolutions that are this
    modality's own, as in the published code."""
    noise: bool = True
    """ogm-ge: noise in the gradients of what belongs to one modality (GE); without it, it is OGM."""
    classifiers: Literal["copies", "transformers"] = "copies"
    """cggm: what judges a modality: copies of the head, on the modality's features; or, as published, small
    transformers, on the encoded steps before they become these features."""

    # options that mean something to some methods only, and these methods
    FOR_MODULATION: ClassVar[dict[str, tuple[str, ...]]] = {
        "alpha": ("ogm-ge", "mla"),
        "alpha_end": ("mla",),
        "projector": ("mla",),
        "fusion_weights": ("mla",),
        "modulation_epochs": ("ogm-ge",),
        "modulated": ("ogm-ge",),
        "noise": ("ogm-ge",),
        "classifiers": ("cggm", "cggm-gmd"),
    }
    POSITIVE_MODULATION: ClassVar[tuple[str, ...]] = ("alpha", "alpha_end")

    def check_modulation(self, modalities: Sequence[str], epochs: int) -> None:
        """Raises UserError for a value that cannot work, or that means nothing with the others.

        modalities: none where they are not known yet, which are checked once they are
        """
        if self.fusion_weights:
            named = self.weights_of_modalities()
            good = len(named) == len(self.fusion_weights) and set(named) == set(modalities or named)
            good = good and all(0 < weight < math.inf for weight in named.values())
            expected = f"MODALITY=NUMBER above 0 for each of {', '.join(modalities)}"
            check_option(good, "fusion_weights", self.fusion_weights, expected)
        if self.modulation_epochs is not None:
            first, last = self.modulation_epochs
            expected = f"a first epoch from 1 to --epochs ({epochs}), and a last one that is no earlier"
            check_option(1 <= first <= min(last, epochs), "modulation_epochs", self.modulation_epochs, expected)

    def weights_of_modalities(self) -> dict[str, float]:
        """Returns modality -> the fixed weight of its prediction; NaN for what is no number."""
        parts = [word.rpartition("=") for word in self.fusion_weights]
        return {name: _number(weight) for name, _, weight in parts}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# what runs of earlier versions, whose files lack it, were trained with
ADDED: dict[str, object] = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in fields(Modulation)
    if field.name != "alpha"
}
