"""The pickles of MMSA and MulT: what is padding, what is missing, and what is wrong with them."""

import argparse
import collections
import datetime
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmd.data.sequences.samples import as_classes
from gmd.data.sequences.sequence_files import Reading, convert, read_sequences
from gmd.data.sequences.unpadding import padded_in_front, unpadded
from helpers.nifti_cases import error_of
from helpers.sequence_cases import FEATURES, SIZES, SPLIT_OF, mmsa, mult, padded, write_pickle


def read(tmp_path, content):
    return read_sequences(write_pickle(tmp_path / "data.pkl", content))


def assert_sequences(data, expected):
    """expected: the file's split -> modality -> sequences, which the padding has to be taken off of."""
    for split, found in expected.items():
        for i, sample in enumerate(data.splits[SPLIT_OF[split]]):
            assert list(sample.values) == list(FEATURES)
            for m, value in sample.values.items():
                assert value.dtype == torch.float32
                assert torch.equal(value, torch.from_numpy(found[m][i]))


@pytest.mark.parametrize("aligned", [False, True])
def test_mmsa(aligned, tmp_path):
    content, sequences = mmsa(aligned)
    data = read(tmp_path, content)
    assert_sequences(data, sequences)
    assert data.features == FEATURES
    assert list(data.features) == ["text", "audio", "vision"]
    assert (data.classes, data.per_step) == (None, False)
    assert data.notes == ("text_bert is not read, text is",)
    for split, size in SIZES.items():
        samples = data.splits[SPLIT_OF[split]]
        assert [sample.name for sample in samples] == [f"{split}$_${i}" for i in range(size)]
        assert [sample.target.item() for sample in samples] == pytest.approx(content[split]["regression_labels"])
        assert {(sample.target.dtype, sample.target.shape) for sample in samples} == {(torch.float32, ())}


@pytest.mark.parametrize("in_front", [True, False])
def test_mult(in_front, tmp_path):
    content, sequences = mult(in_front=in_front)
    data = read(tmp_path, content)
    assert_sequences(data, sequences)
    assert data.notes == (tuple(f"{m}: padded in front, not behind" for m in FEATURES) if in_front else ())
    assert data.splits["test"][2].name == "test2_0.5_2.75"
    for split in SIZES:
        scores = [sample.target.item() for sample in data.splits[SPLIT_OF[split]]]
        assert scores == pytest.approx(content[split]["labels"].reshape(-1).tolist())


def test_trap_one_part_as_valid_and_test_is_a_leak(tmp_path):
    content = mult()[0]
    content["valid"] = content["test"]
    assert "two samples are called test0_0.5_2.75, in validation and in test" in error_of(read, tmp_path, content)


def test_trap_valid_is_not_test(tmp_path):
    """The published trainer evaluates on "test" under the name "valid"."""
    names = {split: [s.name[:5] for s in samples] for split, samples in read(tmp_path, mult()[0]).splits.items()}
    assert {split: set(each) for split, each in names.items()} == {
        "train": {"train"},
        "validation": {"valid"},
        "test": {"test0", "test1", "test2", "test3"},
    }


def test_without_ids_samples_are_numbered(tmp_path):
    data = read(tmp_path, mult(ids=False)[0])
    assert [sample.name for sample in data.splits["validation"]] == ["valid_0", "valid_1", "valid_2"]


@pytest.mark.parametrize(
    "ids", [["7", "7", "8"], np.array([b"7", b"7", b"8"]), np.array([["7"], ["7"], ["8"]], object), [7, 7, 8]]
)
def test_ids_of_the_video_only_are_made_unique(ids, tmp_path):
    content = mult()[0]
    content["valid"]["id"] = ids
    assert [sample.name for sample in read(tmp_path, content).splits["validation"]] == ["7", "7#2", "8"]


def test_a_name_in_two_splits_is_a_leak(tmp_path):
    content = mmsa()[0]
    content["test"]["id"][1] = "train$_$0"
    assert "two samples are called train$_$0, in train and in test" in error_of(read, tmp_path, content)


