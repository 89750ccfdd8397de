"""Pictures in folders, in CIFAR's files, and those that need no files."""

import os
import pickle
import tarfile

import numpy as np
import pytest

from examples.images import built_in, cifar, data, folders
from examples.images.pictures import Pictures, Transformed, collate, hold_out_validation, split
from gmd.errors import UserError
from helpers.image_cases import cifar_file, write_cifar, write_tree


def names_of(pictures):
    return [f"{path.parent.name}/{path.name}" for path in pictures.sources]


# A folder for each class


def test_a_fifth_of_each_class_is_the_test_and_no_picture_is_in_two_parts(tmp_path):
    found = folders.read_folders(write_tree(tmp_path, cat=20, ant=10))
    assert found.classes == ("ant", "cat")
    assert found.photographs
    assert [np.bincount(part.labels).tolist() for part in (found.training, found.validation, found.test)] == [
        [7, 14],
        [1, 2],
        [2, 4],
    ]
    parts = [names_of(part) for part in (found.training, found.validation, found.test)]
    assert len({*parts[0], *parts[1], *parts[2]}) == 30
    for part in (found.training, found.validation, found.test):
        assert all(
            path.parent.name == found.classes[label] for path, label in zip(part.sources, part.labels, strict=True)
        )


def test_the_split_does_not_depend_on_the_order_in_which_the_file_system_lists(tmp_path, monkeypatch):
    """The published reader draws over os.listdir."""
    tree = write_tree(tmp_path, cat=10, ant=10)
    expected = names_of(folders.read_folders(tree).test)
    scandir = os.scandir
    monkeypatch.setattr(folders.os, "scandir", lambda path: reversed(list(scandir(path))))
    assert names_of(folders.read_folders(tree).test) == expected


def test_caltech_is_read_from_the_folder_above_and_without_its_background(tmp_path):
    write_tree(tmp_path / "101_ObjectCategories", BACKGROUND_Google=3, Faces=5, Faces_easy=5)
    assert folders.read_folders(tmp_path).classes == ("Faces", "Faces_easy")


def test_what_is_no_picture_is_not_looked_at(tmp_path):
    tree = write_tree(tmp_path, cat=3, ant=3)
    (tree / "cat" / "notes.txt").touch()
    (tree / "cat" / ".hidden.png").touch()
    (tree / ".git").mkdir()
    found = folders.read_folders(tree)
    assert sum(map(len, (found.training, found.validation, found.test))) == 6


def test_parts_that_somebody_made_are_kept(tmp_path):
    for part, count in {"train": 4, "val": 2, "test": 1}.items():
        write_tree(tmp_path / part, cat=count, ant=count)
    found = folders.read_folders(tmp_path)
    assert [len(part) for part in (found.training, found.validation, found.test)] == [8, 4, 2]


def test_without_val_some_are_held_out_and_without_test_nothing_is_tested(tmp_path):
    write_tree(tmp_path / "train", cat=20, ant=20)
    found = folders.read_folders(tmp_path)
    assert [len(found.training), len(found.validation), found.test] == [36, 4, None]


def test_a_class_that_val_lacks_keeps_its_number(tmp_path):
    write_tree(tmp_path / "train", ant=4, bee=4, cat=4)
    write_tree(tmp_path / "val", cat=2)
    assert folders.read_folders(tmp_path).validation.labels.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"cat": 5}, "got 1 folders, expected one for each class"),
        ({"cat": 5, "ant": 0}, "ant: holds no pictures"),
        ({"cat": 5, "ant": 1}, "class ant: got 1 pictures to split, expected 2 at least"),
        ({"cat": 5, "ant": 2}, "class ant: got 1 pictures to split"),
    ],
)
def test_trees_that_cannot_be_split_are_refused(tmp_path, counts, words):
    with pytest.raises(UserError, match=words):
        folders.read_folders(write_tree(tmp_path, **counts))


def test_a_class_that_train_lacks_is_refused(tmp_path):
    write_tree(tmp_path / "train", cat=3, ant=3)
    write_tree(tmp_path / "test", cat=3, bee=3)
    with pytest.raises(UserError, match=r"bee: a class of which there is no folder in train"):
        folders.read_folders(tmp_path)


