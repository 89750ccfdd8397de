"""Random patches: reproducible item by item, cut alike from all that a case has, and nothing else."""

import gc
import weakref
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gmd.data.segmentation.batches import collate
from gmd.data.segmentation.cases import BRATS_MODALITIES, Case, find_cases
from gmd.data.segmentation.patches import RandomPatches
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError


@pytest.fixture(scope="module")
def cases(phantoms: Path) -> list[Case]:
    return find_cases(phantoms)


def patches_of(cases: list[Case], patch: tuple[int, int, int] = (16, 16, 16), **changes) -> RandomPatches:
    return RandomPatches(cases, BRATS_MODALITIES, patch, **({"length": 12, "seed": 5} | changes))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_patch_depends_on_seed_epoch_and_index_alone(cases: list[Case]):
    straight, other = patches_of(cases), patches_of(cases, cache=1)
    straight.epoch = other.epoch = 3
    in_order = [straight[index] for index in range(5)]
    other.epoch = 1
    other[4], other[2]
    other.epoch = 3
    assert same(other[4], in_order[4])
    assert same(other[1], in_order[1])
    straight.epoch = 4
    assert not same(straight[1], in_order[1])
    assert not same(patches_of(cases, seed=6)[1], patches_of(cases)[1])


def test_every_case_has_its_turn_before_one_comes_again(cases: list[Case]):
    whole = patches_of(cases, patch=(32, 32, 32))  # the case itself, so that its tumour gives it away
    turns = [int(whole[index]["target"].sum()) for index in range(12)]
    assert len(set(turns[:6])) == len(set(turns[6:])) == 6
    assert turns[:6] != turns[6:]


def load_numbered(case: Case) -> dict:
    """Every modality tells the number of the voxel, and so does the target, in part."""
    loaded = load_case(case)
    number = torch.arange(1, 32**3 + 1).view(1, 32, 32, 32)
    numbered = {modality: number.float() / 1000 for modality in BRATS_MODALITIES}
    return loaded | numbered | {"target": (number > 32**3 / 2).repeat(3, 1, 1, 1).byte(), "brain": number > 0}