def test_trap_minus_infinity_in_audio(tmp_path):
    """MOSEI's audio has it: one step, and every parameter is NaN."""
    content, sequences = mmsa()
    content["train"]["audio"][0, 0, 1] = -np.inf
    content["valid"]["audio"][1, 0, :2] = np.nan, np.inf
    content["test"]["text"][2, 0, 0] = np.nan
    data = read(tmp_path, content)
    assert "audio: 3 values that are NaN, infinite or beyond 1e18 are replaced by 0" in data.notes
    assert "text: 1 values that are NaN, infinite or beyond 1e18 are replaced by 0" in data.notes
    sequences["train"]["audio"][0][0, 1] = 0
    sequences["valid"]["audio"][1][0, :2] = 0
    sequences["test"]["text"][2][0, 0] = 0
    assert_sequences(data, sequences)


def test_numbers_that_no_computation_gives_are_replaced_without_a_warning(tmp_path):
    """Signalling NaN, as damage leaves them: numpy warns of them, and warnings are errors here."""
    content = mmsa()[0]
    content["train"]["audio"].view(np.uint32)[0, 0, :2] = 0x7FA00000
    assert "audio: 2 values that are NaN, infinite or beyond 1e18 are replaced by 0" in read(tmp_path, content).notes


def test_float64_beyond_float32_counts_as_infinite(tmp_path):
    content = mult()[0]
    content["train"]["text"][0, -1, 0] = 1e300
    assert "text: 1 values that are NaN, infinite or beyond 1e18 are replaced by 0" in read(tmp_path, content).notes


def test_zeros_on_the_other_side_are_no_padding(tmp_path):
    """A video in whose first seconds no face was found, in a file padded behind; and the other way round."""
    for make, in_front in ((mmsa, False), (mult, True)):
        content, sequences = make()
        steps = sequences["train"]["text"][3] = np.ones((5, 6), np.float32)
        steps[-2 if in_front else 0 :][:2] = 0
        array = content["train"]["text"]
        array[3] = 0
        array[3, -5:] = steps if in_front else 0
        array[3, :5] = array[3, :5] if in_front else steps
        assert_sequences(read(tmp_path, content), sequences)


def test_a_modality_of_zeros_is_missing_and_counted(tmp_path):
    content = mmsa()[0]
    content["train"]["vision"][1:3] = 0
    content["test"]["audio"][0] = 0
    content["test"]["audio_lengths"][0] = 0
    content["test"]["audio_lengths"][1] = 0  # though there are values: the file says there are none
    data = read(tmp_path, content)
    has = {sample.name: list(sample.values) for samples in data.splits.values() for sample in samples}
    assert has["train$_$1"] == has["train$_$2"] == ["text", "audio"]
    assert has["test$_$0"] == has["test$_$1"] == ["text", "vision"]
    assert sum(names == ["text", "audio", "vision"] for names in has.values()) == sum(SIZES.values()) - 4
    assert "vision: 2 samples do not have it: their sequence is empty or all zeros" in data.notes
    assert "audio: 2 samples do not have it: their sequence is empty or all zeros" in data.notes
    assert any(note.startswith("audio: 1 samples have a stated length that is beyond") for note in data.notes)


def test_a_sample_without_any_modality_is_left_out_and_counted(tmp_path):
    content = mult()[0]
    for m in FEATURES:
        content["train"][m][2] = 0
    data = read(tmp_path, content)
    assert [sample.name[:6] for sample in data.splits["train"]] == ["train0", "train1", "train3", "train4"]
    assert data.notes[-1] == "1 samples have no modality at all and are left out"
    scores = content["train"]["labels"].reshape(-1)[[0, 1, 3, 4]].tolist()
    assert [sample.target.item() for sample in data.splits["train"]] == pytest.approx(scores)
    for m in FEATURES:
        content["valid"][m][:] = 0
    assert "the validation split is empty" in error_of(read, tmp_path, content)


