"""The README's table of methods: what each one does, whose it is, and what it brought wherever it was measured.

What a method brings is what it has more than joint training of the same network, as the mean over all subsets of the
modalities: a difference within each seed, then the mean over the seeds with its 95 % t-interval.
"""

from typing import NamedTuple

import pandas as pd

from bench.tables import sentiment, study
from bench.tables.intervals import interval
from bench.tables.markdown import signed


class MethodRow(NamedTuple):
    """A method of `gmd train --method`, and the arms by which it was measured; an empty arm: not measured there."""

    name: str
    what: str
    source: str
    phantoms: str = ""
    mosi: str = ""
    digits: str = ""


METHODS = (
    MethodRow("joint", "one loss, on all modalities that are there", ""),
    MethodRow("dropout", "as `joint`, on a random subset of them for each sample and step", ""),
    MethodRow("enumerate", "the mean of the losses of all subsets", "", "enumerate", "enumerate"),
    MethodRow("gmd", "a loss for each subset, surgery on their gradients", "Wang et al., AAAI 2024", "gmd", "gmd"),
    MethodRow("surgery", "as `gmd`, with another weighting (`--weighting`)", ""),
    MethodRow("scalarised", "the losses of all subsets, weighed by their values (`--weighting`)", ""),
    MethodRow(
        "cggm",
        "slows down modalities that are ahead, and turns the head's gradient",
        "Guo et al., NeurIPS 2024",
        mosi="cggm, both",
        digits="cggm, both",
    ),
    MethodRow("cggm-gmd", "`cggm` around the surgery of `gmd`", "", mosi="cggm-gmd"),
    MethodRow(
        "ogm-ge",
        "slows down the modality that is ahead, and adds noise",
        "Peng et al., CVPR 2022",
        mosi="ogm-ge",
        digits="ogm-ge",
    ),
    MethodRow(
        "mla",
        "modalities take turns; a projector protects the shared head",
        "Zhang et al., CVPR 2024",
        mosi="mla",
        digits="mla",
    ),
)
HEAD = ("`--method`", "what it does", "paper", "phantoms, Dice", "MOSI, accuracy", "digits, accuracy")
BASE = "joint"


def methods_markdown(phantoms: pd.DataFrame, mosi: pd.DataFrame, digits: pd.DataFrame) -> str:
    """Returns a row for each method: points (hundredths) above joint training, bold if the interval excludes 0."""
    gains = (
        {arm: 100 * gain for arm, gain in study.differences(phantoms, "dice_mean", BASE).items()},
        {arm: gain for arm, (_, gain) in sentiment.differences(mosi, "mean").items()},
        {arm: gain for arm, (_, gain) in sentiment.differences(digits, "mean").items()},
    )
    lines = [HEAD, (*[":--"] * 3, *["--:"] * 3)]
    for method in METHODS:
        arms = (method.phantoms, method.mosi, method.digits)
        cells = ["the base"] * 3 if method.name == BASE else [_told(*pair) for pair in zip(gains, arms, strict=True)]
        lines.append((f"`{method.name}`", method.what, method.source, *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(gains: dict[str, pd.Series], arm: str) -> str:
    return signed(*interval(gains[arm]), digits=1) if arm else ""
