"""Random patches: reproducible item by item, cut alike from all that a case has, and nothing else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gmd.data.cases import BRATS_MODALITIES, Case, find_cases
from gmd.data.labels import SCHEMES
from gmd.data.patches import RandomPatches, collate
from gmd.data.volumes import load_case


@pytest.fixture(scope="module")
def cases(phantoms: Path) -> list[Case]:
    return find_cases(phantoms)[0]


def patches_of(cases: list[Case], patch: tuple[int, int, int] = (16, 16, 16), **changes) -> RandomPatches:
    return RandomPatches(cases, SCHEMES["brats2018"], BRATS_MODALITIES, patch, **({"length": 12, "seed": 5} | changes))


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
    whole = patches_of(cases, patch=(32, 32, 32))  # the case itself, flipped, so that its sum gives it away
    turns = [round(whole[index]["flair"].double().abs().sum().item(), 3) for index in range(12)]
    assert len(set(turns[:6])) == len(set(turns[6:])) == 6
    assert turns[:6] != turns[6:]


def test_patches_are_plain_tensors_cut_from_the_case(cases: list[Case]):
    patches = patches_of(cases[:1])
    whole = load_case(cases[0], SCHEMES["brats2018"])
    for index in range(4):
        patch = patches[index]
        assert {key: (value.shape, value.dtype) for key, value in patch.items()} == {
            **{modality: ((1, 16, 16, 16), torch.float32) for modality in BRATS_MODALITIES},
            "target": ((3, 16, 16, 16), torch.uint8),
        }
        assert {type(value) for value in patch.values()} == {Tensor}
        # the modalities and the target were cut and flipped alike: the values belong together as in the case
        stacked = torch.cat([patch[modality] for modality in BRATS_MODALITIES] + [patch["target"]]).flatten(1).T
        known = torch.cat([whole[modality] for modality in BRATS_MODALITIES] + [whole["target"]]).flatten(1).T
        assert {tuple(row) for row in stacked.tolist()} <= {tuple(row) for row in known.tolist()}


def test_half_of_the_patches_are_centred_on_the_tumour(cases: list[Case]):
    patches = patches_of(cases, patch=(3, 3, 3), length=120)
    tumour = sum(bool(patches[index]["target"][:, 1, 1, 1].any()) for index in range(120))
    assert 40 < tumour < 80


def test_a_patch_larger_than_the_volume_is_padded(cases: list[Case]):
    patch = patches_of(cases, patch=(48, 16, 64))[0]
    assert patch["flair"].shape == (1, 48, 16, 64)
    empty = patch["flair"][0].abs().sum((1, 2)) == 0
    assert empty.sum() >= 16
    assert not patch["target"][:, empty].any()


def test_a_case_without_tumour_has_patches_too(cases: list[Case], monkeypatch: pytest.MonkeyPatch):
    def load_healthy(case: Case, scheme) -> dict:
        loaded = load_case(case, scheme)
        return loaded | {"target": torch.zeros_like(loaded["target"])}

    monkeypatch.setattr("gmd.data.patches.load_case", load_healthy)
    patches = patches_of(cases[:2])  # MONAI warns of such a case, and warnings are errors here
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