def test_stated_lengths_beyond_the_array_end_with_it(tmp_path):
    """Files whose arrays were cut off, while the lengths are those of before."""
    content, sequences = mmsa()
    content["train"]["audio_lengths"][0] = 1000
    content["train"]["audio"][0] = 1
    sequences["train"]["audio"][0] = np.ones((20, 3), np.float32)
    data = read(tmp_path, content)
    assert_sequences(data, sequences)
    assert any(note.startswith("audio: 1 samples have a stated length") for note in data.notes)


def test_stated_lengths_count_from_the_end_in_data_padded_in_front(tmp_path):
    content, sequences = mult()
    for split in content:
        content[split]["audio_lengths"] = np.array([len(s) for s in sequences[split]["audio"]])
    assert_sequences(read(tmp_path, content), sequences)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_stated_lengths_of_a_type_too_small_for_the_padded_length(dtype, tmp_path):
    content, sequences = mult()
    for split in SIZES:
        content[split]["audio"] = padded(sequences[split]["audio"], 300, in_front=True)
        content[split]["audio_lengths"] = np.array([len(s) for s in sequences[split]["audio"]], dtype)
    assert_sequences(read(tmp_path, content), sequences)


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.sampled_from([0.0, 1.0, -2.0])),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
)
def test_the_padding_that_is_added_is_taken_off_again(steps, added, in_front, stated):
    """Without a stated length all zeros on that side go with it; those on the other side stay."""
    zeros = np.zeros((added, steps.shape[1]), np.float32)
    array = np.concatenate([zeros, steps] if in_front else [steps, zeros])
    counts = Counter()
    kept = unpadded(array, len(steps) if stated else None, in_front, counts)
    used = np.flatnonzero(steps.any(axis=1))
    expected = steps if stated or not len(used) else steps[used[0] :] if in_front else steps[: used[-1] + 1]
    assert counts == ({} if len(used) else {"absent": 1})
    if len(used):
        assert np.array_equal(kept, expected)
    else:
        assert kept is None


def test_a_sequence_does_not_keep_the_padded_array_in_memory():
    array = np.ones((500, 3), np.float32)
    assert not np.shares_memory(unpadded(array, 2, False, Counter()).numpy(), array)


def test_the_padded_side_is_that_where_most_sequences_have_zeros():
    zero, one = np.zeros((1, 2)), np.ones((3, 2))
    front, back, both, full = ([zero, one], [one, zero], [zero, one[:2], zero], [one, one[:1]])
    front, back, both, full = (np.concatenate(steps)[None] for steps in (front, back, both, full))
    for splits, in_front in [
        ([front, back, full], False),  # as many: behind, the usual side
        ([np.concatenate([front, front, back])], True),
        ([front, front, back], True),  # over all splits together
        ([front, both, both, full], True),
        ([back, both, both, full], False),
        ([full], False),
        ([np.zeros((2, 0, 3)), np.zeros((0, 4, 3))], False),
    ]:
        assert padded_in_front(splits) == in_front


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, ">f4"])
def test_all_number_types(dtype, tmp_path):
    content = mmsa()[0]
    for split in content:
        for m in FEATURES:
            content[split][m] = np.ceil(content[split][m] * 10).astype(dtype) + (content[split][m] != 0) * 50
            content[split][m] = content[split][m].astype(dtype)
    data = read(tmp_path, content)
    assert data.splits["train"][0].values["text"].dtype == torch.float32
    assert data.splits["train"][0].values["text"][0, 0] == float(content["train"]["text"][0, 0, 0])


def without(content, split, *keys):
    return content | {split: {key: value for key, value in content[split].items() if key not in keys}}


