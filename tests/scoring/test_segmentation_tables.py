"""The table of all subsets: means over the cases that exist, for people and for programs."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.errors import UserError
from gmd.scoring.segmentation.tables import (
    Score,
    cases_csv,
    hd95_markdown,
    mean_over_subsets,
    read_cases,
    subset_table,
    table_csv,
    table_markdown,
)

NAMES = ("x", "y"), ("WT", "TC")
SCORES = [
    Score("a", ("x",), "WT", 0.5, 3.0),
    Score("b", ("x",), "WT", 1.0, 0.0),
    Score("a", ("x",), "TC", 0.25, 2.25),
    Score("b", ("x",), "TC", 0.75, 1.0),
    Score("a", ("x", "y"), "WT", 0.25, 4.0),
    Score("a", ("x", "y"), "TC", 0.0, 373.0),
]


def test_table_has_a_row_for_every_subset_and_means_over_those_that_exist():
    rows = subset_table(SCORES, *NAMES)
    assert [tuple(row) for row in rows] == [
        (("x",), 2, {"WT": 0.75, "TC": 0.5}, {"WT": 1.5, "TC": 1.625}),
        (("y",), 0, {}, {}),
        (("x", "y"), 1, {"WT": 0.25, "TC": 0.0}, {"WT": 4.0, "TC": 373.0}),
    ]
    assert mean_over_subsets(rows) == {"WT": 0.5, "TC": 0.25}
    assert mean_over_subsets(subset_table([], *NAMES)) == {}


def test_without_hd95_there_is_none():
    """As in the validation during training."""
    rows = subset_table([score._replace(hd95=None) for score in SCORES], *NAMES)
    assert [row.hd95 for row in rows] == [{}, {}, {}]
    assert [row.dice for row in rows] == [row.dice for row in subset_table(SCORES, *NAMES)]


def cells_of(table: str) -> list[list[str]]:
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_of_hd95_for_people():
    assert cells_of(hd95_markdown(subset_table(SCORES, *NAMES), *NAMES)) == [
        ["x", "y", "cases", "WT", "TC", "mean"],
        [":-:", ":-:", "--:", "--:", "--:", "--:"],
        ["●", "○", "2", "1.50", "1.62", "1.56"],
        ["○", "●", "0", "absent", "absent", "absent"],
        ["●", "●", "1", "4.00", "373.00", "188.50"],
        ["mean of 2", "", "", "2.75", "187.31", "95.03"],
    ]


def test_table_for_people():
    assert cells_of(table_markdown(subset_table(SCORES, *NAMES), *NAMES)) == [
        ["x", "y", "cases", "WT", "TC", "mean"],
        [":-:", ":-:", "--:", "--:", "--:", "--:"],
        ["●", "○", "2", "0.750", "0.500", "0.625"],
        ["○", "●", "0", "absent", "absent", "absent"],
        ["●", "●", "1", "0.250", "0.000", "0.125"],
        ["mean of 2", "", "", "0.500", "0.250", "0.375"],
    ]
    same = [score for score in SCORES if score.case == "a"]
    assert "cases" not in table_markdown(subset_table(same, *NAMES), *NAMES)


def test_table_for_programs():
    text = table_csv(subset_table(SCORES, *NAMES), *NAMES)
    assert list(csv.reader(io.StringIO(text))) == [
        ["subset", "x", "y", "cases", "WT", "TC", "mean", "hd95_WT", "hd95_TC", "hd95_mean"],
        ["x", "1", "0", "2", "0.75", "0.5", "0.625", "1.5", "1.625", "1.5625"],
        ["y", "0", "1", "0", *["absent"] * 6],
        ["x+y", "1", "1", "1", "0.25", "0.0", "0.125", "4.0", "373.0", "188.5"],
        ["mean", "", "", "", "0.5", "0.25", "0.375", "2.75", "187.3125", "95.03125"],
    ]


NAME = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="+"), min_size=1)  # also , and "
FURTHER = st.tuples(st.floats(0, 1e3), st.none() | st.floats(0, 1)).map(
    lambda numbers: tuple(zip(("true_ml", "surface_dice_0.5mm"), numbers, strict=True))
)
SCORE = st.builds(
    Score,
    *(NAME, st.lists(NAME, min_size=1).map(tuple), NAME, st.floats(0, 1), st.floats(0, 1e3)),
    st.just(()) | FURTHER,  # ET after post-processing has none, where the regions have
)


@given(scores=st.lists(SCORE, max_size=5, unique_by=lambda score: score[:3]))
@settings(max_examples=25, deadline=None)
def test_cases_are_read_back_to_the_last_digit(scores: list[Score], tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("cases") / "cases.csv"
    path.write_text(cases_csv(scores), encoding="utf-8")
    assert read_cases(path) == scores


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,subset,region,dice\na,x,WT,0.5\n", "has the columns case, subset, region, dice, expected .*, hd95"),
        ("", "has no columns, expected case"),
        ("case,subset,region,dice,hd95\na,x,WT,0.5,1\nb,x,WT,0.\n", "line 3 has 4 cells, expected 5"),
        ("case,subset,region,dice,hd95\na,x,WT,half,1\n", "line 2: dice is 'half', expected a number in"),
        (b"\xff\xfe\x00", "has the columns .*, expected case"),
        ("case,subset,region,dice,hd95,lesions\na,x,WT,0.5,1,1\n", "has the columns .*, lesions, expected case"),
        ("case,subset,region,dice,hd95,true_ml,true_ml\na,x,WT,0.5,1,1,1\n", "has the columns .*, true_ml, true_ml"),
        (
            "case,subset,region,dice,hd95,lesion_nsd\na,x,WT,0.5,1,2\n",
            "line 2: lesion_nsd is '2', expected a number in",
        ),
        (
            "case,subset,region,dice,hd95,lesion_hd95\na,x,WT,0.5,1,-2\n",
            "line 2: lesion_hd95 is '-2', expected a number",
        ),
    ],
)
def test_what_are_no_cases_is_refused(text: str | bytes, told: str, tmp_path: Path):
    path = tmp_path / "cases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"cases.csv: {told}"):
        read_cases(path)