def test_a_picture_that_is_damaged_is_named_behind_a_worker_too(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"\xff\xd8\xffnothing")
    item = Transformed(Pictures([path], np.zeros(1, np.int64)), lambda picture: picture)[0]
    assert isinstance(collate([item, item]), UserError)
    assert f"{path}: cannot be read as a picture" in str(item)


def test_nothing_at_a_path_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--data: .*nowhere: there is nothing; expected a folder"):
        data.read(str(tmp_path / "nowhere"))


# CIFAR


@pytest.mark.parametrize("key", [str, str.encode], ids=["str", "bytes"])
def test_cifar_is_read_with_its_own_test_pictures(tmp_path, key):
    folder = write_cifar(tmp_path / "cifar-100-python", key)
    for found in (data.read(str(folder)), data.read(str(tmp_path))):
        assert found.classes == ("apple", "bear", "crab")
        assert [len(part) for part in (found.training, found.validation, found.test)] == [27, 3, 6]
    planes = cifar_file(6, 3)["data"][4].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(found.test.picture(4)), planes.transpose(1, 2, 0))
    assert found.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_cifar_is_read_from_its_archive(tmp_path):
    folder = write_cifar(tmp_path / "cifar-100-python")
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "cifar-100-python")
    apart, packed = data.read(str(folder)), data.read(str(archive))
    assert np.array_equal(packed.training.sources, apart.training.sources)
    assert np.array_equal(packed.validation.labels, apart.validation.labels)


def test_cifar_10_is_read_from_its_batches(tmp_path):
    for index in range(1, 6):
        content = cifar_file(10 + index, 2)
        content["labels"] = content.pop("fine_labels")
        (tmp_path / f"data_batch_{index}").write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}, protocol=2))
    found = data.read(str(tmp_path))
    assert len(found.training) + len(found.validation) == 11 + 12 + 13 + 14 + 15
    assert len(found.test) == 15


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": np.zeros((30, 3071), np.uint8)}, r"train: data: expected an array of uint8, \[n, 3072\]"),
        ({"data": np.zeros((30, 3072))}, "train: data: expected an array of uint8"),
        ({"fine_labels": [0] * 29}, "train: fine_labels: expected 30 numbers from 0 to 2"),
        ({"fine_labels": [3] * 30}, "train: fine_labels: expected 30 numbers from 0 to 2"),
    ],
    ids=["narrow", "float", "short", "beyond"],
)
def test_files_of_something_else_are_refused(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        cifar.read_cifar(write_cifar(tmp_path / "x", **changes), cifar.LAYOUTS[0])


class Attack:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_code_in_a_file_of_cifar_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_cifar(tmp_path / "x", filenames=Attack())
    with pytest.raises(UserError, match="train: refused"):
        data.read(str(folder))
    assert not (tmp_path / "executed").exists()


def test_archives_of_something_else_are_refused(tmp_path):
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as tar:
        tar.add(__file__, "meta")
    with pytest.raises(UserError, match="lacks files of CIFAR"):
        data.read(str(other))
    (tmp_path / "cut.tar.gz").write_bytes(other.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be unpacked"):
        data.read(str(tmp_path / "cut.tar.gz"))


# Those that need no files


def test_digits_are_all_there_and_are_no_photographs():
    found = data.read("digits")
    parts = (found.training, found.validation, found.test)
    assert sum(map(len, parts)) == 1797
    assert all(len(np.unique(part.labels)) == 10 for part in parts)
    assert found.training.sources.shape[1:] == (8, 8, 3)
    assert (found.training.sources.min(), found.training.sources.max()) == (0, 255)
    assert not found.photographs


def test_drawn_shapes_are_those_of_their_seed():
    first, again, other = (built_in.generated(seed).training.sources for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_held_out_is_always_the_same():
    pictures = Pictures(np.zeros((40, 2, 2, 3), np.uint8), np.arange(40) % 4)
    classes = ("a", "b", "c", "d")
    for draw in (hold_out_validation, lambda *given: split(*given[:1], 0.25, given[1], 0)):
        (first, held), (again, _) = draw(pictures, classes), draw(pictures, classes)
        assert np.array_equal(first.labels, again.labels)
        assert len(first) + len(held) == 40
