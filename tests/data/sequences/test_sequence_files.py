"""Sequences from whatever file there is, and their conversion to one without pickles."""

import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from gmd.data.sequences.converted_file import write_converted
from gmd.data.sequences.samples import Sample, SequenceData, as_classes
from gmd.data.sequences.sequence_files import convert, read_sequences
from gmd.errors import UserError
from helpers.nifti_cases import error_of
from helpers.sequence_cases import assert_same, mmsa, mult, table, write_npz, write_pickle


def classes_data():
    """Targets are classes; samples lack modalities; awkward numbers."""
    text = torch.tensor([[0.0, -0.0], [1e-45, 1e18]])
    samples = {
        "train": [
            Sample("a", {"audio": torch.ones(3, 1), "image": text}, torch.tensor(1)),
            Sample("b", {"image": text}, torch.tensor(0)),
        ],
        "validation": [Sample("é", {"audio": torch.ones(1, 1)}, torch.tensor(2))],
        "test": [Sample("d", {"image": text[:1]}, torch.tensor(1))],
    }
    return SequenceData({"audio": 1, "image": 2}, ("no", "yes", "perhaps"), False, samples, ())


SOURCES = {
    "table": lambda folder: write_npz(folder / "in.npz", table()),
    "mmsa unaligned": lambda folder: write_pickle(folder / "in.pkl", mmsa()[0]),
    "mmsa aligned": lambda folder: write_pickle(folder / "in.pkl", mmsa(aligned=True)[0]),
    "mult": lambda folder: write_pickle(folder / "in.pkl", mult()[0]),
    "mult without ids": lambda folder: write_pickle(folder / "in.pickle", mult(ids=False)[0]),
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_converted_reads_as_the_same_data_bit_for_bit(source, tmp_path):
    path = SOURCES[source](tmp_path)
    expected = read_sequences(path)
    out = tmp_path / "new folder" / "out.npz"
    assert convert(path, out).notes == expected.notes
    assert_same(read_sequences(out), expected)
    with np.load(out, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)
    assert [item.name for item in out.parent.iterdir()] == ["out.npz"]


def test_classes_and_missing_modalities_are_kept_bit_for_bit(tmp_path):
    out = tmp_path / "out.npz"
    write_converted(classes_data(), out)
    assert_same(read_sequences(out), classes_data())
    convert(out, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == out.read_bytes()


def test_the_content_tells_what_a_file_is_and_not_its_name(tmp_path):
    expected = read_sequences(write_npz(tmp_path / "a.npz", table()))
    (tmp_path / "a.npz").rename(tmp_path / "b.pkl")
    assert_same(read_sequences(tmp_path / "b.pkl"), expected)
    assert_same(read_sequences(str(tmp_path / "b.pkl")), expected)


def test_convert_writes_nothing_over_and_nothing_by_half(tmp_path):
    source = write_npz(tmp_path / "in.npz", table())
    before = source.read_bytes()
    assert "in.npz: is there already" in error_of(convert, source, source)
    assert source.read_bytes() == before
    assert "out.pkl: expected a name that ends in .npz" in error_of(convert, source, tmp_path / "out.pkl")
    damaged = write_npz(tmp_path / "damaged.npz", table() | {"label": np.full(29, 4.0)})
    assert "is 4, expected one in [-3, 3] (28 more" in error_of(convert, damaged, tmp_path / "out.npz")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["damaged.npz", "in.npz"]


def test_a_pickle_with_code_is_not_converted(tmp_path):
    source = tmp_path / "in.pkl"
    source.write_bytes(b"cos\nsystem\n(Vtouch " + str(tmp_path / "executed").encode() + b"\ntR.")
    assert "in.pkl: refused, since it asks for os.system" in error_of(convert, source, tmp_path / "out.npz")
    assert [item.name for item in tmp_path.iterdir()] == ["in.pkl"]


def test_signs_of_scores_are_classes(tmp_path):
    data = read_sequences(write_npz(tmp_path / "a.npz", table()))
    [score] = [data.splits["test"][0].target]
    score[0], score[1] = 0.0, -0.0
    signs = as_classes(data)
    assert signs.classes == ("negative", "non-negative")
    assert signs.splits["test"][0].target[:2].tolist() == [1, 1]  # 0 is not negative, -0 neither
    for split, samples in data.splits.items():
        for before, after in zip(samples, signs.splits[split], strict=True):
            assert after.target.dtype == torch.int64
            assert torch.equal(after.target == 1, before.target >= 0)
            assert before.target.is_floating_point()
    assert "classes already (negative, non-negative)" in error_of(as_classes, signs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; expected a .npz, a pickle"),
        (b"", "cannot be read: it is empty, not a pickle; copy or download it anew"),
        (b"hello, I am no pickle", "cannot be read: it is text, beginning with 'hello, I am no pickle', not a pickle"),
        (b"PK\x03\x04 cut off", "cannot be read: it is a zip archive that is cut off or damaged, not a .npz; copy"),
    ],
)
def test_what_is_no_data_at_all(content, message, tmp_path):
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    assert f"{path}: {message}" in error_of(read_sequences, path)


def test_an_archive_of_something_else(tmp_path):
    path = write_npz(tmp_path / "a.npz", {"waveform": np.zeros(3), "digit": np.zeros(3)})
    assert "holds waveform, digit, expected an utterance table" in error_of(read_sequences, path)
    path = write_npz(tmp_path / "b.npz", table() | {"video": np.array([{}], object)})
    assert "video holds Python objects, which are never loaded from a file of arrays" in error_of(read_sequences, path)


def test_an_archive_of_other_files(tmp_path):
    """Told by its content: what torch.save writes is read as such, whatever it is called."""
    torch.save({"version": torch.zeros(3)}, tmp_path / "a.npz")
    assert "expected a dictionary with the dictionaries train" in error_of(read_sequences, tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "about")
    assert "is no array; it is an archive, but not one of arrays" in error_of(read_sequences, tmp_path / "b.npz")


def test_flipped_bits_of_an_archive_are_an_error_or_harmless(tmp_path):
    write_converted(classes_data(), tmp_path / "a.npz")
    content, rng = (tmp_path / "a.npz").read_bytes(), np.random.default_rng(0)
    errors = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            read_sequences(tmp_path / "b.npz")
        except UserError:
            errors += 1
    assert errors > 100, "the archive's checksums should have noticed"


# Files in the converted layout that another program wrote


def changed(tmp_path, **changes):
    """The classes' file with arrays changed, or left out where the change is None."""
    if not (tmp_path / "good.npz").exists():
        write_converted(classes_data(), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file) | changes
    return write_npz(tmp_path / "a.npz", {key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio_length": None}, "has no audio_length; there is version"),
        ({"version": np.array(2)}, "is of version 2, expected 1"),
        ({"target": np.array([1.0, 0, 2, 1])}, "target is float64 [4], expected signed integers with 1 axes"),
        ({"target": np.array([1, 0, 3, 1])}, "the class of é is 3, expected 0 to 2"),
        ({"target": np.array([1, -1, 2, 1])}, "the class of b is -1, expected 0 to 2"),
        ({"target": np.array([1, 2, 1])}, "target has 3 entries, but its lengths add up to 4"),
        ({"classes": None, "target": np.array([0, 1, np.nan, 2])}, "the label of é is nan, expected one in [-3, 3]"),
        (
            {"split": np.array(["train"] * 3 + ["test"])},
            "the validation split is empty (train: 3, validation: 0, test: 1",
        ),
        ({"split": np.array(["train"] * 3 + ["dev"])}, "split 'dev' is unknown"),
        ({"name": np.array(["a", "b", "c", "a"])}, "two samples are called a, in train and in test"),
        ({"name": np.array(["a", "b", "c"])}, "the arrays are not of one length (name: 3, split: 4"),
        ({"audio_length": np.array([3, 0, 0, 1])}, "é has no modality, expected at least one"),
        ({"audio_length": np.array([5, 0, -1, 0])}, "audio has 4 entries, but one is -1"),
        ({"audio_length": np.array([3, 0, 2, 0])}, "audio has 4 entries, but its lengths add up to 5"),
        ({"audio": np.full((4, 1), np.inf)}, "audio has 4 values that are NaN, infinite or beyond 1e18"),
        ({"audio": np.ones(4)}, "audio is float64 [4], expected float with 2 axes"),
        ({"per_step": np.array(True)}, "has no target_length"),
        (
            {"per_step": np.array(True), "target_length": np.array([1, 1, 1, 1])},
            "a has 1 targets, expected as many as it has steps (audio: 3, image: 2)",
        ),
    ],
)
def test_arrays_that_do_not_belong_together(changes, message, tmp_path):
    assert message in error_of(read_sequences, changed(tmp_path, **changes))


def lengths_that_wrap(total, samples):
    """Five numbers that add up to `total` modulo 2^64, and zeros."""
    return np.array([2**62] * 4 + [total] + [0] * (samples - 5))


def test_lengths_whose_sum_wraps_give_no_sample_the_steps_of_others(tmp_path):
    """The first sample, which is trained on, would get all steps, those of the test too."""
    convert(write_pickle(tmp_path / "in.pkl", mult()[0]), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file)
    samples = len(arrays["name"])
    for m in ("text", "audio", "vision"):
        lengths = lengths_that_wrap(len(arrays[m]), samples)
        assert lengths.sum() == len(arrays[m])
        message = error_of(read_sequences, write_npz(tmp_path / "a.npz", arrays | {f"{m}_length": lengths}))
        assert f"{m} has {len(arrays[m])} entries, but its lengths add up to 18446744073709551" in message
    convert(write_npz(tmp_path / "table.npz", table()), tmp_path / "steps.npz")
    with np.load(tmp_path / "steps.npz") as file:
        arrays = dict(file)
    lengths = lengths_that_wrap(29, len(arrays["name"]))
    for key in ("target_length", "text_length"):
        assert "its lengths add up to 184467" in error_of(
            read_sequences, write_npz(tmp_path / "a.npz", arrays | {key: lengths})
        )


@pytest.mark.parametrize("lengths", [[-1, 2, 1, 2], [-(2**63), 2**62, 2**62, 4], [2**63 - 1, 1, 1, 1], [5, 0, 0, 0]])
def test_lengths_below_0_or_beyond_what_there_is(lengths, tmp_path):
    assert "audio has 4 entries, but" in error_of(read_sequences, changed(tmp_path, audio_length=np.array(lengths)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": np.zeros((4, 0))}, "audio is float64 [4, 0], with nothing in its entries"),
        (
            {"audio": np.zeros((0, 2**40)), "audio_length": np.zeros(4, int)},
            "audio has 1099511627776 features for each step, expected 1 to 1048576",
        ),
        ({"audio": np.zeros((0, 0)), "audio_length": np.zeros(4, int)}, "audio has 0 features for each step"),
        ({"audio": np.full((4, 1), 2e18)}, "audio has 4 values that are NaN, infinite or beyond 1e18; convert"),
        ({"audio": np.full((4, 1), 1e300)}, "audio has 4 values that are NaN, infinite or beyond 1e18; convert"),
        ({"modalities": np.array(["audio", "image", "audio"])}, "modalities: got 'audio' twice"),
        ({"modalities": np.array(["audio", ""])}, "modalities: got '', which is empty"),
        ({"modalities": np.array(["audio", "target"])}, "modalities: got 'target', which is a word of its own"),
        ({"modalities": np.array([], str)}, "a has no modality, expected at least one"),
        ({"classes": np.array(["no", "yes", "no"])}, "two are called class no"),
        ({"classes": np.array(["x" * 2000, "yes", "no"])}, "has 2000 letters, expected 1 to 1024"),
        ({"name": np.array(["a", "", "c", "d"])}, "the name '' has 0 letters"),
        ({"name": np.array(["a", "b" * 2000, "c", "d"])}, "has 2000 letters, expected 1 to 1024"),
        ({"name": np.array(["a\ud800", "b", "c", "d"])}, "with numbers that are no characters"),
        ({"target": np.array([2**63 - 1, 0, 1, 1])}, "the class of a is 9223372036854775807, expected 0 to 2"),
        ({"target": np.array([-(2**63), 0, 1, 1])}, "the class of a is -9223372036854775808, expected 0 to 2"),
        ({"classes": None, "target": np.array([0, 1, -np.inf, 2])}, "the label of é is -inf, expected one in"),
        ({"classes": None, "target": np.array([0, 1, 1e300, -1])}, "the label of é is 1e+300, expected one in"),
    ],
)
def test_numbers_and_names_that_nothing_can_be_done_with(changes, message, tmp_path):
    assert message in error_of(read_sequences, changed(tmp_path, **changes))


def test_a_long_name_of_a_sample_with_many_steps_takes_no_room_for_each(tmp_path):
    steps = 20_000
    arrays = {
        "version": np.array(1), "modalities": np.array(["a"]), "per_step": np.array(True), "notes": np.array([], str),
        "name": np.array(["x" * 1000, "y", "z"]), "split": np.array(["train", "validation", "test"]),
        "target": np.ones(steps + 2, "f4"), "target_length": np.array([steps, 1, 1]),
        "a": np.ones((steps + 2, 1), "f4"), "a_length": np.array([steps, 1, 1]),
    }  # fmt: skip
    arrays["target"][0] = -1
    path = write_npz(tmp_path / "a.npz", arrays)
    tracemalloc.start()
    try:
        assert len(read_sequences(path).splits["train"][0].target) == steps
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


WRONG = [np.array(value) for value in (0, -1.5, "x", True, 1j, [], ["x"] * 4, [-1] * 4, [2**62] * 4, [1e300] * 4)]
WRONG += [np.zeros(shape) for shape in [(4, 1), (4, 2), (5, 1), (0, 2), (2, 2, 2), (1, 0)]]


@pytest.mark.parametrize("source", ["table", "converted table", "converted classes"])
def test_any_array_instead_of_any_other_is_an_error_or_harmless(source, tmp_path):
    path = write_npz(tmp_path / "table.npz", table())
    if source != "table":
        data = classes_data() if source == "converted classes" else read_sequences(path)
        path = tmp_path / "converted.npz"
        write_converted(data, path)
    with np.load(path) as file:
        arrays = dict(file)
    errors = 0
    for key in arrays:
        for wrong in WRONG:
            try:
                read_sequences(write_npz(tmp_path / "wrong.npz", arrays | {key: wrong}))
            except UserError:
                errors += 1
    assert errors > 0.9 * len(arrays) * len(WRONG)


def test_a_sequence_of_length_0_with_targets_for_its_steps(tmp_path):
    """A mean over no step would be NaN."""
    changes = {"per_step": np.array(True), "target_length": np.array([2, 2, 0, 1]), "target": np.zeros(5, int)}
    nothing = {"audio": np.zeros((0, 1)), "audio_length": np.zeros(4, int), "image_length": np.array([2, 2, 0, 1])}
    assert "é has no modality" in error_of(read_sequences, changed(tmp_path, **changes, **nothing))


def test_other_float_types_and_byte_orders_become_float32(tmp_path):
    expected = classes_data().splits["train"][0].values["audio"]
    data = read_sequences(changed(tmp_path, audio=np.ones((4, 1), ">f8")))
    assert data.splits["train"][0].values["audio"].dtype == torch.float32
    assert torch.equal(data.splits["train"][0].values["audio"], expected)
