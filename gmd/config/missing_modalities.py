"""The options of modalities that are taken away from the samples of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmd.data.missing import Missing, parse_rates
from gmd.data.missing_list import read_missing_list


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

    @property
    def asked(self) -> bool:
        """Whether anything is to be taken away."""
        return bool(self.missing) or self.missing_list is not None

    def check_missing(self, modalities: Sequence[str]) -> None:
        """Raises UserError for rates that cannot be. modalities: of the network"""
        parse_rates(self.missing, modalities)

    def missing_of(self, modalities: Sequence[str], seed: int) -> Missing:
        """Returns what is taken away. modalities: of the network. Raises UserError as `read_missing_list`."""
        listed = None if self.missing_list is None else read_missing_list(self.missing_list, modalities)
        return Missing(parse_rates(self.missing, modalities), seed, listed, self.missing_list)


def as_now(values: dict) -> dict:
    """Returns the values of a configuration, those of earlier versions as they are written now.

    There one rate was of all modalities, and 0 if nothing was missing.
    """
    rate = values.get("missing", [])
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        return {"missing": [], "missing_list": None} | values
    return {"missing_list": None} | values | {"missing": [f"{rate:g}"] if rate else []}
