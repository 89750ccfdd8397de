"""Padded arrays under other names, without a modality, with emotions for labels; and scores on other scales."""

import numpy as np
import pytest
import torch

from gmd.data.sequences.sequence_files import Reading, convert, read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import FEATURES, SIZES, mmsa, mult, write_pickle


def read(tmp_path, content):
    return read_sequences(write_pickle(tmp_path / "data.pkl", content))


def lmf(seed=0):
    """What LMF's pickles of MOSI hold, as Python 3 reads them: bytes for keys, one step of audio and vision."""
    rng = np.random.default_rng(seed)
    return {
        split.encode(): {
            b"glove": rng.standard_normal((size, 5, 6)),
            b"covarep": rng.standard_normal((size, 3)),
            b"facet": rng.standard_normal((size, 4)),
            b"label": rng.uniform(-3, 3, (size, 1)),
        }
        for split, size in SIZES.items()
    }


def test_lmf_has_bytes_for_keys_and_one_step(tmp_path):
    content = lmf()
    data = read(tmp_path, content)
    assert data.features == FEATURES
    for i, sample in enumerate(data.splits["validation"]):
        assert torch.equal(sample.values["audio"], torch.from_numpy(content[b"valid"][b"covarep"][i : i + 1]).float())
        assert sample.values["text"].shape == (5, 6)
        assert sample.target == pytest.approx(content[b"valid"][b"label"][i].item())


@pytest.mark.parametrize("absent", ["vision", "text", "audio"])
def test_a_file_of_two_modalities_says_so(absent, tmp_path):
    content = mmsa()[0]
    for part in content.values():
        del part[absent]
    data = read(tmp_path, content)
    assert list(data.features) == [m for m in FEATURES if m != absent]
    assert f"the file has no {absent}" in data.notes
    assert ("text_bert is not read: it holds the numbers of words" in data.notes) == (absent == "text")
    del content["test"]["id"]
    content["test"][absent] = np.ones((4, 7, 6))
    assert f"train has no {absent}" in error_of(read, tmp_path, content)


def test_a_file_of_none_is_refused(tmp_path):
    content = mmsa()[0]
    for part in content.values():
        for m in FEATURES:
            del part[m]
    assert "train has no text, audio, vision; there is text_bert" in error_of(read, tmp_path, content)


def iemocap(pairs, by_name=False):
    """MulT's IEMOCAP: yes or no to each of four emotions. The first sample that trains is of two, the next of none."""
    content = mult()[0]
    for part in content.values():
        said = np.eye(4, dtype=int)[np.arange(len(part.pop("labels"))) % 4]
        if len(said) == 5:
            said[0, 1] = said[1, 1] = 1
            said[1] = 0
        labels = np.stack([1 - said, said], axis=2) if pairs else said
        part |= (
            dict(zip(("neutral", "happy", "sad", "angry"), labels.swapaxes(0, 1), strict=True))
            if by_name
            else {"labels": labels}
        )
    return content


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
def test_four_emotions_are_four_classes_where_one_is_said(pairs, by_name, tmp_path):
    data = read(tmp_path, iemocap(pairs, by_name))
    assert data.classes == ("neutral", "happy", "sad", "angry")
    assert [int(sample.target) for sample in data.splits["test"]] == [0, 1, 2, 3]
    assert [int(sample.target) for sample in data.splits["train"]] == [2, 3, 0]
    assert "2 samples have none of the emotions, or several, and are left out" in data.notes
    assert any("its accuracies are not to be set beside these" in note for note in data.notes)


def test_emotions_of_other_shapes_are_refused(tmp_path):
    content = iemocap(pairs=True, by_name=True)
    content["valid"]["sad"] = np.zeros((3, 5))
    assert "valid has emotions of" in error_of(read, tmp_path, content)
    content["valid"]["sad"] = np.zeros(3)
    assert "valid has emotions of" in error_of(read, tmp_path, content)


# Scores on other scales


def on_a_scale(tmp_path, low, high):
    content = mmsa()[0]
    for part in content.values():
        part["regression_labels"] = np.linspace(low, high, len(part["regression_labels"]))
    return write_pickle(tmp_path / "data.pkl", content)


@pytest.mark.parametrize(("low", "high"), [(0, 6), (0, 100), (-100, 100), (1, 5), (0.0, 1.0)])
def test_a_scale_is_mapped_to_that_of_mosi(low, high, tmp_path):
    path = on_a_scale(tmp_path, low, high)
    assert "--scale-scores" in error_of(read_sequences, path)
    reading = Reading(scale_scores=(low, high))
    data = read_sequences(path, reading)
    scores = [sample.target.item() for sample in data.splits["train"]]
    assert scores == pytest.approx([-3, -1.5, 0, 1.5, 3])
    assert f"scores from {low:g} to {high:g} are taken for -3 to 3" in data.notes
    convert(path, tmp_path / "out.npz", reading)
    assert [s.target.item() for s in read_sequences(tmp_path / "out.npz").splits["train"]] == pytest.approx(scores)


def test_what_is_beyond_a_scale_is_refused_or_clipped(tmp_path):
    path = on_a_scale(tmp_path, 0, 7)
    message = error_of(read_sequences, path, Reading(scale_scores=(0, 6)))
    assert "is 4 on the scale of --scale-scores, expected one in [-3, 3]" in message
    data = read_sequences(path, Reading(scale_scores=(0, 6), clip_scores=True))
    assert data.splits["train"][-1].target == 3
    assert "3 scores beyond [-3, 3] are clipped to it" in data.notes


@pytest.mark.parametrize("ends", [(6, 0), (1, 1), (float("nan"), 1), (0, float("inf")), (-1e30, 1)])
def test_ends_of_a_scale_that_are_none(ends):
    assert "expected the lower end and the higher one, as in 0 6" in error_of(Reading, scale_scores=ends)


@pytest.mark.parametrize("options", [{"clip_scores": True}, {"scale_scores": (0, 6)}])
def test_numbers_are_on_no_scale(options):
    assert "belong to sentiment" in error_of(Reading, numbers=True, **options)


def test_numbers_of_any_range_are_read_as_they_are(tmp_path):
    path = on_a_scale(tmp_path, 10, 1e6)
    data = read_sequences(path, Reading(numbers=True))
    scores = np.array([sample.target.item() for sample in data.splits["train"]])
    assert scores == pytest.approx(np.linspace(10, 1e6, 5))
    assert data.unit == pytest.approx((scores.mean(), scores.std()))
    content = mmsa()[0]
    content["train"]["regression_labels"] = [1, 2, 3, 4, float("inf")]
    message = error_of(read_sequences, write_pickle(tmp_path / "x.pkl", content), Reading(numbers=True))
    assert "is inf, expected a number of at most 1e18; leave samples without a label out" in message
