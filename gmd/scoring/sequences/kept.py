"""Predictions of samples from the modalities that each keeps, out of those from all subsets: no network is run anew."""

from collections.abc import Mapping

import torch

from gmd.scoring.sequences.tables import Predictions
from gmd.subsets import Subset


def kept_predictions(predictions: Predictions, kept: Mapping[str, Subset]) -> Predictions:
    """Returns each sample's predictions from what it keeps, under the key None.

    predictions: from all subsets of the modalities
    kept: name of each sample -> some of the modalities that it has, in the network's order
    """
    rows_of: dict[Subset, list[int]] = {}
    for row, name in enumerate(predictions.names):
        rows_of.setdefault(kept[name], []).append(row)
    values = torch.full_like(next(iter(predictions.subsets.values())), torch.nan)
    for subset, rows in rows_of.items():
        values[rows] = predictions.subsets[subset][rows]
    return predictions._replace(subsets={None: values})
