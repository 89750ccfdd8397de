"""Whatever an image is or claims, its reader ends soon, takes little memory, and says which file it was."""

import gzip
import os
import threading
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

import gmd.data.segmentation.check as check
import gmd.data.segmentation.opened_image as opened_image
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.cases import find_cases, usable_cases
from gmd.data.segmentation.check import check_cases, read_cases
from gmd.data.segmentation.checked_files import KEPT, forget_old, recall
from gmd.data.segmentation.grid_notes import affines_of
from gmd.data.segmentation.image_files import files_below
from gmd.data.segmentation.nifti import read_affine, read_volume
from gmd.data.segmentation.opened_image import open_image
from gmd.data.segmentation.own_labels import read_scheme
from gmd.data.segmentation.readable import NoRoom
from gmd.data.segmentation.scan import scan_cases
from gmd.data.segmentation.volumes import load_case, read_files
from gmd.errors import UserError
from helpers.bad_images import BAD_IMAGES, bomb, header, packed, spoil
from helpers.nifti_cases import SHAPE, error_of, make_case, random_image, save


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/gmd/checked_cases"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_refused_by_its_name(tmp_path: Path, kind: str, ending: str):
    path = tmp_path / f"a_t1{ending}"
    BAD_IMAGES[kind][0](path)
    message = error_of(read_volume, path)
    assert message.startswith(f"{path}: ")
    assert BAD_IMAGES[kind][1] in message


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_check_tells_all_of_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In an image or a label map; the good ones are good."""
    monkeypatch.setattr(check, "SHOWN", len(BAD_IMAGES))
    for number, kind in enumerate(BAD_IMAGES):
        case = tmp_path / "data" / f"case{number}"
        make_case(case, keys=("flair", "t1", "seg"))
        spoil(case / f"{case.name}_{'seg' if number % 2 else 't1'}.nii.gz", kind)
    make_case(tmp_path / "data/good", keys=("flair", "t1", "seg"))
    cases = find_cases(tmp_path / "data")
    checked = read_cases(cases)
    assert set(checked.checksums) == {"good"}
    message = error_of(check_cases, cases)
    for number, (_, reason) in enumerate(BAD_IMAGES.values()):
        assert reason in checked.bad[f"case{number}"]
        assert f"\n  case{number}: {tmp_path / 'data' / f'case{number}'}" in message
    assert len(affines_of(cases)) == len(cases)  # of the first image, which is good


def test_a_bomb_is_read_no_further_than_its_header_says(tmp_path: Path):
    bomb(path := tmp_path / "a.nii.gz", 2**26)
    tracemalloc.start()
    error_of(read_volume, path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**23
    assert read_affine(path).shape == (4, 4)


def test_a_header_is_asked_before_room_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a file that is no larger than the limit, but holds less than it says; and of one beyond the limit."""
    monkeypatch.setenv("GMD_MAX_GB", "1000")
    packed(path := tmp_path / "a.nii.gz", header((1000, 1000, 1000)))
    assert "there are" in error_of(read_volume, path)
    monkeypatch.setenv("GMD_MAX_GB", "1")
    assert "GMD_MAX_GB=16" in error_of(read_volume, path)
    monkeypatch.setenv("GMD_MAX_GB", "1e-6")
    assert "a volume of 6 x 5 x 4 voxels" in error_of(read_volume, save(tmp_path / "b.nii", random_image()))
    monkeypatch.setenv("GMD_MAX_GB", "3e-6")
    assert read_volume(tmp_path / "b.nii").data.shape == SHAPE


@pytest.mark.parametrize("key", ["seg", "mask"])
def test_label_map_and_mask_are_bound_by_the_same(tmp_path: Path, key: str):
    case = Case("a", {"t1": save(tmp_path / "t1.nii", random_image())})
    path = tmp_path / f"{key}.nii.gz"
    packed(path, header((32767, 32767, 32767)))
    bad = Case("a", case.images, **{"label" if key == "seg" else "mask": path})
    assert f"{path}: a volume of 32767" in error_of(load_case, bad)


def test_the_files_of_a_case_may_not_take_too_much_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_case(tmp_path / "a")
    [case] = find_cases(tmp_path)
    monkeypatch.setenv("GMD_MAX_GB", "4e-6")
    assert "case a, of 5 files together, would take" in error_of(read_files, case)


