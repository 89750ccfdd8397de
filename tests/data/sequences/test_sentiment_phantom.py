"""The generated set: what each modality tells, and to whom; the same bytes for the same seed."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from gmd.data.sequences.phantom import LENGTHS, PARTS, decode, make_sample, write_sentiment_phantom
from gmd.data.sequences.samples import SENTIMENT_MODALITIES
from gmd.data.sequences.sequence_files import read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import all_samples

# what the docstring promises: correlation with the score, and accuracy of its sign
CEILINGS = {"text": (0.66, 0.72), "audio": (0.67, 0.74), "vision": (0.18, 0.56)}


@pytest.fixture(scope="module")
def samples():
    return [make_sample(0, index) for index in range(4000)]


@pytest.fixture(scope="module")
def scores(samples):
    return np.array([sample.target.item() for sample in samples])


def told(features, scores):
    """Correlation of scores with what a ridge regression makes of features, on the half that it was not fitted to."""
    half = len(scores) // 2
    predicted = RidgeCV(np.logspace(-2, 4, 7)).fit(features[:half], scores[:half]).predict(features[half:])
    return np.corrcoef(predicted, scores[half:])[0, 1]


def pooled(samples, modality, of=lambda steps: steps):
    return np.stack([of(sample.values[modality].double().numpy()).mean(axis=0) for sample in samples])


def test_the_ceilings_are_those_documented(samples, scores):
    decoded = np.array([list(decode(sample).values()) for sample in samples])
    for column, modality in zip(decoded.T, SENTIMENT_MODALITIES, strict=True):
        correlation, accuracy = CEILINGS[modality]
        assert np.corrcoef(column, scores)[0, 1] == pytest.approx(correlation, abs=0.01)
        assert ((column >= 0) == (scores >= 0)).mean() == pytest.approx(accuracy, abs=0.01)
    assert told(decoded, scores) == pytest.approx(0.96, abs=0.01)


def test_a_ridge_regression_on_means_finds_text_and_vision_and_not_audio(samples, scores):
    assert told(pooled(samples, "text"), scores) > 0.62
    assert 0.12 < told(pooled(samples, "vision"), scores) < 0.3
    assert abs(told(pooled(samples, "audio"), scores)) < 0.06


def test_no_product_of_two_features_tells_audios_part_but_that_of_three_does(samples, scores):
    def pairs(steps):
        one, other = np.triu_indices(steps.shape[1])
        return steps[:, one] * steps[:, other]

    assert abs(told(pooled(samples, "audio", of=pairs), scores)) < 0.06
    assert told(pooled(samples, "audio", of=lambda steps: steps[:, :3].prod(axis=1, keepdims=True)), scores) > 0.62


def test_text_and_audio_tell_of_different_parts(samples):
    decoded = np.array([list(decode(sample).values()) for sample in samples])
    between = np.corrcoef(decoded.T) - np.eye(3)
    assert abs(between).max() < 0.05


def test_samples_are_as_described(samples, scores):
    assert abs(scores).max() == 3
    assert (abs(scores) == 3).mean() < 0.06
    assert scores.std() == pytest.approx(np.sqrt(sum(part**2 for part in PARTS.values())), abs=0.1)
    lengths = {m: {len(sample.values[m]) for sample in samples} for m in SENTIMENT_MODALITIES}
    assert all(seen == set(range(LENGTHS[0], LENGTHS[1] + 1)) for seen in lengths.values())
    assert any(len({len(value) for value in sample.values.values()}) == 3 for sample in samples)  # unaligned
    assert {value.dtype for sample in samples for value in sample.values.values()} == {torch.float32}


def test_a_written_set_reads_as_it_was_made_in_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_sentiment_phantom(tmp_path / f"{name}.npz", samples=40, seed=3)
    write_sentiment_phantom(tmp_path / "c.npz", samples=40, seed=4)
    contents = [(tmp_path / f"{name}.npz").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    data = read_sequences(tmp_path / "a.npz")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 28, "validation": 6, "test": 6}
    assert (data.per_step, data.classes, list(data.features)) == (False, None, list(SENTIMENT_MODALITIES))
    for index, sample in enumerate(all_samples(data)):
        made = make_sample(3, index)
        assert (sample.name, sample.target) == (made.name, made.target)
        assert all(torch.equal(sample.values[m], made.values[m]) for m in SENTIMENT_MODALITIES)


def test_the_smallest_set_has_all_splits(tmp_path):
    write_sentiment_phantom(tmp_path / "a.npz", samples=10)
    assert all(read_sequences(tmp_path / "a.npz").splits.values())


def test_what_cannot_be_made_is_refused(tmp_path):
    out = tmp_path / "a.npz"
    assert "9 samples with seed 0: at least 10" in error_of(write_sentiment_phantom, out, samples=9)
    assert "with seed -1" in error_of(write_sentiment_phantom, out, seed=-1)
    assert "expected a name that ends in .npz" in error_of(write_sentiment_phantom, tmp_path / "folder")
    out.write_text("precious")
    assert "is there already" in error_of(write_sentiment_phantom, out)
    assert out.read_text() == "precious"