def changed(split, key, value):
    content = mmsa()[0]
    content[split][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "data.pkl: holds a list, expected a dictionary with the dictionaries train, valid and test"),
        ({"train": {}, "test": {}}, "holds a dictionary with train, test, expected"),
        ({"train": {}, "test": {}, "valid": 3}, "holds a dictionary with train, test, valid, expected"),
        (without(mmsa()[0], "valid", "audio"), "data.pkl: valid has no audio; there is text, vision, text_bert"),
        (without(mmsa()[0], "valid", "text"), "has no text; there is audio, vision, text_bert"),
        (without(mmsa()[0], "valid", "text"), "text_bert holds the numbers of words"),
        (without(mmsa()[0], "test", "regression_labels"), "test has no regression_labels (or labels)"),
        (changed("train", "audio", np.zeros((4, 20, 3))), "train has arrays of different lengths (text: 5, audio: 4"),
        (changed("train", "id", ["a", "b"]), "(text: 5, audio: 5, vision: 5, labels: 5, id: 2"),
        (changed("train", "audio_lengths", [3]), "vision_lengths: 5), expected an entry for each sample"),
        (changed("train", "audio_lengths", [3, 2, -4, 1, 1]), "train audio_lengths has -4 for train$_$2, expected 0"),
        (changed("train", "audio_lengths", [3.5] * 5), "audio_lengths is float64 [5], expected whole numbers with 1"),
        (
            changed("valid", "audio", np.zeros((3, 5))),
            "audio has different numbers of features (train: 3, valid: 5, test: 3)",
        ),
        (changed("valid", "audio", np.zeros((3, 5, 7))), "audio has different numbers of features (train: 3, valid: 7"),
        (changed("valid", "audio", [[1, 2], [3]]), "valid audio is no array: "),
        (changed("valid", "audio", "loud"), "valid audio is <U4 [], such as 'loud', expected numbers"),
        (changed("valid", "audio", None), "valid audio is object [], such as None, expected numbers"),
        (
            changed("test", "regression_labels", np.array([0, 1, 3.01, -4])),
            "test: the label of test$_$2 is 3.01, expected one in [-3, 3] (1 more labels are wrong); --clip-sc",
        ),
        (
            changed("test", "regression_labels", np.array([0, 1, np.nan, 0])),
            "the label of test$_$2 is nan, expected one in [-3, 3]; leave samples without a label out",
        ),
        (
            changed("test", "regression_labels", np.array([0, 6, 3, 5])),
            "they look like the classes 0 to 6, which --scale",
        ),
        (
            changed("test", "regression_labels", np.array([0, -63.5, 100, 0])),
            "they look like per cent, which --scale-scores -100 100 takes",
        ),
        (
            changed("test", "regression_labels", ["Negative", "Neutral"] * 2),
            "[4], such as 'Negative', expected numbers",
        ),
        (
            changed("test", "regression_labels", ["0.5", "1"] * 2),
            "such as '0.5', expected numbers with 1 or 2 or 3 axes",
        ),
        (changed("valid", "audio", torch.ones(3, 4, 3)), "valid audio: refused, since it asks for torch._utils."),
        (changed("valid", "audio", [torch.ones(4, 3)] * 3), "save them as arrays, tensor.numpy()"),
        (
            changed("valid", "audio", np.zeros((3, 4, 3), complex)),
            "audio: refused, since it asks for numpy.dtype 'c16'",
        ),
        (mmsa()[0] | {"valid": argparse.Namespace()}, "refused, since a part of it asks for argparse.Namespace"),
        (changed("test", "regression_labels", np.array([0, 1, 1e300, 0])), "the label of test$_$2 is 1e+300, expected"),
        (
            changed("test", "regression_labels", np.zeros((4, 4, 2))),
            "has scores in some splits, and four emotions in others",
        ),
    ],
)
def test_what_is_wrong_is_named(content, message, tmp_path):
    assert message in error_of(read, tmp_path, content)


def test_names_from_a_file_do_nothing_to_a_terminal(tmp_path):
    content = mmsa()[0]
    content["test"]["id"][1] = content["test"]["id"][2] = content["train"]["id"][0] = "a\r\n\x1b[2J\u202eb"
    message = error_of(read, tmp_path, content)
    assert r"two samples are called a\r\n\x1b[2J\u202eb, in train and in test" in message
    content["test"] = {"k\x07ey": 1}
    assert r"there is k\x07ey" in error_of(read, tmp_path, content)


