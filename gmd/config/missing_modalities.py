"""The options of modalities that are taken away from the samples of a training, or of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmd.data.missing import Missing, parse_rates
from gmd.data.missing_list import read_missing_list
from gmd.errors import UserError

CURVE_RATES = tuple(tenths / 10 for tenths in range(10))  # of a curve, unless other ones are asked for


@dataclass(frozen=True)
class MissingModalities:
    """What samples lack on purpose: those of a training, as a part of every task's options, or of an evaluation.

    The text below a field is its --help.
    """

    missing: tuple[str, ...] = ()
    """Probability with which each modality of each training sample is missing, such as 0.3, or by name, such as
    text=0.5 audio=0.2; decided by --seed, once for all epochs. A sample keeps at least one. Validation stays whole."""
    missing_list: Path | None = None
    """A table of which modalities each training sample keeps, by columns of 1 and 0 behind the samples' names, or a
    mask file of IM-Fuse or PASSION (flair, t1ce, t1, t2)."""

    def check_missing(self, modalities: Sequence[str]) -> None:
        """Raises UserError for rates that cannot be. modalities: of the network"""
        parse_rates(self.missing, modalities)

    def missing_of(self, modalities: Sequence[str], seed: int) -> Missing:
        """Returns what is taken away. modalities: of the network. Raises UserError as `read_missing_list`."""
        listed = None if self.missing_list is None else read_missing_list(self.missing_list, modalities)
        return Missing(parse_rates(self.missing, modalities), seed, listed, self.missing_list)


@dataclass(frozen=True)
class MissingInEvaluation(MissingModalities):
    """What test samples lack on purpose, for results beside those of the subsets."""

    missing_curve: tuple[float, ...] = ()
    """The missing rates of the curve of scores, ascending; none: no curve."""

    def check_curve(self, modalities: Sequence[str]) -> None:
        """Raises UserError for a curve over a network that has one modality, of which nothing can go missing."""
        if self.missing_curve and len(modalities) == 1:
            raise UserError(
                f"--missing-curve: the run has {modalities[0]} alone, which every sample keeps; leave it out"
            )


def curve_rates(given: Sequence[float] | None) -> tuple[float, ...]:
    """Returns the missing rates of a curve, ascending: those given, CURVE_RATES if that is empty, none if it is None.

    Raises UserError for a rate outside of [0, 1).
    """
    if given is None:
        return ()
    for rate in given:
        if not 0 <= rate < 1:
            raise UserError(f"--missing-curve: got {rate:g}, expected rates from 0 to less than 1")
    return tuple(sorted(set(given))) or CURVE_RATES


def as_now(values: dict) -> dict:
    """Returns the values of a configuration, those of earlier versions as they are written now.

    There one rate was of all modalities, and 0 if nothing was missing.
    """
    rate = values.get("missing", [])
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        return {"missing": [], "missing_list": None} | values
    return {"missing_list": None} | values | {"missing": [f"{rate:g}"] if rate else []}
