"""`gmd predict` writes over nothing that it cannot make again: files of others, segmentations corrected by hand."""

import gzip
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.predict import predict
from gmd.predict.grid import Grid, write_image
from gmd.predict.signature import Origin, origin_of
from helpers.nifti_cases import OBLIQUE, error_of, random_image, save
from helpers.predict_cases import copy_cases, files, image_of, voxels, write_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def cases(phantoms: Path, tmp_path: Path) -> list[Path]:
    """Three case folders in a folder of their own."""
    return copy_cases(phantoms, tmp_path / "cases")


def predicted(folder: Path, ending: str = ".nii.gz", kind: type = nibabel.Nifti1Image) -> Path:
    """A label map as gmd writes it."""
    source = folder / f"source{ending}"
    nibabel.save(kind(random_image(), OBLIQUE), source)
    path = folder / f"seg{ending}"
    write_image(Grid.of(source).image((random_image() > 0).astype(np.uint8)), path)
    return path


def corrected(path: Path) -> None:
    """One voxel is another, the header as it was, as tools for corrections save it."""
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[1, 2, 3] += 1
    nibabel.save(type(image)(data, image.affine, image.header), path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_where_a_file_comes_from(tmp_path: Path, kind: type, ending: str):
    path = predicted(tmp_path, ending, kind)
    assert origin_of(path) is Origin.OURS
    assert origin_of(tmp_path / "none.nii") is Origin.ABSENT
    assert origin_of(tmp_path / f"source{ending}") is Origin.FOREIGN
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert origin_of(path) is Origin.DAMAGED
    path.write_bytes(whole)
    corrected(path)
    assert origin_of(path) is Origin.CHANGED


def test_of_both_byte_orders_with_extensions_and_four_axes(tmp_path: Path):
    image = nibabel.Nifti1Image(random_image().astype(">f4"), OBLIQUE, nibabel.Nifti1Header(endianness=">"))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 3000))
    nibabel.save(image, tmp_path / "in.nii")
    four = np.random.default_rng(0).random((*image.shape, 3)).astype(np.float32)
    for data in (four, four[..., 0]):
        write_image(Grid.of(tmp_path / "in.nii").image(data, "probabilities"), tmp_path / "out.nii.gz")
        assert origin_of(tmp_path / "out.nii.gz") is Origin.OURS


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x1f\x8b", gzip.compress(b"", mtime=0), gzip.compress(b"x" * 600, mtime=0), b"gmd " * 200]
)
def test_rubbish_is_somebody_elses(tmp_path: Path, content: bytes):
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert origin_of(tmp_path / "a.nii.gz") is Origin.FOREIGN


def test_a_header_that_lies_of_its_voxels_is_damaged(tmp_path: Path):
    whole = gzip.decompress(predicted(tmp_path).read_bytes())
    for place, value in ((42, 32767), (108, float("nan")), (108, 1e30), (108, -5.0), (72, 32767)):
        content = bytearray(whole)
        kind = np.int16 if isinstance(value, int) else np.float32
        content[place : place + kind().itemsize] = kind(value).tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        assert origin_of(tmp_path / "a.nii") is Origin.DAMAGED


def test_the_truth_of_a_case_is_not_replaced(run: Path, cases: list[Path], tmp_path: Path):
    """Given file by file, prediction does not know that it is a part of the case."""
    truth, flair = image_of(cases[0], "seg"), {"flair": image_of(cases[0], "flair")}
    before = truth.read_bytes()
    message = error_of(predict, run, None, flair, truth)
    assert message.startswith(f"{truth}: is there already and is not an image that gmd has written; delete it if")
    assert truth.read_bytes() == before
    seg = tmp_path / "seg.nii.gz"
    for _ in range(2):  # its own is replaced
        assert predict(run, None, flair, seg) == 0
    corrected(seg)
    assert f"{seg}: is there already and was changed since gmd wrote it" in error_of(predict, run, None, flair, seg)
    truth.rename(tmp_path / "new_probabilities.nii.gz")
    message = error_of(predict, run, None, flair, tmp_path / "new.nii.gz", probabilities=True)
    assert "new_probabilities.nii.gz: is there already and is not" in message
    assert not (tmp_path / "new.nii.gz").exists()


