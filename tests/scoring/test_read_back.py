"""Scores that are none are refused, with their line, whoever reads them."""

from pathlib import Path

import pytest

from gmd.data.text_files import LARGEST
from gmd.errors import UserError
from gmd.scoring.read_back import range_of, read_table
from gmd.scoring.segmentation.tables import read_cases
from gmd.scoring.table_text import Line, lines_csv, lower_is_better

HEADER = "case,subset,region,dice,hd95"
TWO = ("flair", "t1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        *((f"a,t1,WT,{dice},1", r"dice is .*, expected a number in \[0, 1\]") for dice in ("nan", "inf", "7.5", "-1")),
        *((f"a,t1,WT,{dice},1", "dice is") for dice in ("", "1e999", "0x1", "half", "1_0", "-0.1", "\udcff")),
        *(
            (f"a,t1,WT,0.5,{hd95}", "hd95 is .*, expected a number from 0 on")
            for hd95 in ("-1", "nan", "inf", "", "1e60")
        ),
        ("a,t2,WT,0.5,1", "subset is 't2', expected one of"),
        ("a,t1+flair,WT,0.5,1", "subset is 't1[+]flair'"),
        ("a,,WT,0.5,1", "subset is ''"),
        ("x,t1,WT,0.5,1", "'x' with t1 has a score of 'WT' before it already"),
    ],
)
def test_scores_out_of_their_range(tmp_path: Path, line: str, said: str):
    path = tmp_path / "cases.csv"
    path.write_bytes(f"{HEADER}\nx,t1,WT,0.5,1\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"cases\.csv: line 3: {said}.*Evaluate the run again") as error:
        read_cases(path, TWO)
    assert str(error.value).count("cases.csv") == 1, "said once"


def table(path: Path, text: str) -> Path:
    path.write_text("subset,flair,t1,cases,WT,hd95_WT,Corr,MAE\n" + text)
    return path


def test_a_table_comes_back(tmp_path: Path):
    lines = [
        Line("flair", ("flair",), 2, [0.5, 1.0, -0.25, 3.0]),
        Line("t1", ("t1",), 0, ["absent"] * 4),
        Line("flair+t1", TWO, 1, [1.0, 0.0, 0.0, 0.5]),
        Line("mean", None, None, [0.75, 0.5, -0.125, 1.75]),
        Line("30 % absent, seed 0", None, None, [0.5, 0.5, 0.0, 0.5]),
    ]
    columns = ["WT", "hd95_WT", "Corr", "MAE"]
    (tmp_path / "table.csv").write_text(lines_csv(lines, TWO, "cases", columns))
    assert read_table(tmp_path / "table.csv", TWO) == ("cases", columns, lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("flair,1,0,2,7.5,1,0,0", r"WT is '7.5', expected a number in \[0, 1\]"),
        ("flair,1,0,2,-0.5,1,0,0", "WT is '-0.5'"),
        ("flair,1,0,2,0.5,-1,0,0", "hd95_WT is '-1', expected a number from 0 on"),
        ("flair,1,0,2,0.5,inf,0,0", "hd95_WT is 'inf'"),
        ("flair,1,0,2,0.5,1,2,0", r"Corr is '2', expected a number in \[-1, 1\]"),
        ("flair,1,0,2,0.5,1,0,many", "MAE is 'many'"),
        ("flair,1,0,some,0.5,1,0,0", "the count is 'some'"),
        ("flair,1,0,-2,0.5,1,0,0", "the count is '-2'"),
        ("flair,1,0,²,0.5,1,0,0", "the count is"),
        ("flair,0,1,2,0.5,1,0,0", "'flair' has the marks 0, 1"),
        ("flair,yes,no,2,0.5,1,0,0", "'flair' has the marks yes, no"),
        ("t1,0,1,2,0.5,1,0,0", "'t1' has a line before it already"),
    ],
)
def test_a_table_that_no_evaluation_writes(tmp_path: Path, line: str, said: str):
    with pytest.raises(UserError, match=rf"table\.csv: line 3: {said}"):
        read_table(table(tmp_path / "table.csv", f"t1,0,1,2,0.5,1,0,0\n{line}\n"), TWO)


def test_a_table_of_other_modalities(tmp_path: Path):
    with pytest.raises(UserError, match=r"table\.csv: its columns are .*, expected subset, flair, t2 first"):
        read_table(table(tmp_path / "table.csv", ""), ("flair", "t2"))


@pytest.mark.parametrize(
    ("column", "ends"),
    [("R2", (-LARGEST, 1)), ("RMSE", (0, LARGEST)), ("MAE", (0, LARGEST)), ("Corr", (-1, 1)), ("accuracy", (0, 1))],
)
def test_columns_have_the_range_of_their_metric(column: str, ends: tuple[float, float]):
    assert range_of(column) == ends


def test_numbers_beside_dice_and_hd95_have_ranges_and_directions_of_their_own():
    """Those of a region have its name before a space; a region that is called like a number is a region."""
    assert range_of("WT lesion_dice") == range_of("a b surface_dice_2mm") == (0, 1)
    for column in ("WT lesion_hd95", "mean error_ml", "lesion_tp", "ET relative_error"):
        assert range_of(column) == (0, LARGEST)
    errors = ("WT lesion2023_hd95", "WT lesion_fp", "mean lesion_fn", "WT error_ml", "my lesion relative_error")
    assert all(map(lower_is_better, errors))
    others = ("WT lesion_tp", "WT lesion_f1", "WT surface_dice_1mm", "WT true_ml", "lesion_fp", "x_fp", "my x_fp")
    assert not any(map(lower_is_better, others))
