"""Label maps from what a network says of each region, and the regions of a label map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from gmd.data.segmentation.label_map import paint, region_values, regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES, region_targets

SHAPE = (4, 3, 2)


def scheme_of(name: str, regions: dict[str, tuple[int, ...]], background: tuple[int, ...] = (0,)) -> LabelScheme:
    values = set(background).union(*regions.values())
    return LabelScheme(name, {value: f"tissue {value}" for value in values}, regions)


CAVITY = SCHEMES["brats2024-gli"]  # the cavity (4) lies in no other region
CAVITY_INSIDE = scheme_of("cavity inside", {"RC": (4,), "WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)})
ORGANS = scheme_of("apart", {"liver": (7,), "spleen": (200,), "kidneys": (2, 3)})
OVERLAP = scheme_of("overlap", {"A": (1, 2), "B": (2, 3)})
INNER_FIRST = scheme_of("inner first", {"ET": (4,), "TC": (1, 4), "WT": (1, 2, 4)})
UNION = scheme_of("nothing of its own", {"left": (1,), "right": (2,), "both": (1, 2)}, background=(0, 9))
CHOSEN = scheme_of("filled", {"A": (2, 1), "B": (1,), "C": (2,)})
ALL = [*SCHEMES.values(), CAVITY_INSIDE, CHOSEN, ORGANS, OVERLAP, INNER_FIRST, UNION]

of_every_scheme = pytest.mark.parametrize("scheme", ALL, ids=lambda scheme: scheme.name)


def voxel(*regions: bool) -> Tensor:
    """What a network says of the regions of a single voxel."""
    return torch.tensor(regions).view(-1, 1, 1, 1)


@of_every_scheme
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_regions_of_a_label_map_come_back(scheme: LabelScheme, data: st.DataObject):
    """As `region_targets` reads them from a file, whatever values the file has for one and the same regions."""
    labels = data.draw(arrays(np.uint8, SHAPE, elements=st.sampled_from(scheme.values)))
    regions = torch.from_numpy(region_targets(labels, scheme, "it")).bool()
    assert torch.equal(regions_of(torch.from_numpy(labels), scheme), regions)
    painted = paint(regions, scheme)
    assert painted.dtype == torch.uint8
    assert torch.equal(regions_of(painted, scheme), regions)
    assert torch.equal(paint(regions_of(painted, scheme), scheme), painted)


@of_every_scheme
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_contradicts_itself_becomes_a_label_map_whose_regions_stay(scheme: LabelScheme, data: st.DataObject):
    """Each voxel keeps the last of its regions, gets a value of the scheme, and painting anew changes nothing."""
    said = torch.from_numpy(data.draw(arrays(bool, (len(scheme.regions), *SHAPE))))
    labels = paint(said, scheme)
    regions = regions_of(labels, scheme)
    np.testing.assert_array_equal(region_targets(labels.numpy(), scheme, "it"), regions)
    assert torch.equal(labels == 0, ~said.any(dim=0))
    for place in range(len(said)):
        last = said[place] & ~said[place + 1 :].any(dim=0)
        assert regions[place][last].all()
    assert torch.equal(paint(regions, scheme), labels)


@pytest.mark.parametrize("name", ["brats2015", "brats2018", "brats2023"])
@settings(max_examples=25, deadline=None)
@given(said=arrays(bool, (3, *SHAPE)))
def test_nested_regions_grow_by_what_is_inside_them(name: str, said: np.ndarray):
    regions = regions_of(paint(torch.from_numpy(said), SCHEMES[name]), SCHEMES[name])
    for place in range(3):
        np.testing.assert_array_equal(regions[place], said[place:].any(axis=0))


def test_a_voxel_of_enhancing_tumour_alone_is_in_the_regions_around_it():
    for name, value in (("brats2018", 4), ("brats2023", 3)):
        labels = paint(voxel(False, False, True), SCHEMES[name])
        assert labels.item() == value
        assert regions_of(labels, SCHEMES[name]).all()


def test_regions_that_lie_apart_do_not_grow():
    """The cavity is not whole tumour; where the network says both, the one that the scheme names last counts."""
    cavity, both = paint(voxel(False, False, False, True), CAVITY), paint(voxel(True, False, False, True), CAVITY)
    assert (cavity.item(), both.item()) == (4, 4)
    assert regions_of(both, CAVITY).flatten().tolist() == [False, False, False, True]
    assert paint(voxel(True, False, False, True), CAVITY_INSIDE).item() == 3
    assert paint(voxel(True, True, False), ORGANS).item() == 200


def test_regions_that_overlap_have_a_value_for_it():
    """By painting region after region 2 was lost: a voxel of both came back as one of B alone."""
    values = {said: paint(voxel(*said), OVERLAP).item() for said in ((True, False), (True, True), (False, True))}
    assert values == {(True, False): 1, (True, True): 2, (False, True): 3}


def test_the_values_of_each_year():
    values = {name: region_values(scheme) for name, scheme in SCHEMES.items()}
    assert values == {
        "brats2015": [2, 1, 4],
        "brats2018": [2, 1, 4],
        "brats2023": [2, 1, 3],
        "rfnet": [2, 1, 3],
        "brats2024-gli": [2, 1, 3, 4],
        "brats2023-met": [2, 1, 3],
        "brats2025-met": [2, 1, 3, 4],
        "brats2023-ped": [2, 1, 3],
        "brats2024-ped": [4, 2, 1],
        "brats2023-men": [2, 1, 3],
        "brats2024-men-rt": [1],
        "msd": [1, 2, 3],
        "binary": [1],
    }
    assert region_values(CHOSEN) == [2, 1, 2], "of a region without a value of its own the one that is named first"


def test_as_many_regions_as_the_scheme_has():
    with pytest.raises(ValueError, match=r"regions: expected 3, those of brats2018 \(WT, TC, ET\), got 2"):
        paint(voxel(True, True), SCHEMES["brats2018"])
