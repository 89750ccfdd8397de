"""The README's table of methods: what each one does, whose it is, and what it brought wherever it was measured.

What a method brings is what it has more than joint training of the same network, as the mean over all subsets of the
modalities: a difference within each seed, then the mean over the seeds with its 95 % t-interval.
"""

from typing import NamedTuple

import pandas as pd

from bench.measure.arms import EXACT
from bench.tables import sentiment, study
from bench.tables.intervals import interval
from bench.tables.markdown import line, markdown_table, signed


class MethodRow(NamedTuple):
    """A method of `gmd train --method`, maybe with an option, and its arms; an empty arm: not measured there."""

    name: str
    what: str
    source: str
    phantoms: str = ""
    mfeat: str = ""
    mosi: str = ""
    digits: str = ""

    @property
    def arms(self) -> tuple[str, str, str, str]:
        """Returns the arms in the order of the columns."""
        return self.phantoms, self.mfeat, self.mosi, self.digits


METHODS = (
    MethodRow("joint", "one loss, on all modalities that are there", ""),
    MethodRow("dropout", "as `joint`, on a random subset of them for each sample and step", "", *["dropout"] * 3),
    MethodRow("enumerate", "the mean of the losses of all subsets", "", *["enumerate"] * 3),
    MethodRow("gmd", "a loss for each subset, surgery on their gradients", "Wang et al., AAAI 2024", *[EXACT] * 3),
    MethodRow(
        "surgery --weighting pcd",
        "the same, all modalities before the others; every 8 steps",
        "arXiv 2606.29521",
        *["pcd, every 8"] * 3,
    ),
    MethodRow(
        "surgery --weighting fairgrad",
        "the same, all objectives alike; every 8 steps",
        "Ban and Ji, ICML 2024",
        *["fairgrad, every 8"] * 3,
    ),
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
    MethodRow(
        "qmf", "each modality learns how sure it may be of a sample, and counts so much", "Zhang et al., ICML 2023"
    ),
)
HEAD = ("`--method`", "what it does", "paper")
COLUMNS = ("phantoms, Dice", "mfeat, accuracy", "MOSI, accuracy", "digits, accuracy")
BASE = "joint"


def methods_markdown(phantoms: pd.DataFrame, mfeat: pd.DataFrame, mosi: pd.DataFrame, digits: pd.DataFrame) -> str:
    """Returns a row for each method: points (hundredths) above joint training, bold if the interval excludes 0."""
    gains = (
        study.differences(phantoms, "mean", BASE),
        study.differences(mfeat, "mean", BASE),
        {arm: gain for arm, (_, gain) in sentiment.differences(mosi, "mean").items()},
        {arm: gain for arm, (_, gain) in sentiment.differences(digits, "mean").items()},
    )
    lines = [(*HEAD, *COLUMNS), (*[":--"] * len(HEAD), *["--:"] * len(COLUMNS))]
    for method in METHODS:
        pairs = zip(gains, method.arms, strict=True)
        cells = ["the base"] * len(COLUMNS) if method.name == BASE else [_told(*pair) for pair in pairs]
        lines.append((f"`{method.name}`", method.what, method.source, *cells))
    return "\n".join(line(*cells) for cells in lines)


def which_markdown(phantoms: pd.DataFrame, mfeat: pd.DataFrame, mosi: pd.DataFrame) -> str:
    """Returns points above joint training on the mean of the subsets and on all modalities, a row for each arm."""
    sets, scores = study.data_sets(phantoms, mfeat, mosi), ("mean", "full")
    gains = [study.differences(one.rows, score, BASE) for one in sets for score in scores]
    titles = [f"{one.name}: {study.SCORES[score]}" for one in sets for score in scores]
    lines = [["", *titles]]
    for arm in gains[0]:
        lines.append([arm, *(_told(gain, arm if arm in gain else "") for gain in gains)])
    return markdown_table(lines)


def _told(gains: dict[str, pd.Series], arm: str) -> str:
    return signed(*interval(gains[arm]), digits=1) if arm else ""
