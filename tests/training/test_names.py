"""What modalities and regions may be called: a name that means something else is refused before anything is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gmd.cli
from gmd.config import TrainBrats, TrainSentiment
from gmd.data.segmentation.cases import find_cases
from gmd.data.sequences.sequence_files import read_sequences
from gmd.errors import UserError
from gmd.names import LONGEST, check_names
from gmd.training.folds import train_folds
from gmd.training.loop import train
from helpers.nifti_cases import error_of
from helpers.sequence_cases import write_npz

# keys of a case that is read, columns of tables, tags of logs, arrays of a .npz and options of what writes it
WORDS = ["brain", "target", "seg", "mask", "name", "affine", "scheme", "centres", "Brain", "TARGET"]
WORDS += ["subset", "cases", "scored", "mean", "score", "present", "version", "target_length", "file", "allow_pickle"]
LETTERS = [
    "",
    " ",
    "a+b",
    "a,b",
    "a/b",
    "a=b",
    "a b ",
    "-a",
    "--out",
    "a|b",
    "a\tb",
    "a\nb",
    'a"b',
    "a'b",
    "a\x1b[2J",
    "../a",
]
LETTERS += [".", "a\\b", "a  b", "a\u202eb", "a\u200bb", "a\udcffb", "a" * (LONGEST + 1), "a:b", "*", "a\0b"]


@pytest.mark.parametrize("name", [*WORDS, *LETTERS], ids=ascii)
def test_a_modality_of_such_a_name_is_refused_before_the_data_are_looked_at(tmp_path: Path, name: str):
    config = TrainBrats(tmp_path / "gone", tmp_path / "run", modalities=("t1", name), labels=("binary",), device="cpu")
    assert error_of(train, config).startswith("--modalities: got '")
    assert error_of(train_folds, replace(config, folds=2)).startswith("--modalities: got '")
    assert error_of(train, TrainSentiment(tmp_path / "gone.npz", tmp_path / "run", modalities=(name,)))
    assert not config.out.exists()


def test_the_message_says_what_is_wrong_and_what_is_expected(tmp_path: Path):
    for name, reason in {
        "a+b": "got 'a+b', which holds '+'; expected letters and digits, with _ - . or a space between them",
        "": "got '', which is empty",
        "x" * 300: f"got '{'x' * LONGEST}...', which has 300 characters, more than {LONGEST}",
        "-x": "got '-x', which begins or ends with something else than a letter or a digit",
        "brain": "got 'brain', which is a word of its own in the files and tables of gmd",
        "a\nb": r"which holds '\n'",
    }.items():
        with pytest.raises(UserError) as caught:
            check_names("--modalities", ["t1", name])
        assert reason in str(caught.value)


@pytest.mark.parametrize("names", [("T1", "t1"), ("ﬁ", "fi"), ("straße", "STRASSE"), ("é", "e\u0301")], ids=ascii)
def test_two_names_that_no_file_tells_apart(names: tuple[str, str]):
    with pytest.raises(UserError, match="which differ in capitals at most"):
        check_names("--modalities", names)


def test_names_of_every_script_and_with_spaces_are_good():
    check_names("--modalities", ["T1 post", "t1-gd", "t1_gd", "ADC.b1000", "磁共振", "हिन्दी", "_x", "0"])


def test_images_of_a_dictionary_key_are_refused_by_the_reader_too(phantoms: Path):
    with pytest.raises(UserError, match="--modalities: got 'brain', which is a word of its own"):
        find_cases(phantoms, ("flair", "brain"), {"flair": "*_flair*", "brain": "*_t1.*"}, require_label=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ("flair", "flair")}, "--channels: got 'flair' twice"),
        ({"channels": ("flair", "seg")}, "--channels: got 'seg', which is a word"),
        ({"channels": ("flair", "a+b")}, r"--channels: got 'a\+b', which holds"),
        ({"labels": ("{values: {1: a}, regions: {score: [1]}}",)}, "--labels: got 'score', which is a word"),
        ({"labels": ("{values: {1: a}, regions: {A: [1], a: [1]}}",)}, "--labels: got 'A' and 'a', which differ in"),
        ({"labels": ("{values: {1: a}, regions: {%s: [1]}}" % ("R" * 65),)}, r"--labels: got 'R+\.\.\.', which has 65"),
        ({"patterns": ("pet=*",), "labels": ("binary",)}, "pattern key 'pet' is not known"),
        ({"patterns": ("seg=*",), "labels": ("binary",)}, "the patterns name no modality"),
        (
            {"modalities": tuple(f"m{i}" for i in range(13)), "method": "joint"},
            "--modalities: got 13 names, .* most 12",
        ),
    ],
)
def test_other_names_are_checked_as_early(tmp_path: Path, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        train(replace(TrainBrats(tmp_path / "gone", tmp_path / "run", device="cpu"), **change))


@pytest.mark.parametrize("name", ["a/b", "a,b", "mean", "t1 post", "a'b"])
def test_a_run_made_before_is_not_asked_for_names_that_worked(tmp_path: Path, name: str):
    config = TrainBrats(tmp_path, tmp_path / "run", modalities=(name, "t2"), device="cpu")
    config = replace(config, patterns=(f"{name}=*a*",), labels=("binary",))
    config.check()
    assert "no last.pt to resume from" in error_of(train, replace(config, resume=True))  # it comes as far as that


@pytest.mark.parametrize("name", ["a+b", "name", "allow_pickle", "", "x\n", "a/b"])
def test_modalities_in_a_file_of_sequences_are_checked_where_they_are_read(tmp_path: Path, name: str):
    path = write_npz(
        tmp_path / "a.npz", {"version": np.array(1), "modalities": np.array([name]), "per_step": np.array(False)}
    )
    assert error_of(read_sequences, path).startswith(f"{path}: modalities: got '")


def test_lengths_are_no_modality(tmp_path: Path):
    arrays = {"version": np.array(1), "modalities": np.array(["a", "a_length"]), "per_step": np.array(False)}
    path = write_npz(tmp_path / "a.npz", arrays)
    assert "got a_length, which says how long a is" in error_of(read_sequences, path)


def test_the_line_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert gmd.cli.main(["train", "brats", "--data", str(tmp_path), "--modalities", "a", "b", "a+b"]) == 2
    assert "gmd: error: --modalities: got 'a+b', which holds '+'" in capsys.readouterr().err