KINDS = {".mgz": nibabel.MGHImage, ".mgh": nibabel.MGHImage, ".nii.bz2": nibabel.Nifti1Image}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel leaves a .mgh open
@pytest.mark.parametrize("ending", [".mgz", ".mgh", ".img", ".hdr", ".nii.bz2", ".img.gz"])
def test_other_formats_are_bound_by_their_headers_too(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / f"t1{ending}"
    nibabel.save(KINDS.get(ending, nibabel.Nifti1Pair)(random_image(), np.eye(4)), path)
    assert read_volume(path).data.shape == SHAPE
    monkeypatch.setenv("GMD_MAX_GB", "1e-6")
    assert f"{path}: a volume of 6 x 5 x 4 voxels would take" in error_of(read_volume, path)


@pytest.mark.parametrize(
    ("given", "beside"), [(".img", ".hdr"), (".hdr", ".img"), (".head", ".brik"), (".img", ".mat")]
)
def test_what_belongs_to_an_image_is_a_file_too(tmp_path: Path, given: str, beside: str):
    (tmp_path / f"t1.{given}").write_bytes(bytes(400))
    os.mkfifo(tmp_path / f"t1.{beside}")
    assert f"{tmp_path / f't1.{beside}'}: is a named pipe" in error_of(read_volume, tmp_path / f"t1.{given}")


class OfALibrary(Exception):
    """An error that no list of errors has."""


@pytest.mark.parametrize("kind", [OfALibrary, RecursionError, AttributeError, np.linalg.LinAlgError])
def test_any_error_of_a_reader_is_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]):
    def fail(*_, **__):
        raise kind("x")

    path = save(tmp_path / "a.nii", random_image())
    monkeypatch.setattr(nibabel.Nifti1Image, "from_bytes", fail)
    assert f"{path}: cannot be read as a NIfTI image ({kind.__name__}: x)" in error_of(read_volume, path)
    monkeypatch.setattr(nibabel.Nifti1Image, "from_bytes", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_volume(path)


def test_no_memory_for_a_file_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_case(tmp_path / "a")
    cases = find_cases(tmp_path)

    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(nibabel.Nifti1Image, "get_fdata", no_memory)
    with pytest.raises(NoRoom, match=r"a_flair\.nii\.gz: no memory is left to read it"):
        load_case(cases[0])
    assert "a_flair.nii.gz: no memory is left" in read_cases(cases).bad["a"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "a.nii", random_image())
    image = open_image(path)
    save(path, random_image()[:, ::-1], np.diag([2, 1, 1, 1]))
    assert "it has changed while it was read" in error_of(opened_image.read_voxels, path, image)
    path.unlink()
    assert "FileNotFoundError" in error_of(opened_image.read_voxels, path, image)


def test_members_of_gzip_and_zeros_behind_them(tmp_path: Path):
    """As bgzip and tapes leave them."""
    path = save(tmp_path / "a.nii", random_image())
    content = path.read_bytes()
    members = gzip.compress(content[:300]) + gzip.compress(content[300:500]) + gzip.compress(content[500:])
    for number, end in enumerate((b"", bytes(512), gzip.compress(b"\0" * 99))):
        (tmp_path / f"{number}.nii.gz").write_bytes(members + end)
        np.testing.assert_array_equal(read_volume(tmp_path / f"{number}.nii.gz").data, read_volume(path).data)
    (tmp_path / "x.nii.gz").write_bytes(members + b"garbage")
    assert "cannot be read" in error_of(read_volume, tmp_path / "x.nii.gz")


def test_large_cases_are_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each may take as much as a file may, and several at once would take more than there is."""
    for name in "abcd":
        make_case(tmp_path / name, keys=("flair", "seg"))
    cases = find_cases(tmp_path)
    at_once, most, lock = 0, 0, threading.Lock()
    real = check.read_files

    def reading(case: Case):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            threading.Event().wait(0.05)
            return real(case)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(check, "read_files", reading)
    monkeypatch.setattr(check.torch, "get_num_threads", lambda: 4)
    monkeypatch.setenv("GMD_MAX_GB", "1e-5")
    assert set(read_cases(cases).checksums) == set("abcd")
    assert most == 1
    monkeypatch.delenv("GMD_MAX_GB")
    monkeypatch.setattr(check, "recall", lambda _: None)
    read_cases(cases)
    assert most > 1


# Folders


def test_a_folder_that_is_called_like_an_image_is_not_left_out(tmp_path: Path):
    make_case(tmp_path / "a", keys=("flair", "t1", "seg"))
    spoil(tmp_path / "a/a_t1.nii.gz", "a folder")
    (tmp_path / "a/a_t1.nii.gz/read me.txt").touch()
    [case] = find_cases(tmp_path)
    assert f"{tmp_path}/a/a_t1.nii.gz: is a folder" in error_of(load_case, case)


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a", "b", "lost+found"):
        make_case(tmp_path / name, keys=("flair", "seg"))
    real = os.scandir

    def closed(path):
        if str(path).endswith(("b", "lost+found")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert list(files_below(tmp_path).closed) == [tmp_path / "b"]
    assert list(scan_cases(tmp_path).wrong) == [tmp_path / "b"]
    assert f"{tmp_path / 'b'}: cannot be looked into (Permission denied)" in error_of(find_cases, tmp_path)
    assert list(usable_cases(tmp_path).wrong) == ["b"]


def test_a_case_that_is_called_like_another_stops_no_other(tmp_path: Path):
    for folder in ("p1/ses1", "p2/ses1", "p2__ses1"):
        make_case(tmp_path / folder, keys=("flair", "seg"))
    scan = scan_cases(tmp_path)
    assert len(scan.cases) == 2
    [reason] = scan.wrong.values()
    assert "would both be called p2__ses1; rename one" in reason


# What is read only to be told, or to be quicker


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a socket", "a folder", "deep", "huge", "links in circles"])
def test_a_cache_that_is_no_cache_counts_as_none(tmp_path: Path, cache: Path, kind: str):
    make_case(tmp_path / "data/a", keys=("flair", "seg"))
    cases = find_cases(tmp_path / "data")
    read_cases(cases)
    [entry] = cache.iterdir()
    entry.unlink()
    if kind == "deep":
        entry.write_text("[" * 100_000)
    elif kind == "huge":
        entry.write_text(f'{{"flair": "{"x" * 2**20}"}}')
    else:
        BAD_IMAGES[kind][0](entry)
    assert recall(cases[0]) is None
    assert set(read_cases(cases).checksums) == {"a"}


def test_old_entries_of_the_cache_are_removed(tmp_path: Path, cache: Path):
    for name in "ab":
        make_case(tmp_path / "data" / name, keys=("flair", "seg"))
    cases = find_cases(tmp_path / "data")
    read_cases(cases)
    old, new = sorted(cache.iterdir())
    os.utime(old, (0, old.stat().st_mtime - KEPT - 9))
    forget_old()
    assert list(cache.iterdir()) == [new]


def test_a_name_in_no_encoding_is_remembered(tmp_path: Path):
    make_case(tmp_path / "data/a", keys=("flair", "seg"))
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/\xff"))
    (tmp_path / "data/a").rename(folder)
    cases = find_cases(tmp_path / "data")
    assert read_cases(cases).bad == {}
    assert recall(cases[0]) is not None


@pytest.mark.parametrize("content", ["[" * 100_000, "\xff", '{"modality": {"x": 1}}', '{"modality": 3}', "5"])
def test_a_damaged_dataset_json_is_told_where_it_is_needed(tmp_path: Path, content: str):
    save(tmp_path / "imagesTr/a_0000.nii.gz", random_image())
    (tmp_path / "dataset.json").write_bytes(content.encode("latin-1"))
    said = "is no text in UTF-8" if content == "\xff" else "cannot be read"
    assert f"{tmp_path / 'dataset.json'}: {said}" in error_of(find_cases, tmp_path, require_label=False)
    (tmp_path / "dataset.json").unlink()
    os.mkfifo(tmp_path / "dataset.json")
    assert "dataset.json: is a named pipe" in error_of(find_cases, tmp_path, require_label=False)


@pytest.mark.parametrize(
    "text",
    [
        "- " * 5000,
        "a: &a {b: {c: *a}}",
        "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}" for n in range(1, 60))]),
        "values: {1: 2020-99-99}",
    ],
    ids=["deep", "in itself", "aliases of aliases", "a date that is none"],
)
def test_labels_of_ones_own_are_input_like_any_other(tmp_path: Path, text: str):
    (tmp_path / "own.yaml").write_text(text)
    assert str(tmp_path / "own.yaml") in error_of(read_scheme, str(tmp_path / "own.yaml"))


def test_a_pipe_instead_of_labels(tmp_path: Path):
    os.mkfifo(tmp_path / "own.yaml")
    with pytest.raises(UserError, match=r"own\.yaml: is a named pipe"):
        read_scheme(str(tmp_path / "own.yaml"))