def test_objects_in_entries_that_are_not_read(tmp_path):
    """They are no data, and no reason to refuse the data beside them."""
    content, sequences = mmsa()
    for split in content:
        content[split] |= {
            "by video": collections.defaultdict(list, a=[1]),
            "options": argparse.Namespace(lr=1),
            "made": datetime.datetime(2020, 1, 1),
            "spectrum": np.ones(3, complex),
            "days": np.array(["2020-01-01"], "M8[D]"),
            "masked": np.ma.masked_array([1.0]),
            "weights": {"encoder": torch.ones(2)},
            "raw": bytearray(b"x"),
            "cut": slice(1, 2),
            "folder": Path("x"),
            1j: {1 + 2j},
        }
    assert_sequences(read(tmp_path, content), sequences)
    content["train"]["text"] = content["train"]["masked"]
    assert "train text: refused, since it asks for numpy.ma" in error_of(read, tmp_path, content)


def bomb(depth=60):
    inner = ["x"]
    for _ in range(depth):
        inner = [inner, inner]
    return inner


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text", bomb(), "train text is no array: its "),
        ("regression_labels", bomb(), "train regression_labels is no array: its "),
        ("audio_lengths", bomb(), "train audio_lengths is no array: its "),
        ("id", bomb(), "train id is no array: its "),
        ("text", objects(*[bomb()] * 5), "train text is object [5], such as a list, expected numbers with 2 or 3 axes"),
        ("regression_labels", objects(*[bomb()] * 5), "is object [5], such as a list, expected numbers"),
        ("id", objects("a", bomb(), "b", "c", "d"), "train id has a list, expected str or whole numbers"),
        ("id", objects("a", 10**5000, "b", "c", "d"), "train id has a int, expected str or whole numbers"),
        ("id", objects("a", None, "b", "c", "d"), "train id has None, expected str or whole numbers"),
        ("id", ["x" * 2000, "b", "c", "d", "e"], "train id has one of 2000 letters, expected at most 1024"),
        ("id", ["", "b", "c", "d", "e"], "the name '' has 0 letters"),
        ("id", ["\ud800", "b", "c", "d", "e"], "holds halves of letters, which are no text"),
        ("id", np.zeros((5, 0), int), "train id is int64 [5, 0], expected 1 to 16 parts of a name"),
        ("id", np.zeros((5, 17), int), "train id is int64 [5, 17], expected 1 to 16 parts of a name"),
        ("id", np.zeros((10**12, 0), int), "id: 1000000000000"),
        ("id", np.zeros((10**12, 0), "U3"), "id: 1000000000000"),
        ("text", np.zeros((5, 7, 0)), "train text is float64 [5, 7, 0], expected steps and features in it"),
        ("text", np.zeros((5, 0, 6)), "train text is float64 [5, 0, 6], expected steps and features in it"),
        ("text", np.zeros((10**12, 0, 6)), "(text: 1000000000000, audio: 5"),
        ("text", np.zeros((5, 0, 2**40)), "expected steps and features in it"),
        ("regression_labels", np.zeros((10**12, 0)), "is [1000000000000, 0], expected one score for each sample"),
        ("regression_labels", np.array([-(2**63), 1, 2, 0, 0]), "is -9.22337e+18, expected one in [-3, 3]"),
        ("regression_labels", np.array([2**64 - 1, 1, 2, 0, 0], np.uint64), "is 1.84467e+19, expected one in"),
        ("regression_labels", [2**70, 1, 2, 0, 0], "is object [5], such as 1180591620717411303424, expected numbers"),
        ("audio_lengths", [2**70, 1, 2, 0, 0], "audio_lengths is object [5], such as 1180591620717411303424"),
        ("audio_lengths", [-(2**63), 1, 2, 0, 0], "audio_lengths has -9223372036854775808 for train$_$0"),
    ],
)
def test_entries_that_are_no_data_and_cost_nothing(key, value, message, tmp_path):
    said = error_of(read, tmp_path, changed("train", key, value))
    assert message in said
    assert len(said) < 600 + len(str(tmp_path))


