"""The utterance table: a video is a sequence, in order; what is tested on has been seen by nothing."""

import numpy as np
import pytest
import torch

from gmd.data.sequences.sequence_files import Reading, read_sequences
from helpers.nifti_cases import error_of, real_data
from helpers.sequence_cases import all_samples, table, write_npz


def read(tmp_path, arrays, seed=0):
    return read_sequences(write_npz(tmp_path / "table.npz", arrays), Reading(seed))


def test_a_sequence_is_a_video_its_utterances_in_order(tmp_path):
    arrays = table()
    data = read(tmp_path, arrays)
    assert data.features == {"text": 6, "audio": 3, "vision": 4}
    assert list(data.features) == ["text", "audio", "vision"]
    assert data.per_step
    assert data.classes is None
    samples = all_samples(data)
    assert sorted(sample.name for sample in samples) == [f"video{i}" for i in range(7)]
    for sample in samples:
        # one row after the other: the reader sorts all at once
        rows = np.flatnonzero(arrays["video"] == sample.name)
        rows = sorted(rows, key=lambda row: arrays["utt"][row])
        assert sample.target.tolist() == [arrays["label"][row] for row in rows]
        assert sample.target.dtype == torch.float32
        for m in data.features:
            assert sample.values[m].dtype == torch.float32
            assert torch.equal(sample.values[m], torch.from_numpy(np.stack([arrays[m][row] for row in rows])))


def test_utterance_10_comes_after_9(tmp_path):
    """In the file it comes after 1, as its name does."""
    arrays = table(lengths=(12, 12, 12), test=1)
    arrays["label"] = (arrays["utt"] / 10 - 1).astype(np.float32)
    for sample in all_samples(read(tmp_path, arrays)):
        assert sample.target.tolist() == pytest.approx([number / 10 - 1 for number in range(1, 13)])


def test_whole_videos_of_the_training_part_are_held_out_by_seed(tmp_path):
    arrays = table(lengths=(2,) * 20, test=4)
    draws = [read(tmp_path, arrays, seed) for seed in (0, 0, 1, 2)]
    for data in draws:
        names = {split: [sample.name for sample in samples] for split, samples in data.splits.items()}
        assert names["test"] == sorted(f"video{i}" for i in range(16, 20))
        assert len(names["validation"]) == 3  # a sixth of 16
        assert sorted(names["train"] + names["validation"]) == sorted(f"video{i}" for i in range(16))
        assert "3 of the 16 training videos" in data.notes[0]
    held_out = [[sample.name for sample in data.splits["validation"]] for data in draws]
    assert held_out[0] == held_out[1]
    assert len(set(map(tuple, held_out))) > 1


def test_trap_the_split_that_leaks_is_not_looked_at(tmp_path):
    """The extractors of text and vision have seen a good part of what the standard split tests on."""
    arrays = table()
    plain = read(tmp_path, arrays)
    turned = np.where(arrays["bclstm_split"] == "train", "test", "train")
    other = read(tmp_path, arrays | {"split": turned})
    names = [[sample.name for sample in data.splits["test"]] for data in (plain, other)]
    assert names[0] == names[1] == ["video5", "video6"]
    assert any("bclstm_split" in note and "utterance features" in note for note in plain.notes)
    del arrays["bclstm_split"]
    assert "has no bclstm_split" in error_of(read, tmp_path, arrays | {"split": turned})


def test_values_that_are_not_finite_are_replaced_and_counted(tmp_path):
    arrays = table()
    arrays["audio"][3, :2] = np.nan, -np.inf
    data = read(tmp_path, arrays)
    assert "audio: 2 values that are NaN, infinite or beyond 1e18 are replaced by 0" in data.notes
    assert all(value.isfinite().all() for s in all_samples(data) for value in s.values.values())
    assert not any("replaced" in note for note in read(tmp_path, table()).notes)


def with_entry(key, row, value):
    arrays = table()
    arrays[key] = arrays[key].astype(type(value)) if isinstance(value, str) else arrays[key]
    arrays[key][row] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {key: value for key, value in table().items() if key != "label"},
            "has no label; there is text, audio, vision",
        ),
        (table() | {"audio": np.zeros((5, 3))}, "the arrays are not of one length (video: 29"),
        (table() | {"text": np.zeros((29, 3, 2))}, "text is float64 [29, 3, 2], expected float with 2 axes"),
        (with_entry("label", 4, 3.5), "is 3.5, expected one in [-3, 3]"),
        (with_entry("label", 4, np.nan), "is nan, expected one in [-3, 3]"),
        (table(test=0), "the test split is empty (train: 6, validation: 1, test: 0 samples)"),
        (table(lengths=(3, 2), test=1), "the train split is empty (train: 0, validation: 1, test: 1 samples)"),
        (table() | {"bclstm_split": np.array(["train", "dev"] + ["test"] * 27)}, "is in bclstm_split 'dev', expected"),
        ({key: value[:0] for key, value in table().items()}, "the train split is empty"),
    ],
)
def test_bad_tables(arrays, message, tmp_path):
    assert message in error_of(read, tmp_path, arrays)


def test_a_wrong_label_is_named_by_its_utterance(tmp_path):
    arrays = table()
    arrays["label"][np.flatnonzero((arrays["video"] == "video1") & (arrays["utt"] == 11))] = -7
    assert "the label of utterance 11 of video video1 is -7" in error_of(read, tmp_path, arrays)


def test_videos_that_cannot_be_put_in_order_or_in_a_split(tmp_path):
    arrays = table()
    first = np.flatnonzero(arrays["video"] == "video1")[:2]
    changed = table() | {"utt": arrays["utt"].copy()}
    changed["utt"][first] = 40
    assert "two rows are utterance 40 of video video1" in error_of(read, tmp_path, changed)
    changed = table()
    changed["bclstm_split"][first[1]] = "test"
    assert "video video1 is in train and in test" in error_of(read, tmp_path, changed)
    changed = table()
    changed["video"][first[0]] = ""
    assert "belongs to a video without a name" in error_of(read, tmp_path, changed)


def test_real_utterances():
    path = real_data("mosi") / "mosi_utterances.npz"
    data = read_sequences(path, Reading(0))
    counts = {split: sum(len(sample.target) for sample in samples) for split, samples in data.splits.items()}
    assert counts["train"] + counts["validation"] == 1447
    assert counts["test"] == 752
    assert sum(map(len, data.splits.values())) == 93
    assert {split: len(samples) for split, samples in data.splits.items()} == {
        "train": 52,
        "validation": 10,
        "test": 31,
    }
    assert max(len(sample.target) for samples in data.splits.values() for sample in samples) == 63
    assert data.features == {"text": 100, "audio": 73, "vision": 100}
    with np.load(path) as file:
        arrays = dict(file)
    # leak 1: no video that an extractor was trained on is tested; leak 2: no video is on both sides of validation
    seen = set(arrays["video"][arrays["bclstm_split"] == "train"])
    videos = {split: {sample.name for sample in samples} for split, samples in data.splits.items()}
    assert videos["test"].isdisjoint(seen)
    assert videos["train"].isdisjoint(videos["validation"])
    assert videos["train"] | videos["validation"] == seen
    for sample in data.splits["test"][:5]:
        rows = np.flatnonzero(arrays["video"] == sample.name)
        rows = rows[np.argsort(arrays["utt"][rows])]
        assert sample.target.tolist() == arrays["label"][rows].tolist()
        assert torch.equal(sample.values["audio"], torch.from_numpy(arrays["audio"][rows]))
