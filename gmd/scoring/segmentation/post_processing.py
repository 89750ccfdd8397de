"""ET after post-processing, as the missing-modality field reports it beside ET: RFNet's code and that of its followers.

A prediction of fewer than 500 voxels counts as none. Of a case without enhancing tumour that turns a Dice of 0 into 1,
so the column is mostly higher than ET and says something else. It takes no part in means over the regions.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from gmd.names import POST_PROCESSED

OF = "ET"  # the region that it is made of
FEWEST = 500  # voxels


def post_processed(predicted: Tensor) -> Tensor:
    """Returns a predicted region, or an empty one if it has fewer voxels than FEWEST. bool [..., X, Y, Z], both"""
    return predicted if int(predicted.sum()) >= FEWEST else predicted & False


def with_post_processed(regions: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of an evaluation: the regions, and behind ET, if it is one, ET after post-processing."""
    return tuple(column for region in regions for column in ([region, POST_PROCESSED] if region == OF else [region]))


def mean_over_regions(values: Mapping[str, float]) -> float:
    """Returns the mean of a number over the regions themselves. values: column -> number"""
    return fmean(value for column, value in values.items() if column != POST_PROCESSED)
