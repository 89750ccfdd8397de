"""How much more or less each modality adds to the scores of a run than to those of the baseline: by Shapley values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gmd.evaluation.compare.paired import Difference, labelled_difference
from gmd.evaluation.compare.run_scores import METRICS, Column, Item, RunScores
from gmd.names import POST_PROCESSED
from gmd.scoring.shapley import shapley_weights
from gmd.subsets import Subset, all_subsets

OF = ("Dice", "accuracy", "MAE")  # not of HD95, which evaluations report no Shapley values of


class ContributionRow(NamedTuple):
    """The difference between one run and the baseline in what one modality adds to one column.

    Attributes:
        run: the name of the run.
        modality: of the baseline's.
        column: the metric and the region; an error counts as what the modality takes away from it.
        difference: the run minus the baseline, with its interval. It has no means: these would need a score of nothing,
            which is the same for both and drops out.
    """

    run: str
    modality: str
    column: Column
    difference: Difference


def contribution_rows(
    names: Sequence[str], scores: Sequence[RunScores], common: Mapping[Item, Sequence[Subset]], seed: int
) -> list[ContributionRow]:
    """Compares what each modality adds, over the items that every run has scored with all subsets.

    A Shapley value is a sum over the subsets with fixed weights, so that each item has one, and these are paired and
    resampled as all other scores.

    names, scores: of the runs, the first is the baseline, all with its columns in its order
    common: item -> the subsets that every run has scored of it
    returns rows run by run, in a run modality by modality; none for a single modality, and without such an item
    """
    first = scores[0]
    subsets = all_subsets(first.modalities)
    items = [item for item, there in common.items() if len(there) == len(subsets)]
    if len(first.modalities) < 2 or not items:
        return []
    base, *others = (_added(run, items, first.modalities) for run in scores)
    units = [first.units[item] for item in items]
    return [
        ContributionRow(
            name, modality, column, _without_means(labelled_difference(base[m, :, c], other[m, :, c], units, seed))
        )
        for name, other in zip(names[1:], others, strict=True)
        for m, modality in enumerate(first.modalities)
        for c, column in enumerate(first.columns)
        if column[0] in OF and column[1] != POST_PROCESSED
    ]


def _added(run: RunScores, items: Sequence[Item], modalities: Sequence[str]) -> np.ndarray:
    """Returns what each modality adds to each number of each item, but for what nothing scores: [M, items, columns]."""
    subsets = all_subsets(modalities)
    values = np.array([[run.values[item][subset] for subset in subsets] for item in items])
    weights = np.array([[of[subset] for subset in subsets] for of in shapley_weights(modalities).values()])
    signs = np.array([1.0 if METRICS[metric].higher_is_better else -1.0 for metric, _ in run.columns])
    return np.einsum("ms,isc->mic", weights, values * signs)


def _without_means(difference: Difference) -> Difference:
    return difference._replace(base=np.nan, other=np.nan)
