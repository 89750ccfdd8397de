"""HDF5 as it is handed around: MFN's files, MMIN's folder, computational sequences; and what of HDF5 is refused."""

import h5py
import numpy as np
import pytest
import torch

from gmd.data.sequences.hdf5 import open_hdf5
from gmd.data.sequences.mmin_folder import CLASSES
from gmd.data.sequences.sequence_files import Reading, read_sequences
from gmd.errors import UserError
from helpers.nifti_cases import error_of
from helpers.sequence_cases import SIZES, SPLIT_OF, all_samples
from helpers.sequence_layouts import csd_folder, mfn_arrays, write_csd, write_mfn, write_mmin

# MFN


def as_mfn(data, arrays):
    assert data.features == {"text": 300, "audio": 5, "vision": 20}
    for split in SIZES:
        for i, sample in enumerate(data.splits[SPLIT_OF[split]]):
            whole = np.concatenate([sample.values[m].numpy() for m in data.features], axis=1)
            assert np.array_equal(whole, arrays[f"X_{split}"][i, :5]), "the last two steps are padding"
            assert sample.target == pytest.approx(arrays[f"y_{split}"][i])


def test_mfn_is_a_folder_of_files(tmp_path):
    arrays = mfn_arrays()
    as_mfn(read_sequences(write_mfn(tmp_path / "data", arrays)), arrays)


@pytest.mark.parametrize("in_groups", [False, True])
def test_or_one_file_of_all(in_groups, tmp_path):
    arrays = mfn_arrays()
    with h5py.File(tmp_path / "mfn.h5", "w") as file:
        for name, array in arrays.items():
            file[f"{name}/data" if in_groups else name] = array
    as_mfn(read_sequences(tmp_path / "mfn.h5"), arrays)


def test_mfn_with_a_file_for_each_modality(tmp_path):
    arrays = {}
    for split, size in SIZES.items():
        arrays |= {f"text_{split}_emb": np.ones((size, 4, 6)), f"audio_{split}": np.ones((size, 4, 3))}
        arrays |= {f"video_{split}": np.ones((size, 4, 2)), f"y_{split}": np.linspace(-2, 2, size)[:, None]}
    assert read_sequences(write_mfn(tmp_path / "data", arrays)).features == {"text": 6, "audio": 3, "vision": 2}
    for split in SIZES:
        (tmp_path / "data" / f"video_{split}.h5").unlink()
    data = read_sequences(tmp_path / "data")
    assert list(data.features) == ["text", "audio"]
    assert "the file has no vision" in data.notes


def test_what_mfn_lacks_is_named(tmp_path):
    folder = write_mfn(tmp_path / "data", mfn_arrays() | {"X_valid": np.ones((3, 7, 74))})
    message = error_of(read_sequences, folder)
    assert "X_valid is [3, 7, 74], expected [N, L, 325] (text 300, audio 5, vision 20)" in message
    (folder / "y_test.h5").unlink()
    (folder / "X_valid.h5").unlink()
    assert "valid has no text, audio, vision" in error_of(read_sequences, write_mfn(tmp_path / "b", y_only()))
    assert "give the folder of X_train.h5" in error_of(read_sequences, folder / "X_train.h5")
    with h5py.File(folder / "X_test.h5", "w") as file:
        file["features"] = np.ones(3)
    assert "data is not there, expected an array" in error_of(read_sequences, write_mfn_without_data(tmp_path / "c"))


def y_only():
    arrays = mfn_arrays()
    return {name: array for name, array in arrays.items() if name != "X_valid"}


def write_mfn_without_data(folder):
    write_mfn(folder, mfn_arrays())
    with h5py.File(folder / "X_test.h5", "w") as file:
        file["features"] = np.ones(3)
    return folder


# MMIN


def test_mmin_reads_a_fold_as_four_classes_with_its_own_statistics(tmp_path):
    folder, lists = write_mmin(tmp_path / "iemocap")
    for fold in (1, 2):
        data = read_sequences(folder, Reading(fold=fold))
        assert data.classes == CLASSES == ("angry", "happy", "neutral", "sad")
        assert data.features == {"text": 6, "audio": 3, "vision": 4}
        assert f"fold {fold} of iemocap/target" in data.notes
        for split, part in (("train", "trn"), ("validation", "val"), ("test", "tst")):
            names, classes = lists[fold][part]
            assert [sample.name for sample in data.splits[split]] == names
            assert [int(sample.target) for sample in data.splits[split]] == classes
        sample = data.splits["train"][0]
        with h5py.File(folder / "A" / "comparE.h5") as file:
            raw = file[sample.name][()].astype(np.float64)
        expected = (raw - (5 + fold)) / np.array([2, 1, 1])  # a deviation of 0 is taken for 1
        assert torch.equal(sample.values["audio"], torch.from_numpy(expected.astype(np.float32)))


