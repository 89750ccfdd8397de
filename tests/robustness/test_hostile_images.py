"""Images and folders of cases from somebody else: each bad one is that case's failure, the others are done."""

import gzip
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.attacks import BRATS, content, done, ended_well, huge, left_over, refused

pytestmark = pytest.mark.slow

MOST = 1_500_000_000  # bytes that a command on cases of 16 voxels may take at its peak, torch included
BAD = "Phantom_000_00003"


def stored(path: Path) -> bytearray:
    return bytearray(gzip.decompress(path.read_bytes()))


def shaped(path: Path, *shape: int) -> None:
    """Puts a shape into the header, over whatever voxels there are."""
    raw = stored(path)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    path.write_bytes(gzip.compress(bytes(raw)))


def header(path: Path, offset: int, form: str, *values: float) -> None:
    raw = stored(path)
    struct.pack_into(form, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def deflated_zeros(gigabytes: int) -> bytes:
    """A gzip member that holds so many GB of zeros behind what is there already, without making them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(2**20))
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (1024 * gigabytes)


def bomb(path: Path) -> None:
    """A header and voxels as they should be, and then 4 GB in the same gzip member."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(bytes(stored(path))) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(7) + start + deflated_zeros(4) + b"\x03\x00" + bytes(8))


def bomb_of_members(path: Path) -> None:
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(2**26)) * 64)


def bomb_in_front(path: Path) -> None:
    """The voxels begin 3 GB behind the header, says the header, and there they are."""
    raw = stored(path)
    struct.pack_into("<f", raw, 108, 3e9)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(bytes(raw)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(7) + start + deflated_zeros(4) + b"\x03\x00" + bytes(8))


def claims_with_a_bomb_behind(path: Path) -> None:
    """The header claims 4 GB, and they are there, as zeros in 4 MB."""
    raw = stored(path)
    struct.pack_into("<8h", raw, 40, 3, 1024, 1024, 2048, 1, 1, 1, 1)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(bytes(raw[:352])) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(7) + start + deflated_zeros(4) + b"\x03\x00" + bytes(8))


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)
    os.chdir(here)


def sparse(path: Path) -> None:
    """A .nii of 8 GB that takes no place on the disk."""
    raw = stored(path)
    struct.pack_into("<8h", raw, 40, 3, 2048, 2048, 1024, 1, 1, 1, 1)
    path.unlink()
    plain = path.with_suffix("")
    plain.write_bytes(bytes(raw))
    os.truncate(plain, 2**33 + 352)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "claims 32767 cubed": lambda path: shaped(path, 32767, 32767, 32767),
    "claims seven axes": lambda path: shaped(path, 32767, 32767, 2, 2, 2, 2, 2),
    "claims 3000 cubed": lambda path: shaped(path, 3000, 3000, 3000),
    "a size of zero": lambda path: shaped(path, 16, 0, 16),
    "all sizes zero": lambda path: shaped(path, 0, 0, 0),
    "a negative size": lambda path: shaped(path, 16, -16, 16),
    "no axes": lambda path: header(path, 40, "<h", 0),
    "30000 axes": lambda path: header(path, 40, "<h", 30000),
    "an unknown type": lambda path: header(path, 70, "<h", 12345),
    "voxels beyond the end": lambda path: header(path, 108, "<f", 1e30),
    "voxels nowhere": lambda path: header(path, 108, "<f", np.nan),
    "a slope of infinity": lambda path: header(path, 112, "<f", np.inf),
    "an affine of NaN": lambda path: header(path, 280, "<12f", *[np.nan] * 12),
    "a bomb": bomb,
    "a bomb of many members": bomb_of_members,
    "a bomb before the voxels": bomb_in_front,
    "a bomb as large as it claims": claims_with_a_bomb_behind,
    "a named pipe": instead(os.mkfifo),
    "a folder": instead(Path.mkdir),
    "a socket": instead(bound_socket),
    "/dev/zero": instead(lambda path: path.symlink_to("/dev/zero")),
    "/dev/stdin": instead(lambda path: path.symlink_to("/dev/stdin")),
    "/proc/self/mem": instead(lambda path: path.symlink_to("/proc/self/mem")),
    "a link in a circle": instead(lambda path: path.symlink_to(path.name)),
    "a dangling link": instead(lambda path: path.symlink_to("nowhere")),
    "nothing in it": lambda path: path.write_bytes(b""),
    "a gzip header alone": lambda path: path.write_bytes(path.read_bytes()[:12]),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-500]),
    "a broken checksum": lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)),
    "an image of 8 GB without a place": sparse,
    "zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(400)),
}
QUICK = ("claims 32767 cubed", "a size of zero", "a named pipe", "/dev/zero", "a bomb")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_folder_of_cases_goes_on_where_one_fails(gmd, made, copied, tmp_path, attack):
    cases = copied("cases")
    attack(cases / BAD / f"{BAD}_flair.nii.gz")
    outcome = ended_well(gmd("predict", made / "brats", cases, "-o", tmp_path / "o"))
    assert outcome.peak < MOST, outcome.peak
    written = {path.name for path in (tmp_path / "o").iterdir()}
    others = {f"{case.name}.nii.gz" for case in cases.iterdir() if case.name != BAD}
    assert written - {f"{BAD}.nii.gz"} == others, outcome.told
    if outcome.status == 1:
        assert f"{BAD}.nii.gz" not in written
        assert BAD in outcome.out + outcome.err, "the case is not named"
    assert outcome.status in (0, 1), outcome.told
    assert not left_over(tmp_path / "o")


