"""Files that cells name: nothing outside of the root, no archive, no pickle, and all that cannot be read is named."""

import os
import pickle

import numpy as np
import pytest

from gmd.data.manifest.read import read_manifest
from helpers.manifest_cases import SMALL, Mark, all_kinds, only, write_picture, write_sound, write_table
from helpers.nifti_cases import error_of

KINDS = {"image:face": "picture", "audio:voice": "sound", "features:given": "array"}


def read(folder, rows, **options):
    return read_manifest(write_table(folder / "m.csv", rows), None, SMALL, **options)


def with_cell(folder, column, text, row=3):
    rows = all_kinds(folder)
    rows[row][column] = text
    return rows


def test_all_kinds_are_found(tmp_path):
    data = read(tmp_path, all_kinds(tmp_path))
    assert {m: tuple(given) for m, given in data.inputs.items()} == {
        "face": ("image", {"frames": 1, "height": 8, "width": 8}),
        "voice": ("audio", {"steps": 17, "mels": 8}),
        "words": ("text", {"vocabulary": 50, "longest": 5}),
        "given": ("features", {"features": 4, "longest": 3}),
    }
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 4, "validation": 2, "test": 2}
    assert all(cell.size for sample in data.splits["train"] for cell in sample.values.values())
    assert data.notes == ()


def test_the_checksum_is_of_names_targets_and_files(tmp_path):
    rows = all_kinds(tmp_path)
    first = read(tmp_path, rows).checksum()
    assert read(tmp_path, rows).checksum() == first
    write_sound(tmp_path / "sound" / "0.wav", seconds=0.19)
    changed = read(tmp_path, rows).checksum()
    rows[0]["label"] = "dog"
    assert len({first, changed, read(tmp_path, rows).checksum()}) == 3


def test_a_root_of_its_own(tmp_path):
    (tmp_path / "files").mkdir()
    path = write_table(tmp_path / "m.csv", all_kinds(tmp_path / "files"))
    assert len(read_manifest(path, tmp_path / "files", SMALL).splits["train"]) == 4
    assert "files of 24 cells cannot be read" in error_of(read_manifest, path, None, SMALL)
    assert "--root: " in error_of(read_manifest, path, tmp_path / "nowhere", SMALL)


OUTSIDE = ["../secret.png", "pictures/../../secret.png", "/etc/passwd", "pictures/..", "/"]


@pytest.mark.parametrize("text", OUTSIDE)
@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_paths_that_go_up_or_are_absolute_are_refused(tmp_path, text, unreadable):
    message = error_of(read, tmp_path, with_cell(tmp_path, "image:face", text), unreadable=unreadable)
    assert f"m.csv: line 5, image:face: {text} is absolute or has .. in it" in message


@pytest.mark.parametrize("column", KINDS)
@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_links_out_of_the_root_are_refused_for_every_kind(tmp_path, column, unreadable):
    root = tmp_path / "root"
    root.mkdir()
    secret = tmp_path / "secret"
    secret.mkdir()
    names = {"image:face": "x.png", "audio:voice": "x.wav", "features:given": "x.npy"}
    (root / "link").symlink_to(secret, target_is_directory=True)
    message = error_of(read, root, with_cell(root, column, f"link/{names[column]}"), unreadable=unreadable)
    assert f"line 5, {column}: link/{names[column]} leads out of {root} by a link" in message


def test_links_inside_of_the_root_are_followed(tmp_path):
    rows = with_cell(tmp_path, "image:face", "link.png")
    (tmp_path / "link.png").symlink_to("pictures/3.png")
    assert len(read(tmp_path, rows).splits["train"]) == 4


def test_a_link_out_of_the_root_in_a_folder_of_frames_is_refused(tmp_path):
    root = tmp_path / "root"
    rows = with_cell_in(root, "frames")
    write_picture(root / "frames" / "1.png")
    (root / "frames" / "2.png").symlink_to(write_picture(tmp_path / "secret.png"))
    assert "2.png leads out of" in error_of(read, root, rows)


def with_cell_in(root, text):
    root.mkdir()
    return with_cell(root, "image:face", text)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.7z"])
def test_archives_are_refused(tmp_path, name):
    message = error_of(read, tmp_path, with_cell(tmp_path, "image:face", name), unreadable="skip")
    assert f"{name} is an archive; unpack it" in message


@pytest.mark.parametrize("name", ["x.pkl", "x.pt", "x.PTH"])
@pytest.mark.parametrize("column", ["image:face", "audio:voice"])
def test_pickles_are_refused(tmp_path, name, column):
    message = error_of(read, tmp_path, with_cell(tmp_path, column, name), unreadable="skip")
    assert f"{name} is a pickle by its name, which can execute code" in message