def test_lengths_of_every_size_end_with_the_array(tmp_path):
    content, sequences = mmsa()
    content["train"]["audio"][:] = 1
    content["train"]["audio_lengths"] = np.array([2**64 - 1, 2**63, 2**32, 21, 20], np.uint64)
    sequences["train"]["audio"] = [np.ones((20, 3), np.float32)] * 5
    assert_sequences(read(tmp_path, content), sequences)


def test_features_beyond_what_float32_computes_with_are_replaced(tmp_path):
    content = mmsa()[0]
    content["train"]["audio"][0, 0, :2] = 3e38, -2e18
    content["train"]["audio"][1, 0, 0] = 1e18
    assert "audio: 2 values that are NaN, infinite or beyond 1e18 are replaced by 0" in read(tmp_path, content).notes


def test_entries_that_nobody_reads_may_be_anything(tmp_path):
    """Costly keys and lists that hold themselves lie beside the data, and the data are read."""
    content, sequences = mmsa()
    key = ()
    for _ in range(12):
        key = (key, key)
    circle = []
    circle.append(circle)
    content["train"] |= {key: 1, "x" * 5000: 2, "bomb": bomb(), "circle": circle, "nest": objects(bomb(), bomb())}
    content |= {key: bomb(), "by number": {k: 0 for k in range(20_000)}, "frozen": {frozenset([1]): frozenset([key])}}
    assert_sequences(read(tmp_path, content), sequences)


def with_scores(scores):
    content = mmsa()[0]
    for split, size in SIZES.items():
        content[split]["regression_labels"] = np.resize(scores, size)
    return content


CH_SIMS_NOTE = "no score is beyond [-1, 1]: taken for CH-SIMS's scale, so scored with Acc-3 and Acc-5, not with Acc-7"


def test_the_scale_of_ch_sims_is_noticed_and_said_once(tmp_path):
    data = read(tmp_path, with_scores([-1.0, 0.2, 0.8]))
    assert data.largest_score == 1
    assert data.notes[-1] == CH_SIMS_NOTE
    convert(tmp_path / "data.pkl", tmp_path / "out.npz")
    assert read_sequences(tmp_path / "out.npz").notes == data.notes
    other = read(tmp_path, with_scores([-1.0, 0.2, 1.2]))
    assert other.largest_score == 3
    assert CH_SIMS_NOTE not in other.notes
    assert as_classes(data).largest_score == 3, "signs have no scale"


@pytest.mark.parametrize("scores", [[0.0, 0.5, 1.0], [0, 1, 2], [0.1, 3.0]])
def test_scores_of_which_none_is_negative_are_refused(scores, tmp_path):
    message = error_of(read, tmp_path, with_scores(scores))
    assert "no label is negative" in message
    assert "--scale-scores LOW HIGH" in message


def test_scores_beyond_the_scale_are_clipped_on_request(tmp_path):
    path = write_pickle(tmp_path / "data.pkl", with_scores([-3.4, 0.0, 3.0000002, 2.5]))
    assert "--clip-scores takes what is beyond" in error_of(convert, path, tmp_path / "out.npz")
    notes = convert(path, tmp_path / "out.npz", Reading(clip_scores=True)).notes
    assert "7 scores beyond [-3, 3] are clipped to it" in notes
    data = read_sequences(tmp_path / "out.npz")
    assert [sample.target.item() for sample in data.splits["test"]] == [-3, 0, 3, 2.5]
    assert "7 scores beyond [-3, 3] are clipped to it" in data.notes
    for scores in ([0.0, 50, 100], [0.0, 4, 6], [-4.0, np.nan]):  # another scale, and no score
        write_pickle(path, with_scores(scores))
        assert "expected one in [-3, 3]" in error_of(read_sequences, path, Reading(clip_scores=True))


def test_an_empty_split(tmp_path):
    content = mult()[0]
    content["valid"] = {key: value[:0] for key, value in content["valid"].items()}
    assert "the validation split is empty (train: 5, validation: 0, test: 4" in error_of(read, tmp_path, content)
