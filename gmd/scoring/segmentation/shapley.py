"""What each modality adds to the Dice of a region: Shapley values from the cases that have all modalities."""

from collections.abc import Sequence

from gmd.names import POST_PROCESSED
from gmd.scoring.segmentation.tables import Score, row_numbers, subset_table
from gmd.scoring.shapley import Contributions, contributions


def case_contributions(
    scores: Sequence[Score], modalities: Sequence[str], regions: Sequence[str]
) -> list[Contributions]:
    """Returns what the modalities add to the Dice of each region and to their mean.

    Counted are the cases that have all modalities: means over different cases cannot be subtracted. Without a modality
    nothing is segmented, which counts 0. ET after post-processing is left out, as in means over regions.

    scores: of all cases and subsets; regions: the columns of the table
    returns nothing for a single modality, and if no case has all
    """
    complete = {score.case for score in scores if score.subset == tuple(modalities)}
    if len(modalities) < 2 or not complete:
        return []
    rows = subset_table([score for score in scores if score.case in complete], modalities, regions)
    dice = {row.subset: row_numbers(row._replace(hd95={}), regions) for row in rows}
    return [
        contributions(name, len(complete), 0.0, {subset: of[name] for subset, of in dice.items()}, modalities)
        for name in (*regions, "mean")
        if name != POST_PROCESSED
    ]