def test_other_files_than_arrays_are_refused_as_features(tmp_path):
    message = error_of(read, tmp_path, with_cell(tmp_path, "features:given", "x.pt"), unreadable="skip")
    assert "got x.pt, expected a file of numpy: FILE.npy, FILE.npz#NAME" in message


def test_nothing_in_a_file_is_executed(tmp_path):
    mark = tmp_path / "executed"
    np.save(tmp_path / "x.npy", np.array([Mark(mark)], object))
    np.savez(tmp_path / "x.npz", a=np.array([Mark(mark)], object))
    (tmp_path / "x.png").write_bytes(pickle.dumps(Mark(mark)))
    (tmp_path / "x.wav").write_bytes(pickle.dumps(Mark(mark)))
    for column, name in [("features:given", "x.npy"), ("features:given", "x.npz"), ("text:words", "x.npy")]:
        assert "holds Python objects" in error_of(read, tmp_path, with_cell(tmp_path, column, name))
    for column, name in [("image:face", "x.png"), ("audio:voice", "x.wav")]:
        assert "it is a pickle, not " in error_of(read, tmp_path, with_cell(tmp_path, column, name))
    assert not mark.exists()


def place(path, kind):
    path.parent.mkdir(exist_ok=True)
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a web page":
        path.write_text("<!doctype html><html><body>Please log in</body></html>", encoding="utf-8")
    elif kind == "a circle of links":
        path.symlink_to(path.name)
    return path.name


BAD = {
    "nothing": "there is no such file",
    "a named pipe": "is a named pipe, expected a file",
    "a folder": "folder",
    "empty": "empty",
    "a web page": "it is a web page",
    "a circle of links": "links",
}


@pytest.mark.parametrize("column", KINDS)
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_with_its_row_or_skipped(tmp_path, column, kind):
    name = {"image:face": "x.png", "audio:voice": "x.wav", "features:given": "x.npy"}[column]
    rows = with_cell(tmp_path, column, place(tmp_path / name, kind))
    message = error_of(read, tmp_path, rows)
    assert "m.csv: files of 1 cells cannot be read; mend them, or leave them out with --unreadable skip" in message
    assert f"m.csv: line 5, {column}: {tmp_path / name}" in message
    assert BAD[kind] in message
    data = read(tmp_path, rows, unreadable="skip")
    modality = column.partition(":")[2]
    assert modality not in data.splits["train"][3].values
    assert len(data.splits["train"][3].values) == 3
    assert data.notes[0] == "files of 1 cells cannot be read, and count as missing; the first are"
    assert f"1 of 8 rows lack {modality}" in data.notes


def test_the_first_five_are_named(tmp_path):
    rows = all_kinds(tmp_path)
    for row in rows[:7]:
        row["image:face"] = "gone/" + row["image:face"]
    message = error_of(read, tmp_path, rows)
    assert "files of 7 cells cannot be read" in message
    assert message.count("there is no such file") == 5
    assert [f"line {line}, image:face" in message for line in range(2, 9)] == [True] * 5 + [False] * 2


def test_rows_that_are_left_with_nothing_are_left_out(tmp_path):
    rows = only(all_kinds(tmp_path), "image:face")
    rows[0]["image:face"] = ""
    rows[1]["image:face"] = "gone.png"
    data = read(tmp_path, rows, unreadable="skip")
    assert [sample.name for sample in data.splits["train"]] == ["sample2", "sample3"]
    assert "2 rows have no modality and are left out" in data.notes


def test_a_modality_that_no_training_row_has_is_refused(tmp_path):
    rows = all_kinds(tmp_path)
    for row in rows[:4]:
        row["audio:voice"] = ""
    assert "no training row has voice; take its column out" in error_of(read, tmp_path, rows)


def test_files_that_are_trained_on_and_tested_are_told(tmp_path):
    rows = only(all_kinds(tmp_path), "image:face")
    rows[7]["image:face"] = rows[0]["image:face"]
    note = "1 files of face are in training and in test: their scores are too good"
    assert note in read(tmp_path, rows).notes


def test_names_from_the_file_are_shown_without_control_characters(tmp_path):
    message = error_of(read, tmp_path, with_cell(tmp_path, "image:face", "a\x1b[31m.png"))
    assert "\x1b" not in message
    assert "\\x1b[31m.png" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_right_to_read(tmp_path):
    rows = all_kinds(tmp_path)
    (tmp_path / "pictures" / "3.png").chmod(0)
    assert "3.png: cannot be opened (Permission denied)" in error_of(read, tmp_path, rows)
