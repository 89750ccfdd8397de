"""What each modality adds to the predictions of samples: Shapley values from those that have all modalities."""

from collections.abc import Sequence

from gmd.scoring.outcomes import Outcomes
from gmd.scoring.sequences.tables import Predictions
from gmd.scoring.shapley import Contributions, contributions
from gmd.subsets import all_subsets


def sample_contributions(
    predictions: Predictions, modalities: Sequence[str], outcomes: Outcomes
) -> list[Contributions]:
    """Returns what the modalities add to the score of each outcome, see `Outcome.score_name`.

    Counted are the predictions of samples that have all modalities: scores over different samples cannot be subtracted.

    predictions: from all subsets
    returns nothing for a single modality, if no sample has all, and for an outcome without a label
    """
    complete = ~predictions.subsets[tuple(modalities)].isnan().all(dim=1)
    if len(modalities) < 2 or not complete.any():
        return []
    widths = [outcome.width for outcome in outcomes]
    parts = {s: predictions.subsets[s][complete].split(widths, dim=1) for s in all_subsets(modalities)}
    targets = predictions.targets[complete]
    found = []
    for place, outcome in enumerate(outcomes):
        column = targets.view(len(targets), -1)[:, place]
        labelled = column.isfinite()
        if not labelled.any():
            continue
        title, count = outcome.titled(outcome.score_name), int(labelled.sum())
        scores = {s: outcome.measured(of[place], column)[outcome.score_name] for s, of in parts.items()}
        found.append(contributions(title, count, outcome.score_of_nothing(column[labelled]), scores, modalities))
    return found
