"""The pickles of MAG-BERT and MISA, a tuple for each sample, and the vectors that words get."""

import numpy as np
import pytest
import torch

from gmd.data.sequences.hashed_words import FEATURES, word_vectors
from gmd.data.sequences.sequence_files import read_sequences
from helpers.nifti_cases import error_of
from helpers.sequence_cases import SPLIT_OF, write_pickle
from helpers.sequence_layouts import MISA_PARTS, word_samples, write_misa


def as_expected(data, content):
    for split, part in MISA_PARTS.items():
        samples = data.splits[SPLIT_OF[split]]
        assert [sample.name for sample in samples] == [name for _, _, name in content[part]]
        for sample, (inputs, score, _) in zip(samples, content[part], strict=True):
            words = inputs[3] if len(inputs) == 4 else inputs[0]
            assert torch.equal(sample.values["text"], torch.from_numpy(word_vectors(words)))
            assert torch.equal(sample.values["vision"], torch.from_numpy(inputs[1].astype(np.float32)))
            assert torch.equal(sample.values["audio"], torch.from_numpy(inputs[2].astype(np.float32)))
            assert sample.target == pytest.approx(score.item())
    assert list(data.features) == ["text", "audio", "vision"]
    assert data.features["text"] == FEATURES
    assert "words become fixed random vectors" in data.notes[0]


def test_misa_is_a_folder(tmp_path):
    content = word_samples()
    as_expected(read_sequences(write_misa(tmp_path / "misa", content)), content)


def test_mag_bert_is_a_file(tmp_path):
    content = word_samples(actual_words=False)
    as_expected(read_sequences(write_pickle(tmp_path / "mosi.pkl", content)), content)


def test_numbers_of_words_are_words_too(tmp_path):
    content = word_samples()
    content = {part: [((i[:3]), score, name) for i, score, name in samples] for part, samples in content.items()}
    data = read_sequences(write_misa(tmp_path / "misa", content))
    words = content["train"][0][0][0]
    assert torch.equal(data.splits["train"][0].values["text"], torch.from_numpy(word_vectors(words.tolist())))


def test_a_word_has_one_vector_whatever_is_beside_it():
    one, both = word_vectors(["film"]), word_vectors(["a", b"FILM"])
    assert one.dtype == np.float32
    assert np.array_equal(one[0], both[1])
    assert not np.array_equal(both[0], both[1])
    assert word_vectors([]).shape == (0, FEATURES)
    cosine = both[0] @ both[1] / np.linalg.norm(both[0]) / np.linalg.norm(both[1])
    assert abs(cosine) < 0.25


def changed(part, number, change):
    content = word_samples(actual_words=False)
    content[part][number] = change(content[part][number])
    return content


WRONG = {
    "no tuple": (lambda sample: "sample", "sample 1 of train is 'sample', expected ((words, vision, audio), score"),
    "two inputs": (lambda sample: (sample[0][:2], *sample[1:]), "has 2 inputs, expected words, vision and audio"),
    "words of numbers with points": (
        lambda sample: ((np.ones(2), *sample[0][1:]), *sample[1:]),
        "sample 1 of train words are float64 [2], expected text",
    ),
    "several scores": (lambda sample: (sample[0], np.zeros(2), "x"), "score is float64 [2], expected a number"),
    "a score of text": (lambda sample: (sample[0], "good", "x"), "expected a number"),
    "a score beyond": (lambda sample: (sample[0], 7.5, "x"), "the label of x is 7.5, expected one in [-3, 3]"),
    "one axis": (lambda sample: ((["a"], np.ones(4), np.ones((1, 3))), 0.0, "x"), "vision of x is float64 [4]"),
    "other features": (
        lambda sample: ((["a"], np.ones((1, 9)), np.ones((1, 3))), 0.0, "x"),
        "vision of x has 9 features for each step, expected 4",
    ),
    "ragged": (lambda sample: ((["a"], [[1.0], [1.0, 2.0]], np.ones((1, 3))), 0.0, "x"), "vision is no array"),
    "none among words": (lambda sample: (([None, "a"], *sample[0][1:]), *sample[1:]), "among its words, expected text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_sample_is_named(name, tmp_path):
    change, message = WRONG[name]
    assert message in error_of(read_sequences, write_pickle(tmp_path / "x.pkl", changed("train", 1, change)))


def test_a_name_twice_and_an_empty_part_are_refused(tmp_path):
    content = word_samples()
    content["test"][0] = (*content["test"][0][:2], content["train"][0][2])
    assert "two samples are called trainvideo[0]" in error_of(read_sequences, write_pickle(tmp_path / "x.pkl", content))
    message = error_of(read_sequences, write_pickle(tmp_path / "x.pkl", word_samples() | {"dev": []}))
    assert "the validation split is empty" in message


def test_what_a_sample_lacks_is_counted(tmp_path):
    content = word_samples(actual_words=False)
    (words, vision, _), score, name = content["train"][0]
    content["train"][0] = ((words, vision, np.zeros((2, 3))), score, name)
    content["train"][1] = (([], np.zeros((0, 4)), np.zeros((0, 3))), score, "nothing")
    data = read_sequences(write_pickle(tmp_path / "x.pkl", content))
    assert list(data.splits["train"][0].values) == ["text", "vision"]
    assert "nothing" not in [sample.name for sample in data.splits["train"]]
    assert "audio: 2 samples do not have it: their sequence is absent, empty or all zeros" in data.notes
    assert "1 samples have no modality at all and are left out" in data.notes
