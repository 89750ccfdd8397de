"""The five folds of BraTS 2018: the published shuffle, lists that a training takes, and what is refused."""

from pathlib import Path

import pytest

from examples import brats_folds
from gmd.data.segmentation.case_lists import read_list


def write_cases(root: Path, high: int, low: int) -> list[str]:
    """Empty folders of cases; returns their names, in the order that counts."""
    names = {
        "HGG": [f"Brats18_CBICA_{number:03}_1" for number in range(high)],
        "LGG": [f"Brats18_TCIA_{number:03}_1" for number in range(low)],
    }
    for grade, cases in names.items():
        for name in cases:
            (root / grade / name).mkdir(parents=True)
    return names["HGG"] + names["LGG"]


def made(data: Path, out: Path) -> int:
    return brats_folds.main(["--data", str(data), "--out", str(out)])


def listed(path: Path) -> list[str]:
    return [entry.name for entry in read_list(path, "--train-list")]


def test_the_shuffle_is_the_published_one():
    """As `np.random.seed(0)` and `np.random.shuffle` give it, of 0 to 284, on any machine and with any numpy."""
    names = [str(number) for number in range(285)]
    found = brats_folds.folds(names)
    assert [len(fold) for fold in found] == [57] * 5
    assert found[0][:8] == ["55", "181", "92", "207", "188", "45", "111", "239"]


def test_every_case_is_tested_once_and_trains_in_the_other_folds(tmp_path: Path, capsys: pytest.CaptureFixture):
    names = write_cases(tmp_path / "data", 210, 75)
    assert made(tmp_path / "data", tmp_path / "folds") == 0
    assert "57 cases to test" in capsys.readouterr().out
    tested = []
    for fold in range(5):
        train, test = (listed(tmp_path / "folds" / f"{part}{fold}.txt") for part in ("train", "test"))
        assert (len(train), len(test)) == (228, 57)
        assert not set(train) & set(test)
        tested += test
    assert sorted(tested) == sorted(names)
    assert listed(tmp_path / "folds" / "test0.txt") == sorted(brats_folds.folds(names)[0])


def test_other_numbers_of_cases_are_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_cases(tmp_path / "data", 7, 3)
    assert made(tmp_path / "data", tmp_path / "folds") == 0
    assert "these are not the published folds" in capsys.readouterr().out


def test_other_files_and_folders_are_no_cases(tmp_path: Path):
    names = write_cases(tmp_path, 3, 2)
    (tmp_path / "HGG" / "Brats18_a_file_1").write_text("")
    (tmp_path / "HGG" / "Brats18 a\nname").mkdir()
    (tmp_path / "HGG" / "notes").mkdir()
    (tmp_path / "other" / "Brats18_1").mkdir(parents=True)
    assert brats_folds.case_names(tmp_path) == names


@pytest.mark.parametrize(
    ("high", "low", "words"),
    [(0, 0, "holds no case"), (4, 2, "is the folder half there"), (283, 0, "283 cases, which five folds")],
    ids=["none", "six", "half"],
)
def test_data_that_cannot_be_divided_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, high: int, low: int, words: str
):
    write_cases(tmp_path / "data", high, low)
    assert made(tmp_path / "data", tmp_path / "folds") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "folds").exists()


def test_a_case_of_both_grades_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_cases(tmp_path / "data", 5, 4)
    (tmp_path / "data" / "LGG" / "Brats18_CBICA_000_1").mkdir()
    assert made(tmp_path / "data", tmp_path / "folds") == 2
    assert "Brats18_CBICA_000_1 is a case of both grades" in capsys.readouterr().err


def test_a_list_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_cases(tmp_path / "data", 3, 2)
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "test3.txt").write_text("mine")
    assert made(tmp_path / "data", tmp_path / "folds") == 2
    assert "test3.txt: is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "folds").iterdir()] == ["test3.txt"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_cases(tmp_path / "data", 3, 2)
    (tmp_path / "file").write_text("")
    assert made(tmp_path / "data", tmp_path / "file" / "folds") == 2
    assert "--out" in capsys.readouterr().err
