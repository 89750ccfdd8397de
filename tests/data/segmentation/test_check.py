"""Every case is read before the first step: all bad ones are told at once, good ones are not read again."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import gmd.data.segmentation.check
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.check import SHOWN, check_cases, read_cases
from gmd.data.segmentation.checked_files import files_of
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.nifti import read_volume, voxel_checksum
from helpers.nifti_cases import ORIENTATIONS, error_of, labels_of, make_case, random_image, save, stored_as


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/gmd/checked_cases"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in "abcdef":
        make_case(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are read, from now on."""
    read: list[str] = []
    real = gmd.data.segmentation.check.read_files
    monkeypatch.setattr(gmd.data.segmentation.check, "read_files", lambda case: read.append(case.name) or real(case))
    return read


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(bytes(content)))
    packed[-8] ^= 1  # of the checksum
    path.write_bytes(packed)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda case: cut_off(case / f"{case.name}_t2.nii.gz"), "_t2.nii.gz: cannot be read"),
    "damaged": (lambda case: flip_a_bit(case / f"{case.name}_seg.nii.gz"), "_seg.nii.gz: cannot be read"),
    "other labels": (lambda case: save(case / f"{case.name}_seg.nii.gz", labels_of(1, 7)), "label values 0, 1, 7"),
    "other grid": (
        lambda case: save(case / f"{case.name}_t1.nii.gz", random_image()[:, :3]),
        "differ in shape, (6, 5, 4) and (6, 3, 4)",
    ),
    "nothing shown": (lambda case: save(case / f"{case.name}_t1ce.nii.gz", 0 * random_image()), "every voxel is 0"),
    "not finite": (
        lambda case: save(
            case / f"{case.name}_flair.nii.gz", np.where(random_image() > 9, np.nan, 1).astype(np.float32)
        ),
        "are NaN or infinite",
    ),
}


def test_all_bad_cases_are_told_at_once(data: Path, capsys: pytest.CaptureFixture):
    for name, (spoil, _) in zip("abcdef", BAD.values(), strict=True):
        spoil(data / name)
    make_case(data / "good")
    cases = find_cases(data)
    message = error_of(check_cases, cases)
    assert message.startswith("6 of 7 cases cannot be used:\n  a: ")
    for name, (_, reason), line in zip("abcdef", BAD.values(), message.splitlines()[1:], strict=False):
        assert line.startswith(f"  {name}: ")
        assert reason in line
    assert "--no-check" in message
    assert "checking 7 cases" in capsys.readouterr().err


def test_the_first_ten_reasons_are_enough(tmp_path: Path):
    for number in range(SHOWN + 2):
        make_case(tmp_path / f"case{number:02}", keys=("flair", "seg"))
        save(tmp_path / f"case{number:02}/case{number:02}_seg.nii.gz", labels_of(7))
    message = error_of(check_cases, find_cases(tmp_path))
    assert message.startswith("12 of 12 cases cannot be used:")
    assert "\n  case09: " in message
    assert "case10" not in message
    assert "\n  and 2 more\n" in message


def test_good_cases_are_read_once_and_bad_ones_again(data: Path, read: list[str]):
    BAD["cut off"][0](data / "c")
    cases = find_cases(data)
    first = read_cases(cases)
    assert sorted(read) == list("abcdef")
    read.clear()
    assert read_cases(cases) == first
    assert read == ["c"]
    make_case(data / "c")
    assert set(read_cases(cases).checksums) == set("abcdef")
    assert read_cases(cases).bad == {}
    assert read == ["c", "c"]


def test_a_file_that_has_changed_is_read_anew(data: Path, read: list[str]):
    """Even one of the same size and time of writing, as a copy that keeps times makes it."""
    path = data / "b/b_seg.nii.gz"
    save(path.with_suffix("").with_suffix(".nii"), labels_of(1, 2))
    path.unlink()
    path = data / "b/b_seg.nii"
    cases = find_cases(data)
    check_cases(cases)
    read.clear()
    before = path.stat()
    save(path, labels_of(1, 7))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert "b: " in error_of(check_cases, cases)
    assert read == ["b"]


def test_what_a_case_is_taken_for_counts(data: Path, read: list[str]):
    """Other meanings of the labels, or fewer modalities."""
    cases = find_cases(data)
    check_cases(cases)
    read.clear()
    assert "6 of 6 cases" in error_of(check_cases, [replace(case, scheme=SCHEMES["binary"]) for case in cases])
    check_cases(find_cases(data, ("flair", "t1")))
    assert sorted(read) == sorted("abcdef" * 2)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"flair": "0"}', b"\xff", "wrong"])
def test_a_damaged_result_counts_as_none(data: Path, cache: Path, read: list[str], content: bytes | str):
    cases = find_cases(data)
    found = check_cases(cases)
    kept = list(cache.iterdir())
    assert len(kept) == 6
    read.clear()
    for path in kept:
        values = dict.fromkeys(json.loads(path.read_text()), 1)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(values).encode())
    assert check_cases(cases) == found
    assert sorted(read) == list("abcdef")


@pytest.mark.parametrize("cache_home", ["file", "relative", "no home"])
def test_without_a_cache_every_start_reads(
    data: Path, read: list[str], cache_home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    if cache_home == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif cache_home == "relative":  # ignored, as its standard says
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "file")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cases = find_cases(data)
    assert check_cases(cases) == check_cases(cases)
    assert sorted(read) == sorted("abcdef" * 2)


def test_data_that_only_may_be_read(data: Path):
    for folder in (*data.iterdir(), data):
        folder.chmod(0o555)
    assert len(check_cases(find_cases(data))) == 6
    for folder in (data, *data.iterdir()):
        folder.chmod(0o755)


def test_a_checksum_is_of_the_voxels(tmp_path: Path):
    """Not of how they are packed, stored or turned; and another one for other voxels."""
    image = random_image()
    paths = [save(tmp_path / "a.nii.gz", image), save(tmp_path / "a.nii", image.astype(np.float32))]
    for number, orientation in enumerate(ORIENTATIONS[::7]):
        paths.append(save(tmp_path / f"{number}.nii", *stored_as(orientation, image)))
    assert len({voxel_checksum(read_volume(path)) for path in paths}) == 1
    image[3, 3, 3] += 1
    assert voxel_checksum(read_volume(save(tmp_path / "b.nii", image))) != voxel_checksum(read_volume(paths[0]))


def test_checksums_are_of_every_file(data: Path):
    case: Case = find_cases(data)[0]
    expected = {key: voxel_checksum(read_volume(path)) for key, path in files_of(case).items()}
    assert check_cases([case]) == {"a": expected}
    shutil.copytree(data / "a", data.parent / "copy/a")
    assert check_cases(find_cases(data.parent / "copy")) == {"a": expected}


def test_an_interrupted_check_begins_no_other_case(data: Path, read: list[str], monkeypatch: pytest.MonkeyPatch):
    """It would be minutes before Ctrl-C had an effect."""
    for number in range(30):
        shutil.copytree(data / "a", data / f"more{number}")
    cases = find_cases(data)

    def interrupted(*_) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(gmd.data.segmentation.check, "voxel_checksum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_cases(cases)
    assert len(read) < len(cases)


def test_a_bug_is_no_bad_case(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.data.segmentation.check, "prepare_case", lambda *_: nibabel.no_such_name)
    with pytest.raises(AttributeError):
        check_cases(find_cases(data))
