"""The metrics of segmentation that an evaluation can measure beside Dice and HD95: their names and their columns."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gmd.errors import UserError, shown

LEGACY, LESION_WISE, LESION_WISE_2023, SURFACE_DICE, VOLUME = (
    *("legacy", "lesion-wise", "lesion-wise-2023", "surface-dice", "volume"),
)
TOLERANCE = 1.0  # mm, of the surface Dice, unless another one is asked for
# metric -> the columns of its numbers; that of the surface Dice has its tolerance in its name
_COLUMNS: dict[str, tuple[str, ...]] = {
    LEGACY: (),
    LESION_WISE: tuple(f"lesion_{number}" for number in ("dice", "hd95", "nsd", "f1", "tp", "fp", "fn")),
    LESION_WISE_2023: tuple(f"lesion2023_{number}" for number in ("dice", "hd95", "tp", "fp", "fn")),
    SURFACE_DICE: ("surface_dice_{}mm",),
    VOLUME: ("true_ml", "predicted_ml", "error_ml", "relative_error"),
}
_METRICS = {column: metric for metric, columns in _COLUMNS.items() for column in columns}
_SURFACE = re.compile(r"surface_dice_\d[\d.e+-]*mm")


@dataclass(frozen=True)
class Metrics:
    """What an evaluation measures beside Dice and HD95, which it always measures.

    Attributes:
        chosen: names of metrics, each once, `legacy` for Dice and HD95 themselves perhaps among them.
        tolerance: of the surface Dice, in mm.
    """

    chosen: tuple[str, ...] = ()
    tolerance: float = TOLERANCE

    def columns_of(self, metric: str) -> tuple[str, ...]:
        """Returns the columns of a metric's numbers."""
        return tuple(column.format(f"{self.tolerance:g}") for column in _COLUMNS[metric])

    @property
    def further(self) -> tuple[str, ...]:
        """Returns the metrics that are measured beside Dice and HD95."""
        return tuple(metric for metric in self.chosen if metric != LEGACY)


def parse_metrics(words: Sequence[str]) -> Metrics:
    """Returns the metrics that words ask for, such as `lesion-wise` and `surface-dice=2`, a tolerance of 2 mm.

    Raises UserError for what is none, for one that is given twice, and for a tolerance that is no length.
    """
    chosen: list[str] = []
    tolerance = TOLERANCE
    for word in words:
        name, given, value = word.partition("=")
        if name not in _COLUMNS or (given and name != SURFACE_DICE):
            raise UserError(
                f"--metrics: got '{shown(word, 100)}', expected some of {', '.join(_COLUMNS)}; the surface Dice may "
                f"have its tolerance in mm behind it, {SURFACE_DICE}=2"
            )
        if name in chosen:
            raise UserError(f"--metrics: {name} is given twice")
        chosen.append(name)
        tolerance = _millimetres(value) if given else tolerance
    return Metrics(tuple(chosen), tolerance)


def metric_of(column: str) -> str:
    """Returns the metric that a column of numbers is of; empty if none has such a column."""
    return SURFACE_DICE if _SURFACE.fullmatch(column) else _METRICS.get(column, "")


def _millimetres(text: str) -> float:
    """Returns the tolerance in a text. Raises UserError unless it is a number of mm above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1000:
        raise UserError(f"--metrics: the tolerance of {SURFACE_DICE} is '{shown(text, 100)}', expected mm, such as 2")
    return value