def test_mmin_without_a_modality_or_an_utterance(tmp_path):
    folder, lists = write_mmin(tmp_path / "iemocap")
    (folder / "V" / "denseface.h5").unlink()
    (folder / "A" / "comparE_mean_std.h5").unlink()
    with h5py.File(folder / "L" / "bert_large.h5", "r+") as file:
        del file[lists[1]["trn"][0][0]]
    data = read_sequences(folder, Reading(fold=1))
    assert list(data.features) == ["text", "audio"]
    assert list(data.splits["train"][0].values) == ["audio"]
    assert "there is no V/denseface.h5" in data.notes
    assert "there is no A/comparE_mean_std.h5: audio is read as it is" in data.notes
    assert "text: 1 samples do not have it: their sequence is absent, empty or all zeros" in data.notes


def test_mmin_refuses_what_does_not_belong_together(tmp_path):
    folder, lists = write_mmin(tmp_path / "iemocap")
    for fold in (None, 3, -1):
        message = error_of(read_sequences, folder, Reading(fold=fold))
        assert f"--fold: got {'nothing' if fold is None else fold}, expected one of 1, 2, the folds in" in message
    target = folder / "target" / "1"
    np.save(target / "val_label.npy", np.array([0.5, 1, 2]))
    assert "expected classes [N], or one-hot [N, C]" in error_of(read_sequences, folder, Reading(fold=1))
    np.save(target / "val_label.npy", np.array([0, 1]))
    assert "val lists 3 names and 2 labels" in error_of(read_sequences, folder, Reading(fold=1))
    np.save(target / "val_label.npy", np.array([0, 1, 2]))
    np.save(target / "val_int2name.npy", np.array([[b"a"]] * 3, object), allow_pickle=True)
    assert "val_int2name.npy holds Python objects" in error_of(read_sequences, folder, Reading(fold=1))
    np.save(target / "val_int2name.npy", np.array([name.encode() for name in [*lists[1]["trn"][0][:2], "x"]]))
    assert "two samples are called" in error_of(read_sequences, folder, Reading(fold=1))
    (target / "val_int2name.npy").unlink()
    assert "val_int2name.npy: there is no such file; expected a .npy" in error_of(
        read_sequences, folder, Reading(fold=1)
    )


def test_other_files_have_no_folds(tmp_path):
    folder = write_mfn(tmp_path / "data", mfn_arrays())
    assert f"--fold: got 1, but {folder} has no folds" in error_of(read_sequences, folder, Reading(fold=1))


# Computational sequences


def test_a_folder_of_computational_sequences(tmp_path):
    folder = csd_folder(tmp_path / "mosi")
    data = read_sequences(folder)
    assert data.features == {"text": 6, "audio": 3, "vision": 4}
    assert [sample.name for sample in data.splits["validation"]] == ["v3[0]", "v3[1]"]
    assert [len(data.splits[split]) for split in ("train", "test")] == [6, 4]
    # steps of half a second, whose middles lie in [0, 1.5) and in [1.5, 4)
    assert {len(value) for value in data.splits["test"][0].values.values()} == {3}
    assert {len(value) for value in data.splits["test"][1].values.values()} == {5}
    with h5py.File(folder / "CMU_MOSI_COVAREP.csd") as file:
        whole = file["CMU_MOSI_COVAREP/data/v4/features"][()]
    both = torch.cat([sample.values["audio"] for sample in data.splits["test"][:2]])
    assert torch.equal(both, torch.from_numpy(whole.astype(np.float32)))
    assert "labels: CMU_MOSI_Opinion_Labels.csd" in data.notes


def test_computational_sequences_that_the_sdk_has_aligned(tmp_path):
    folder = tmp_path / "aligned"
    folder.mkdir()
    segments = [f"v{i}[{k}]" for i in range(6) for k in range(2)]
    times = np.array([[0.0, 1.0]])
    write_csd(folder / "glove.csd", "glove", {name: (np.ones((1, 6)), times) for name in segments})
    write_csd(folder / "COVAREP.csd", "x", {name: (np.ones((1, 3)), times) for name in segments[1:]})
    labels = {name: (np.array([[(i - 6) / 3, 9.0]]), times) for i, name in enumerate(segments)}
    write_csd(folder / "All Labels.csd", "All Labels", labels)
    for split, members in (("train", "v0 v1 v2 lost"), ("valid", "v3"), ("test", "v4")):
        (folder / f"{split}.txt").write_text(members.replace(" ", "\n"))
    data = read_sequences(folder)
    assert [sample.name for sample in data.splits["train"]] == segments[:6]
    assert list(data.splits["train"][0].values) == ["text"]
    assert [sample.target.item() for sample in data.splits["test"]] == pytest.approx([2 / 3, 1])
    assert "1 videos with labels are in no list and are left out" in data.notes
    assert "1 of the listed videos have no labels" in data.notes


def test_words_of_a_computational_sequence_become_vectors(tmp_path):
    folder = csd_folder(tmp_path / "mosi")
    steps = np.arange(0, 4, 0.5)
    times = np.stack([steps, steps + 0.5], axis=1)
    words = np.array([[word.encode()] for word in ["so", "this", "is", "what", "a", "film", "can", "be"]])
    write_csd(folder / "CMU_MOSI_TimestampedWordVectors.csd", "w", {f"v{i}": (words, times) for i in range(6)})
    data = read_sequences(folder)
    assert data.features["text"] == 300
    assert any(note.startswith("text: words become fixed random vectors") for note in data.notes)