def test_in_a_folder_it_is_the_failure_of_its_case(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(image_of(cases[0], "seg"), out / "case0.nii.gz")
    os.mkfifo(out / "case1.nii.gz")
    before = (out / "case0.nii.gz").read_bytes()
    assert predict(run, cases[0].parent, {}, out) == 1
    printed = capsys.readouterr().out
    assert "1 done, 0 skipped, 2 failed:" in printed
    assert f"case0: {out / 'case0.nii.gz'}: is there already and is not an image that gmd has written" in printed
    assert f"case1: {out / 'case1.nii.gz'}: is a named pipe" in printed
    assert (out / "case0.nii.gz").read_bytes() == before


def test_a_corrected_segmentation_counts_as_done_and_stays(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = tmp_path / "out"
    assert predict(run, cases[0].parent, {}, out) == 0
    corrected(out / "case1.nii.gz")
    kept = voxels(out / "case1.nii.gz")
    assert predict(run, cases[0].parent, {}, out) == 0
    assert "0 done, 3 skipped" in capsys.readouterr().out
    # to add its probabilities would make its segmentation anew
    assert predict(run, cases[0].parent, {}, out, probabilities=True) == 1
    assert "2 done, 0 skipped, 1 failed:" in (printed := capsys.readouterr().out)
    assert f"case1: {out / 'case1.nii.gz'}: is there already and was changed since" in printed
    np.testing.assert_array_equal(voxels(out / "case1.nii.gz"), kept)


def test_names_that_no_file_can_have(run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    before = files(tmp_path)
    for name in ("y" * 300, "y" * 249):  # the second becomes too long with .nii.gz, or with _probabilities
        message = error_of(predict, run, cases[0], {}, tmp_path / f"{name}.nii.gz", probabilities=True)
        assert message.startswith("--out: ")
        assert "bytes, of which 255 are possible" in message
    assert files(tmp_path) == before
    # of a case in a folder it is that case's failure
    cases[0].rename(cases[0].with_name("n" * 252))
    assert predict(run, cases[1].parent, {}, tmp_path / "out") == 1
    assert "2 done, 0 skipped, 1 failed:" in (printed := capsys.readouterr().out)
    assert "File name too long" in printed


def test_a_link_is_replaced_and_not_what_it_leads_to(run: Path, cases: list[Path], tmp_path: Path):
    seg, elsewhere = tmp_path / "seg.nii.gz", tmp_path / "elsewhere.nii.gz"
    seg.symlink_to(elsewhere)  # to nothing yet
    assert predict(run, cases[0], {}, seg) == 0
    assert not seg.is_symlink()
    seg.rename(elsewhere)
    seg.symlink_to(elsewhere)
    save(elsewhere, random_image())
    assert "is not an image that gmd has written" in error_of(predict, run, cases[0], {}, seg)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "meta"}, "--device: got meta, expected auto, cpu or a GPU"),
        ({"device": "cuda:9"}, "--device: cuda:9 cannot be used"),
        ({"device": ""}, "--device: "),
        ({"affine_tolerance": -1.0}, "--affine-tolerance: got -1.0, expected a distance in mm"),
        ({"affine_tolerance": float("nan")}, "--affine-tolerance: got nan"),
        ({"channels": ("flair", "flair")}, "--channels: got 'flair' twice"),
        ({"channels": ("flair", "a+b")}, "--channels: got 'a+b', which holds '+'"),
    ],
    ids=str,
)
def test_options_are_checked_before_cases_are_looked_for(run: Path, tmp_path: Path, options: dict, said: str):
    assert said in error_of(predict, run, tmp_path / "gone", {}, tmp_path / "seg.nii.gz", **options)


def test_a_run_made_before_keeps_the_names_of_its_channels(tmp_path: Path):
    run = write_run(tmp_path / "run", modalities=("flair", "b=1000"), channels=("flair", "b=1000"))
    asked = {"channels": ("b=1000", "flair")}
    assert "there is no such folder" in error_of(predict, run, tmp_path / "gone", {}, tmp_path / "seg.nii.gz", **asked)