@pytest.mark.parametrize("kind", ["flair", "seg"])
@pytest.mark.parametrize("attack", QUICK)
def test_training_names_the_file_and_gives_no_advice_on_memory(gmd, copied, tmp_path, attack, kind):
    cases = copied("cases")
    bad = [BAD] if attack == "/dev/zero" else [BAD, "Phantom_000_00001"]  # one file in two cases is another mistake
    for case in bad:
        ATTACKS[attack](cases / case / f"{case}_{kind}.nii.gz")
    outcome = ended_well(gmd("train", "brats", "--data", cases, "--out", tmp_path / "run", *BRATS))
    assert outcome.peak < MOST, outcome.peak
    if attack != "a bomb" or outcome.status:
        refused(outcome, *[f"{case}_{kind}.nii.gz" for case in bad])
        assert "--cache" not in outcome.err
        assert "bf16" not in outcome.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("attack", "kind"), [*zip(QUICK, ["flair", "seg", "flair", "seg", "seg"], strict=True)])
def test_evaluation_of_other_data_names_the_case_and_scores_the_others(gmd, copied, attack, kind):
    cases, run, bad = copied("other"), copied("brats"), "Phantom_001_00002"
    ATTACKS[attack](cases / bad / f"{bad}_{kind}.nii.gz")
    outcome = ended_well(gmd("evaluate", run, "--data", cases))
    assert outcome.status in (0, 1), outcome.told
    [scores] = run.glob("evaluation/*/cases.csv")
    named = scores.read_text()
    assert all(case.name in named for case in cases.iterdir() if case.name != bad)
    if outcome.status:
        assert bad in outcome.out + outcome.err
        assert bad not in named


@pytest.mark.parametrize("what", ATTACKS)
def test_a_single_image_is_refused_by_its_name(gmd, made, copied, tmp_path, what):
    cases = copied("cases")
    image = cases / BAD / f"{BAD}_flair.nii.gz"
    ATTACKS[what](image)
    outcome = gmd("predict", made / "brats", "--flair", image, "-o", tmp_path / "o.nii.gz")
    assert outcome.peak < MOST, outcome.peak
    if what == "a slope of infinity":  # which counts as none, as NIfTI has it of 0
        done(outcome)
    else:
        refused(outcome, image.name)
        assert not (tmp_path / "o.nii.gz").exists()


FORMS: dict[str, Callable[[Path], object]] = {
    ".mgz": lambda path: nibabel.save(nibabel.MGHImage(np.ones((16, 16, 16), np.float32), np.eye(4)), path),
    ".mgh": lambda path: nibabel.save(nibabel.MGHImage(np.ones((16, 16, 16), np.float32), np.eye(4)), path),
    ".nii": lambda path: nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 16), np.float32), np.eye(4)), path),
    ".hdr": lambda path: nibabel.save(nibabel.Nifti1Pair(np.ones((16, 16, 16), np.float32), np.eye(4)), path),
    "2.nii": lambda path: nibabel.save(nibabel.Nifti2Image(np.ones((16, 16, 16), np.float32), np.eye(4)), path),
}
SIZES = {".mgz": (4, ">3i"), ".mgh": (4, ">3i"), ".nii": (42, "<3h"), ".hdr": (42, "<3h"), "2.nii": (24, "<3q")}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, -1, 32767, 2**31 - 1, 2**62])
def test_other_formats_claim_no_more_than_a_file_may(gmd, made, tmp_path, form, size):
    path = tmp_path / f"image{form}"
    FORMS[form](path)
    offset, layout = SIZES[form]
    raw = bytearray(gzip.decompress(path.read_bytes()) if form == ".mgz" else path.read_bytes())
    try:
        struct.pack_into(layout, raw, offset, size, size, size)
    except struct.error:
        pytest.skip("the format has no room for such a number")
    path.write_bytes(gzip.compress(bytes(raw)) if form == ".mgz" else bytes(raw))
    outcome = refused(gmd("predict", made / "brats", "--flair", path, "-o", tmp_path / "o.nii.gz"), path.name)
    assert outcome.peak < MOST


def test_the_limit_can_be_raised_and_lowered(gmd, made, tmp_path):
    image = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((96, 96, 96), np.float32), np.eye(4)), image)
    words = ("predict", made / "brats", "--flair", image, "-o", tmp_path / "o.nii.gz")
    refused(gmd(*words, environment={"GMD_MAX_GB": "0.003"}), "image.nii.gz", "GMD_MAX_GB=1")
    done(gmd(*words, environment={"GMD_MAX_GB": "1"}))
    for wrong in ("much", "-1", "nan", "inf", "0"):
        refused(gmd(*words, environment={"GMD_MAX_GB": wrong}), "GMD_MAX_GB")