def test_patches_are_plain_tensors_cut_alike(cases: list[Case], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gmd.data.segmentation.patches.load_case", load_numbered)
    patches = patches_of(cases[:1])
    for index in range(8):
        patch = patches[index]
        assert {key: (value.shape, value.dtype) for key, value in patch.items()} == {
            **{modality: ((1, 16, 16, 16), torch.float32) for modality in BRATS_MODALITIES},
            "target": ((3, 16, 16, 16), torch.uint8),
        }
        assert {type(value) for value in patch.values()} == {Tensor}
        places = [unit_interval(patch[modality][0]) for modality in BRATS_MODALITIES]
        for place in places:
            torch.testing.assert_close(place, places[0], atol=1e-4, rtol=0)
        later = patch["target"].bool()
        assert torch.equal(later[0], later[2])
        assert not later[0].any() or later[0].all() or places[0][later[0]].min() > places[0][~later[0]].max()


def unit_interval(values: Tensor) -> Tensor:
    """What scaling and shifting leave as it is."""
    return (values - values.min()) / (values.max() - values.min())


def load_with_a_hole(case: Case) -> dict:
    """T1 shows nothing in a part of the brain. Nothing is cropped."""
    loaded = load_case(case)
    loaded["t1"] = loaded["t1"].clone()
    loaded["t1"][:, 14:20, 12:20, 14:20] = 0
    return loaded | {"brain": torch.ones_like(loaded["brain"])}


def unflipped(patch: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
    for axes in chain.from_iterable(combinations((1, 2, 3), count) for count in range(4)):
        if torch.equal(patch["target"].flip(axes), target):
            return {key: value.flip(axes) for key, value in patch.items()}
    raise AssertionError("the target is not that of the case, flipped")


def test_intensities_change_inside_the_brain_only_each_modality_by_itself(cases: list[Case], monkeypatch):
    monkeypatch.setattr("gmd.data.segmentation.patches.load_case", load_with_a_hole)
    whole = load_with_a_hole(cases[0])
    patches = patches_of(cases[:1], patch=(32, 32, 32))
    drawn = []
    for index in range(12):
        patch = unflipped(patches[index], whole["target"])
        for modality in BRATS_MODALITIES:
            before, after = whole[modality].double(), patch[modality].double()
            assert torch.equal(after == 0, before == 0)
            before, after = before[before != 0], after[after != 0]
            scale = after.std() / before.std()
            shift = after.mean() - scale * before.mean()
            torch.testing.assert_close(after, scale * before + shift, atol=1e-5, rtol=0)
            assert 0.9 <= scale <= 1.1
            assert abs(shift) <= 0.1
            drawn.append((round(scale.item(), 4), round(shift.item(), 4)))
    scales, shifts = (torch.tensor(values) for values in zip(*drawn, strict=True))
    assert len(set(drawn)) == 48
    for extent in (scales - 1, shifts):  # 48 draws fill the interval
        assert extent.min() < -0.07
        assert extent.max() > 0.07


def test_what_is_cached_stays_as_it_was(cases: list[Case]):
    patches = patches_of(cases[:2], length=16)
    first = [patches[index] for index in range(16)]
    assert all(same(patches[index], patch) for index, patch in enumerate(first))


def test_a_missing_modality_changes_nothing_for_the_others(cases: list[Case]):
    whole = patches_of(cases[:1])
    images = {modality: path for modality, path in cases[0].images.items() if modality != "t1"}
    partly = patches_of([replace(cases[0], images=images)])
    for index in range(4):
        expected = whole[index]
        del expected["t1"]
        assert same(partly[index], expected)


def test_a_case_is_read_once_if_it_is_cached(cases: list[Case], monkeypatch: pytest.MonkeyPatch):
    read = []
    monkeypatch.setattr("gmd.data.segmentation.patches.load_case", lambda case: read.append(case) or load_case(case))
    patches = patches_of(cases[:3], cache=2)
    assert read == cases[:2]
    for index in range(6):
        patches[index]
    assert read[2:] == [cases[2]] * 2


def test_the_cache_holds_no_more_than_the_brain(cases: list[Case], monkeypatch: pytest.MonkeyPatch):
    """A crop that is a view keeps the whole volume, of BraTS the 2.5-fold."""
    volumes = []

    def load_watched(case: Case) -> dict:
        loaded = load_case(case)
        flair = loaded["flair"].numpy().copy()
        volumes.append(weakref.ref(flair))
        return loaded | {"flair": torch.from_numpy(flair)}

    monkeypatch.setattr("gmd.data.segmentation.patches.load_case", load_watched)
    patches = patches_of(cases[:2])
    gc.collect()
    assert len(volumes) == 2
    assert all(volume() is None for volume in volumes)
    assert patches[0]["flair"].any()


@pytest.mark.parametrize("cache", [0, 1])
def test_trap_an_unreadable_case_is_the_users_to_mend(cases: list[Case], tmp_path: Path, cache: int):
    """MONAI makes a RuntimeError of whatever a transform raises, and the command line a bug report of that."""
    broken = tmp_path / "broken_flair.nii.gz"
    broken.write_bytes(b"no image")
    case = replace(cases[0], images={"flair": broken})
    with pytest.raises(UserError, match=r"broken_flair\.nii\.gz: cannot be read"):
        patches_of([case], cache=cache)[0]


def test_half_of_the_patches_are_centred_on_the_tumour_and_all_on_the_brain(cases: list[Case]):
    patches = patches_of(cases, patch=(3, 3, 3), length=120)
    centres = [{key: value[:, 1, 1, 1] for key, value in patches[index].items()} for index in range(120)]
    assert 40 < sum(bool(centre["target"].any()) for centre in centres) < 80
    # but for a few at the brain's edge, where a patch has to be moved to fit in
    assert sum(any(centre[modality] != 0 for modality in BRATS_MODALITIES) for centre in centres) > 110


def test_a_patch_larger_than_the_volume_is_padded(cases: list[Case]):
    patch = patches_of(cases, patch=(48, 16, 64))[0]
    assert patch["flair"].shape == (1, 48, 16, 64)
    empty = patch["flair"][0].abs().sum((1, 2)) == 0
    assert empty.sum() >= 16
    assert not patch["target"][:, empty].any()


def test_a_case_without_tumour_has_patches_too(cases: list[Case], monkeypatch: pytest.MonkeyPatch):
    def load_healthy(case: Case) -> dict:
        loaded = load_case(case)
        return loaded | {"target": torch.zeros_like(loaded["target"])}

    monkeypatch.setattr("gmd.data.segmentation.patches.load_case", load_healthy)
    patches = patches_of(cases[:2])  # MONAI would warn of such a case, and warnings are errors here
    assert not patches[0]["target"].any()
    assert patches[0]["flair"].any()


def test_collate_keeps_the_pairs_that_exist():
    volume = torch.ones(1, 2, 2, 2)
    target = torch.ones(3, 2, 2, 2, dtype=torch.uint8)
    samples = [{"t1": volume, "target": target}, {"t2": 2 * volume, "t1": 3 * volume, "target": 0 * target}]
    inputs, targets = collate(samples, ("flair", "t1", "t2"))
    assert inputs.num_samples == 2
    assert inputs.samples == {"t1": [0, 1], "t2": [1]}
    assert inputs.values["t1"][:, 0, 0, 0, 0].tolist() == [1, 3]
    assert inputs.values["t2"].shape == (1, 1, 2, 2, 2)
    assert targets.dtype == torch.float32
    assert targets[:, 0, 0, 0, 0].tolist() == [1, 0]
