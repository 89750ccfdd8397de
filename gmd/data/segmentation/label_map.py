"""From predicted regions to the label map that is written, and from a label map to the regions that are scored."""

import torch
from torch import Tensor

from gmd.data.segmentation.label_scheme import LabelScheme


def paint(regions: Tensor, scheme: LabelScheme) -> Tensor:
    """Makes the label map of predicted regions, in which each voxel has one label value.

    A voxel whose regions are those of a label value gets that value, so that the regions of a label map come back as
    they were. A network may also say what no value says, such as ET outside TC. Such a voxel gets the value of the last
    of its regions, the innermost one, and so belongs to the regions around it too.

    regions: bool [R, X, Y, Z], in the scheme's order, from the outermost to the innermost
    returns uint8 [X, Y, Z], on their device
    Raises ValueError if there are not as many regions as the scheme has.
    """
    if len(regions) != len(scheme.regions):
        expected = f"{len(scheme.regions)}, those of {scheme.name} ({', '.join(scheme.regions)})"
        raise ValueError(f"regions: expected {expected}, got {len(regions)}")
    labels = torch.zeros(regions.shape[1:], dtype=torch.uint8, device=regions.device)
    for region, value in zip(regions, region_values(scheme), strict=True):
        _fill(labels, region, value)
    for those, value in _other_values(scheme).items():
        wanted = torch.tensor(those, device=regions.device).view(-1, 1, 1, 1)
        _fill(labels, (regions == wanted).all(dim=0), value)
    return labels


def regions_of(labels: Tensor, scheme: LabelScheme) -> Tensor:
    """Returns the regions of a label map: each consists of the voxels with one of its values.

    labels: uint8 [X, Y, Z]; a value that the scheme does not know is in no region
    returns bool [R, X, Y, Z], in the scheme's order, on their device
    """
    regions = torch.zeros(len(scheme.regions), *labels.shape, dtype=torch.bool, device=labels.device)
    for value in set().union(*scheme.regions.values()):
        there = labels == value
        for region, own in zip(regions, scheme.regions.values(), strict=True):
            if value in own:
                region |= there
    return regions


def region_values(scheme: LabelScheme) -> list[int]:
    """Returns the label value of each region's voxels that are in no region further in, from the outermost region on.

    It is the value that belongs to fewest regions; of several the one that the scheme names first. BraTS 2018-2021: 2,
    1, 4; from 2023: 2, 1, 3. BraTS 2015: 2, 1, 4, since necrosis (1) and non-enhancing core (3) are one region to the
    network. binary: 1.
    """
    return [min(own, key=lambda value: sum(_membership(value, scheme))) for own in scheme.regions.values()]


def _other_values(scheme: LabelScheme) -> dict[tuple[bool, ...], int]:
    """Returns the label values for overlaps that painting region after region would miss: regions -> value.

    There are none where each region lies in those before it or apart from them, as in BraTS.
    """
    values = region_values(scheme)
    smallest_last = sorted(set().union(*scheme.regions.values()), reverse=True)
    by_regions = {_membership(value, scheme): value for value in smallest_last}
    painted = {those: values[max(place for place, inside in enumerate(those) if inside)] for those in by_regions}
    return {those: value for those, value in by_regions.items() if _membership(painted[those], scheme) != those}


def _membership(value: int, scheme: LabelScheme) -> tuple[bool, ...]:
    """Returns for each region whether it has the label value."""
    return tuple(value in own for own in scheme.regions.values())


def _fill(labels: Tensor, where: Tensor, value: int) -> None:
    """Sets labels, uint8, to the value where the mask, bool, says so; on a CPU `masked_fill_` takes far longer."""
    labels.mul_(~where).add_(where.view(torch.uint8), alpha=value)