def test_many_bad_cases_are_all_named_before_training(gmd, copied, tmp_path):
    cases = copied("cases")
    before = content(cases)
    for case, attack in zip(sorted(cases.iterdir()), QUICK, strict=False):
        ATTACKS[attack](case / f"{case.name}_t1.nii.gz")
    outcome = refused(gmd("train", "brats", "--data", cases, "--out", tmp_path / "run", *BRATS))
    for case, attack in zip(sorted(cases.iterdir()), QUICK, strict=False):
        assert case.name in outcome.err or attack == "a bomb", outcome.err
    assert content(cases).keys() == before.keys()


def test_folders_in_circles_and_pipes_as_folders(gmd, made, copied, tmp_path):
    cases = copied("cases")
    (cases / "circle").symlink_to(cases)
    (cases / BAD / "up").symlink_to("..")
    os.mkfifo(cases / "pipe")
    os.mkfifo(cases / "dataset.json")
    outcome = ended_well(gmd("predict", made / "brats", cases, "-o", tmp_path / "o"))
    assert outcome.status in (0, 1, 2)
    for node in ("pipe", "dataset.json"):
        refused(gmd("predict", made / "brats", cases / node, "-o", tmp_path / "o2.nii.gz"))


def test_rights_that_are_missing_are_the_cases_failure(gmd, made, copied, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    cases = copied("cases")
    (cases / BAD / f"{BAD}_flair.nii.gz").chmod(0)
    outcome = ended_well(gmd("predict", made / "brats", cases, "-o", tmp_path / "o"))
    assert outcome.status == 1
    assert len(list((tmp_path / "o").iterdir())) == 5


# What only decorates


@pytest.mark.parametrize("damage", ["binary", "cut", "empty", "pipe", "device", "folder", "huge", "odd numbers"])
@pytest.mark.parametrize("name", ["table.csv", "checkpoint.txt", "data.txt"])
def test_scores_that_cannot_be_told_stop_no_prediction(gmd, made, copied, tmp_path, name, damage):
    run = copied("brats")
    path = run / "evaluation" / name
    text = path.read_bytes() if path.exists() else b"x"
    path.unlink(missing_ok=True)
    {
        "binary": lambda: path.write_bytes(b"\xff\xfe" + text),
        "cut": lambda: path.write_bytes(text.splitlines(keepends=True)[0]),
        "empty": lambda: path.write_bytes(b""),
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": lambda: path.mkdir(),
        "huge": lambda: huge(path),
        "odd numbers": lambda: path.write_bytes(text.replace(b"0.", b"1e999").replace(b"1", b"nan")),
    }[damage]()
    outcome = done(gmd("predict", run, made / "cases", "-o", tmp_path / "o"))
    assert len(list((tmp_path / "o").iterdir())) == 6
    assert outcome.peak < MOST


@pytest.mark.parametrize("damage", ["pipe", "deep", "file"])
def test_a_damaged_cache_stops_nothing(gmd, made, tmp_path, damage):
    cache = tmp_path / "cache"
    environment = {"XDG_CACHE_HOME": str(cache)}
    words = ("train", "brats", "--data", made / "cases", *BRATS)
    if damage == "file":
        cache.write_bytes(b"")
    else:
        done(gmd(*words, "--out", tmp_path / "run0", environment=environment))
        files = [path for path in cache.rglob("*") if path.is_file()]
        assert files, "this test would see nothing"
        for path in files:
            path.unlink()
            {
                "pipe": lambda path=path: os.mkfifo(path),
                "deep": lambda path=path: path.write_bytes(b"[" * 100_000),
            }[damage]()
    done(gmd(*words, "--out", tmp_path / "run", environment=environment))


@pytest.mark.parametrize("name", ["case_median.png", "table.md", "checkpoint.txt"])
def test_a_place_of_results_that_is_taken_costs_no_scores(gmd, copied, name):
    """Those from before stay, where the new ones cannot be written."""
    run = copied("brats")
    (run / "evaluation" / name).unlink(missing_ok=True)
    (run / "evaluation" / name).mkdir()
    before = content(run)
    outcome = ended_well(gmd("evaluate", run))
    if outcome.status:
        refused(outcome, name)
        assert content(run) == before
    assert (run / "evaluation" / "table.csv").exists()


def test_a_run_in_which_nothing_can_be_drawn_is_trained(gmd, made, tmp_path):
    run = tmp_path / "run"
    words = ("train", "brats", "--data", made / "cases", "--out", run, *BRATS)
    done(gmd(*words))
    for name in ("curves.png", "dominance.png"):
        (run / name).unlink()
        (run / name).mkdir()
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    ended_well(gmd(*words, "--resume"))
    assert (run / "last.pt").exists()
