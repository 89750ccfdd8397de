"""The pickle of IEMOCAP's dialogues: a sequence is a dialogue, with a class for each utterance."""

import numpy as np
import pytest
import torch

from gmd.data.sequences.dialogues import CLASSES
from gmd.data.sequences.sequence_files import Reading, read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import all_samples, write_pickle
from helpers.sequence_layouts import DIALOGUES, dialogues


def read(tmp_path, content, seed=0):
    return read_sequences(write_pickle(tmp_path / "IEMOCAP_features.pkl", tuple(content)), Reading(seed))


def test_dialogues(tmp_path):
    content = dialogues()
    data = read(tmp_path, content)
    assert data.classes == CLASSES == ("happy", "sad", "neutral", "angry", "excited", "frustrated")
    assert data.per_step
    assert {sample.name for sample in data.splits["test"]} == content[8]
    assert {sample.name for split in ("train", "validation") for sample in data.splits[split]} == content[7]
    for sample in all_samples(data):
        assert sample.target.tolist() == content[2][sample.name]
        for m, place in (("text", 3), ("audio", 4), ("vision", 5)):
            assert torch.equal(sample.values[m], torch.from_numpy(np.stack(content[place][sample.name])))
    assert f"validation: 2 of {DIALOGUES} training dialogues, whole, drawn by seed 0" in data.notes


def test_the_seed_draws_who_validates_whatever_the_order_of_a_set(tmp_path):
    content = dialogues()
    drawn = [{sample.name for sample in read(tmp_path, content, seed).splits["validation"]} for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert any(other != drawn[0] for other in drawn)
    content[7] = sorted(content[7], reverse=True)
    assert {sample.name for sample in read(tmp_path, content).splits["validation"]} == drawn[0]


def without_one(entries):
    return {name: value for name, value in entries.items() if name != "Ses01_impro00"}


def with_one(entries, value):
    return {**entries, "Ses01_impro00": value}


WRONG = {
    "of eight": (lambda c: c[:8], "is a tuple of 8, expected IEMOCAP's nine"),
    "meld": (lambda c: [*c[:5], ["words"], *c[6:]], "MELD's, without vision, are not read"),
    "no features": (lambda c: [*c[:3], without_one(c[3]), *c[4:]], "text of Ses01_impro00 is not there"),
    "no labels": (lambda c: [*c[:2], without_one(c[2]), *c[3:]], "the labels of Ses01_impro00 is not there"),
    "class 6": (lambda c: [*c[:2], with_one(c[2], [6, 0]), *c[3:]], "Ses01_impro00 has class 6, expected 0 to 5"),
    "too few labels": (lambda c: [*c[:2], with_one(c[2], [1]), *c[3:]], "has 1 targets, expected as many as it has"),
    "in both": (lambda c: [*c[:8], {*c[8], "Ses01_impro00"}], "Ses01_impro00 trains and tests"),
    "no list": (lambda c: [*c[:8], "test"], "has 'test' for the dialogues that train or test"),
    "of text": (lambda c: [*c[:3], with_one(c[3], ["a", "b"]), *c[4:]], "text of Ses01_impro00 is <U1 [2]"),
    "nobody tests": (lambda c: [*c[:8], set()], "the test split is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name, tmp_path):
    change, message = WRONG[name]
    assert message in error_of(read, tmp_path, change(dialogues()))
