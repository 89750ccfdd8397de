"""What a command is to write to is looked at before any work: names, what stands there, what lies in the way."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gmd.cli
import gmd.training.loop
from gmd.config import TrainBrats, TrainSentiment
from gmd.data.missing import parse_rates
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.data.sequences.sequence_files import convert
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.output_paths import check_file, check_folder
from gmd.training.folds import train_folds
from gmd.training.loop import train
from helpers.nifti_cases import error_of

LONG = "y" * 300


def phantoms_at(out: Path) -> None:
    write_phantoms(out, 1, (16, 16, 16), 0)


def sentiment_at(out: Path) -> None:
    write_sentiment_phantom(out.with_name(f"{out.name}.npz"), 10)


def convert_to(out: Path) -> None:
    convert(Path("gone.pkl"), out.with_name(f"{out.name}.npz"))


def train_into(out: Path) -> None:
    train(TrainBrats(Path("gone"), out, device="cpu"))


def train_folds_into(out: Path) -> None:
    train_folds(TrainBrats(Path("gone"), out, device="cpu", folds=2))


def train_sentiment_into(out: Path) -> None:
    train(TrainSentiment(Path("gone"), out, device="cpu"))


def compare_into(out: Path) -> None:
    compare([Path("gone"), Path("gone2")], out)


COMMANDS = [phantoms_at, sentiment_at, convert_to, train_into, train_folds_into, train_sentiment_into, compare_into]


@pytest.mark.parametrize("command", COMMANDS)
def test_places_where_nothing_can_be_written(tmp_path: Path, command: Callable[[Path], None]):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "nothing").symlink_to(tmp_path / "gone")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    deep = tmp_path.joinpath(*["d" * 200] * 25)  # longer than any path
    for out, said in {
        tmp_path / LONG: "bytes, of which 255 are possible",
        tmp_path / LONG / "below": "300 bytes, of which 255 are possible",
        tmp_path / ("ü" * 140): "bytes, of which 255 are possible",
        tmp_path / "file" / "a": f"{tmp_path / 'file'} is a file; expected a folder",
        tmp_path / "file" / "a" / "b": f"{tmp_path / 'file'} is a file; expected a folder",
        tmp_path / "nothing" / "a": f"{tmp_path / 'nothing'} is a link to nothing; expected a folder",
        tmp_path / "round" / "a": "cannot be written (",
        Path("/proc/x/y"): "cannot be written (",
        Path("/dev/null/x"): "/dev/null is a file; expected a folder",
        deep: "bytes long, of which 4095 are possible",
        tmp_path / "a\0b": "a name holds a NUL byte",
    }.items():
        assert said in error_of(command, out), out
    assert sorted(os.listdir(tmp_path)) == ["file", "nothing", "round"]


def test_a_file_where_something_else_stands(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path, said in {
        tmp_path: "is a folder, expected a file",
        tmp_path / "pipe": "is a named pipe, expected a file",
        tmp_path / "link": "is a device, expected a file",
    }.items():
        with pytest.raises(UserError, match=f"^--out: {path}: {said}"):
            check_file(path, "--out")
    (tmp_path / "good").touch()
    (tmp_path / "to_nothing").symlink_to(tmp_path / "gone")
    for name in ("good", "to_nothing", "new", "new/deeper/still", "y" * 255):
        check_file(tmp_path / name, "--out")
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "a" / "b", "--out")
    assert sorted(os.listdir(tmp_path)) == ["good", "link", "pipe", "to_nothing"]  # it leaves nothing behind


@pytest.mark.parametrize("name", ["report.html", "evaluation"])
def test_results_that_have_no_place_are_found_before_a_run_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str
):
    if name == "report.html":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).touch()
    assert gmd.cli.main(["evaluate", str(tmp_path)]) == 2  # else it would miss config.yaml
    assert f"{tmp_path / name}" in (said := capsys.readouterr().err)
    assert "expected a f" in said
    if name == "report.html":
        assert gmd.cli.main(["report", str(tmp_path)]) == 2
        assert f"{tmp_path / name}: is a folder, expected a file" in capsys.readouterr().err


OF_THE_USER = (
    "ENAMETOOLONG ENOTDIR ENOENT EISDIR EEXIST ELOOP ENXIO EIO ESTALE EMFILE ENFILE ENOTEMPTY ETXTBSY EBUSY EINVAL"
)


@pytest.mark.parametrize("code", OF_THE_USER.split())
def test_an_error_of_the_system_on_a_users_file_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, code: str
):
    def fails(config: TrainBrats) -> Path:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(tmp_path / "x\x1b[2J"))

    monkeypatch.setattr(gmd.training.loop, "train", fails)
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gmd: error: [Errno ")
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert os.strerror(getattr(errno, code)) in said


@pytest.mark.parametrize("code", ["EIO", "ESTALE", "ENOSPC", "EDQUOT", "EMFILE", "ENOTCONN", "ETIMEDOUT"])
def test_so_is_one_of_the_disk_without_a_name(monkeypatch: pytest.MonkeyPatch, code: str):
    def fails(config: TrainBrats) -> Path:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(gmd.training.loop, "train", fails)
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError("of nobody"),
        OSError(errno.EBADF, "Bad file descriptor"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", str(Path(gmd.cli.__file__).parent / "gone.j2")),
    ],
    ids=str,
)
def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, error: OSError):
    def fails(config: TrainBrats) -> Path:
        raise error

    monkeypatch.setattr(gmd.training.loop, "train", fails)
    with pytest.raises(OSError, match=str(error.strerror or error)):
        gmd.cli.main(["train", "brats", "--data", "d"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("phantom OUT --cases 0", "0 cases with seed 0: at least 1 case"),
        ("phantom OUT --cases -1", "-1 cases with seed 0: at least 1 case"),
        ("phantom OUT --cases 1000000000", "cases of 64 x 64 x 64 voxels take"),
        (
            "phantom OUT --shape 1000000 1000000 1000000",
            "a phantom of 1000000 x 1000000 x 1000000 voxels takes 8e+10 GB",
        ),
        ("phantom OUT --shape 1000000 1000 1000", "more than the"),
        ("phantom OUT --shape 0 16 16", "at least 16 voxels"),
        ("phantom OUT --seed -1", "a seed of 0 or more"),
        (f"phantom OUT --seed {10**300}", "below 2^32"),
        ("phantom OUT.npz --task sentiment --cases 10000000000", "10000000000 samples take 3e+04 GB"),
        (f"phantom OUT.npz --task sentiment --seed {10**300}", "below 2^32"),
        ("phantom OUT.npy --task sentiment", "expected a name that ends in .npz"),
        ("convert gone.pkl OUT", "expected a name that ends in .npz"),
        ("compare a b --seed -1", "--seed: got -1, expected 0 or more"),
        (f"compare a b --seed {10**300}", "--seed: got 1000"),
        ("train brats --data d --out OUT --epochs 99999999999", "--epochs: got 99999999999, expected a number above 0"),
        ("train brats --data d --out OUT --folds 1000000000", "--folds: got 1000000000, expected at least 2"),
        ("train brats --data d --out OUT --device meta", "--device: got meta, expected auto, cpu or a GPU"),
        ("train sentiment --data d --out OUT --lr inf", "--lr: got inf"),
    ],
)
def test_an_option_that_cannot_work_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture, line: str, said: str
):
    arguments = [word.replace("OUT", str(tmp_path / "out")) for word in line.split()]
    assert gmd.cli.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["7", "-0.1", "1", "nan", "inf", "text", "text=", "=0.5", "smell=0.5"])
def test_a_rate_of_missing_modalities_beyond_0_and_1(tmp_path: Path, missing: str):
    assert "--missing: got " in error_of(parse_rates, [missing], ("text", "audio"))


# What somebody else has put there


def test_converted_files_are_not_written_over_anything(tmp_path: Path):
    write_sentiment_phantom(tmp_path / "source.npz", 12)
    np.savez(tmp_path / "mine.npz", a=np.zeros(3))
    before = (tmp_path / "mine.npz").read_bytes()
    for write in (lambda out: convert(tmp_path / "source.npz", out), lambda out: write_sentiment_phantom(out, 12)):
        for name in ("mine.npz", "source.npz"):
            assert "is there already; give another name" in error_of(write, tmp_path / name)
    assert (tmp_path / "mine.npz").read_bytes() == before


def test_phantoms_are_not_written_over_anything(tmp_path: Path):
    (tmp_path / "Phantom_000_00001").mkdir()
    (tmp_path / "Phantom_000_00001" / "thesis.txt").touch()
    assert "Phantom_000_00001: is there already" in error_of(write_phantoms, tmp_path, 2, (16, 16, 16), 0)
    assert os.listdir(tmp_path) == ["Phantom_000_00001"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".Phantom_000_00000").symlink_to(elsewhere)  # once the name of what was not finished yet
    write_phantoms(tmp_path / "out", 1, (16, 16, 16), 0)
    assert not list(elsewhere.iterdir())
