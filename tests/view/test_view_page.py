"""The page of a case: its volumes, the order of its predictions, what it says, and that names stay text."""

import re

import numpy as np
import pytest

from gmd.errors import shown
from gmd.subsets import all_subsets, subset_name
from gmd.training.run_files import PAGE_MARK
from gmd.view.case_view import CaseView, SubsetView, fullest_slices, worst_first
from gmd.view.page import page_of
from helpers.report_cases import Page
from helpers.view_cases import REGIONS, about_of, captions_of, made_up_view, volume_of

FOUR, SIX = ("flair", "t1", "t1ce", "t2"), ("a", "b", "c", "d", "e", "f")


def page(seen: CaseView, run: str = "a run", modalities: tuple[str, ...] = ()) -> str:
    return page_of(seen, run, "best.pt (epoch 3)", "It is a test case.", REGIONS, modalities)


def test_the_page_holds_every_volume_as_it_is():
    seen = made_up_view()
    text = page(seen)
    for place, voxels in enumerate(seen.images.values()):
        assert np.array_equal(volume_of(text, f"image-{place}"), voxels)
    for place, one in enumerate(seen.predictions):
        assert np.array_equal(volume_of(text, f"prediction-{place}"), one.voxels)
    assert np.array_equal(volume_of(text, "truth"), seen.truth)
    assert text.startswith(PAGE_MARK)
    Page(text)
    assert page(made_up_view()) == text, "the same bytes"


def test_the_script_is_told_what_is_where():
    told = about_of(page(made_up_view(spacing=(1.0, 1.0, 5.5))))
    assert told["shape"] == [12, 14, 10]
    assert (told["full"], told["origin"], told["spacing"]) == ([17, 19, 15], [1, 2, 3], [1.0, 1.0, 5.5])
    assert told["modalities"] == ["flair", "t1ce"]
    assert told["predictions"] == ["flair", "t1ce", "flair+t1ce"]
    assert told["start"] == [3, 4, 2], "the first of the slices that are as full"


def test_predictions_stand_by_size_and_the_worst_first():
    voxels = np.zeros((2, 2, 2), np.uint8)
    dice = {("a",): 0.5, ("b",): 0.25, ("c",): 0.375, ("a", "b"): 0.75, ("a", "c"): 0.125, ("a", "b", "c"): 0.25}
    views = [SubsetView(subset, voxels, {"WT": value, "TC": value}) for subset, value in dice.items()]
    names = [subset_name(one.subset) for one in worst_first(views[::-1])]
    assert names == ["b", "c", "a", "a+c", "a+b", "a+b+c"]
    alike = [SubsetView(subset, voxels, {"WT": 0.0}) for subset in all_subsets(("a", "b", "c"))]
    assert worst_first(alike) == alike, "in the order of the modalities"


def test_captions_tell_dice_in_the_order_of_the_predictions():
    seen = made_up_view(modalities=FOUR)
    captions = captions_of(page(seen))
    assert [name for name, _ in captions] == [" + ".join(one.subset) for one in seen.predictions]
    assert len(captions) == 15
    for (_, told), one in zip(captions, seen.predictions, strict=True):
        assert told == " ".join(f"{region} {one.dice[region]:.2f}" for region in REGIONS)


@pytest.mark.parametrize(("modalities", "unfolded"), [(("a",), 1), (FOUR, 4), (SIX, 3)], ids=["1", "15", "63"])
def test_many_subsets_are_folded_by_size(modalities: tuple[str, ...], unfolded: int):
    text = page(made_up_view(shape=(4, 5, 6), modalities=modalities))
    assert text.count("<details") == len(modalities)
    assert text.count("<details open>") == unfolded, "of six modalities: one, five and six of them, 13 pictures"
    assert text.count('class="subset"') == 2 ** len(modalities) - 1


def test_groups_tell_their_mean_and_their_worst():
    text = page(made_up_view())
    assert "<b>1 of 2 modalities</b>" in text
    assert "2 subsets, mean Dice 0.06, worst 0.00" in text
    assert '<b>2 of 2 modalities</b><span class="quiet"> mean Dice 0.25</span>' in text


LACKING = {
    ("flair",): "The case lacks t1, t1ce and t2. ",
    ("flair", "t1"): "The case lacks t1ce and t2. ",
    ("flair", "t1", "t2"): "The case lacks t1ce. ",
    FOUR: "",
}


@pytest.mark.parametrize("there", LACKING, ids="+".join)
def test_the_page_says_what_the_case_lacks(there: tuple[str, ...]):
    text = Page(page(made_up_view(shape=(4, 5, 6), modalities=there), modalities=FOUR)).text()
    assert f"Segmented by a run , best.pt (epoch 3). It is a test case. {LACKING[there]}9 x 10 x 11 voxels" in text


def test_names_are_text_wherever_they_stand():
    evil = "</script><img src=x onerror=alert(1)>&\"'\x1b[31m"
    seen = made_up_view(modalities=(evil, "t1"), name=f"{evil}\udcff")
    text = page(seen, run=evil)
    taken_apart = Page(text)
    assert "img" not in {tag for tag, _ in taken_apart.elements}
    assert not any(name.startswith("on") for _, attributes in taken_apart.elements for name in attributes)
    assert about_of(text)["modalities"] == [evil, "t1"]
    assert captions_of(text)[-1][0] == f"{evil} + t1"
    assert shown(evil) in " ".join(taken_apart.words)
    assert "\x1b" not in text.split('<script type="application/json"')[0].split("<h1>")[1].split("</h1>")[0]


def test_the_fullest_slice_is_found_along_each_axis():
    voxels = np.zeros((5, 6, 7), np.uint8)
    voxels[3, 1:4, 2] = 1
    voxels[2, 1, 5] = 7
    assert fullest_slices(voxels) == (3, 1, 2)


@pytest.mark.slow
def test_a_page_of_a_case_of_brats_is_no_larger_than_can_be_sent_around():
    """As much as there can be: images of noise do not get smaller by compression, and borders are ragged."""
    rng = np.random.default_rng(0)
    shape = (146, 181, 155)  # of 240 x 240 x 155, cropped to the brain
    far = np.linalg.norm([2 * axis / side - 1 for axis, side in zip(np.indices(shape), shape, strict=True)], axis=0)
    images = {name: np.where(far < 1, rng.integers(1, 256, shape), 0).astype(np.uint8) for name in FOUR}
    ragged = far + 0.02 * rng.standard_normal(shape)
    tumour = ((ragged < 0.5) * 1 + (ragged < 0.3) * 2 + (ragged < 0.2) * 4).astype(np.uint8)
    predictions = [SubsetView(subset, tumour, {"WT": 0.5}) for subset in all_subsets(FOUR)]
    seen = made_up_view()._replace(full=(240, 240, 155), images=images, truth=tumour, predictions=predictions)
    assert 10e6 < len(page(seen)) < 30e6


def test_the_page_asks_nobody_for_anything():
    text = page(made_up_view())
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\(", text)