def spoilt(folder, name):
    """Does one thing to a folder that its reader has to refuse; returns what it has to say."""
    labels, audio = folder / "CMU_MOSI_Opinion_Labels.csd", folder / "CMU_MOSI_COVAREP.csd"
    if name == "no labels":
        labels.unlink()
        return "expected a .csd with Label in its name"
    if name == "two of a modality":
        write_csd(folder / "CMU_MOSI_openSMILE.csd", "x", {"v0": (np.ones((1, 3)), np.ones((1, 2)))})
        return "is audio, as CMU_MOSI_COVAREP.csd is"
    if name == "of no modality":
        audio.rename(folder / "gaze.csd")
        return "gaze.csd: its name does not tell its modality"
    if name == "no list":
        (folder / "valid.txt").unlink()
        return "valid.txt: there is no such list"
    if name == "a video in two lists":
        (folder / "valid.txt").write_text("v0\n")
        return "v0 is in train too"
    if name == "no data":
        with h5py.File(audio, "w") as file:
            file["x"] = np.ones(3)
        return "CMU_MOSI_COVAREP.csd: has 0 groups with data"
    entries = {f"v{i}": (np.ones((3, 3)), np.ones((2, 2))) for i in range(6)}
    write_csd(audio, "x", entries)
    return "v0 has 2 intervals and 3 steps"


SPOILT = ["no labels", "two of a modality", "of no modality", "no list", "a video in two lists", "no data", "intervals"]


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_of_computational_sequences_that_is_none(name, tmp_path):
    folder = csd_folder(tmp_path / "mosi")
    message = spoilt(folder, name)
    assert message in error_of(read_sequences, folder)


# HDF5 itself


def attack(path, name):
    """Writes a file whose data set `x` must not be read; returns what has to be said of it."""
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(3)
    with h5py.File(path, "w") as file:
        if name == "external link":
            file["x"] = h5py.ExternalLink("other.h5", "/x")
            return "x is a link, which is not followed"
        if name == "soft link":
            file["y"] = np.ones(3)
            file["x"] = h5py.SoftLink("/y")
            return "x is a link, which is not followed"
        if name == "virtual":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
            file.create_virtual_dataset("x", layout)
            return "x lies in another file"
        if name == "external storage":
            file.create_dataset("x", (3,), "f8", external=[(str(other), 0, 24)])
            return "x lies in another file"
        if name == "objects":
            file.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype())
            return "objects are never read"
        if name == "references":
            file.create_dataset("x", data=[file.ref], dtype=h5py.ref_dtype)
            return "objects are never read"
        if name == "fields":
            file["x"] = np.zeros(3, [("a", "f4")])
            return "expected float with 1 axes"
        if name == "a claim":
            file.create_dataset("x", (2**40,), "f4", chunks=(2**20,))
            return "would take 4.4e+03 GB of memory"
        if name == "no shape":
            file["x"] = h5py.Empty("f4")
            return "is float32 without a shape"
        file.create_group("x")
    return "x is no data set"


ATTACKS = ["external link", "soft link", "virtual", "external storage", "objects", "references", "fields", "a claim"]


@pytest.mark.parametrize("name", [*ATTACKS, "no shape", "group"])
def test_what_is_not_plain_numbers_in_the_file_itself_is_refused(name, tmp_path):
    path = tmp_path / "a.h5"
    message = attack(path, name)
    with open_hdf5(path) as file:
        assert file.names() in (["x"], ["x", "y"])
        with pytest.raises(UserError) as caught:
            file.array("x", "f", (1,))
    assert message in str(caught.value)


def test_a_link_on_the_way_is_refused_too(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["g/x"] = np.ones(3)
        file["h"] = h5py.SoftLink("/g")
        file["self"] = file["/"]
    with open_hdf5(tmp_path / "b.h5") as file:
        assert file.array("g/x", "f", (1,)).tolist() == [1, 1, 1]
        assert file.array("self/self/g/x", "f", (1,)).tolist() == [1, 1, 1], "in the file itself"
        assert not file.has("g/y")
        assert not file.has("g/x/y")
        with pytest.raises(UserError, match="h is a link"):
            file.has("h/x")


def test_all_samples_are_there_whatever_reads_them(tmp_path):
    """The three readers of HDF5 count what they leave out, so that nothing is lost in silence."""
    folder, lists = write_mmin(tmp_path / "iemocap")
    assert len(all_samples(read_sequences(folder, Reading(fold=1)))) == sum(
        len(names) for names, _ in lists[1].values()
    )
    assert len(all_samples(read_sequences(csd_folder(tmp_path / "csd")))) == 12
    assert len(all_samples(read_sequences(write_mfn(tmp_path / "mfn", mfn_arrays())))) == sum(SIZES.values())
