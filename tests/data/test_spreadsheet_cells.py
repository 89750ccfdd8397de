"""No name becomes a formula in a spreadsheet, and each is read back as it was."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmd.data.spreadsheet_cells import guarded, unguarded
from gmd.scoring.table_text import csv_text

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1+1",
    "\uff20a",
]


@pytest.mark.parametrize("name", [*FORMULAS, " =1+1", '=HYPERLINK("http://x")', "'=1+1", "''=1"])
def test_a_formula_gets_an_apostrophe(name: str):
    [cell] = guarded([name])
    assert cell.startswith("'" + name[0])
    assert unguarded([cell]) == [name]


@pytest.mark.parametrize(
    ("name", "written"),
    [("a;=1+1", "a;'=1+1"), ("a\t@x", "a\t'@x"), ('a"=1', "a\"'=1"), ("a\n-1+1", "a\n'-1+1"), ("a;'=1", "a;''=1")],
)
def test_where_another_spreadsheet_begins_a_cell_too(name: str, written: str):
    """In half of Europe the semicolon separates cells."""
    assert guarded([name]) == [written]
    assert unguarded([written]) == [name]


@pytest.mark.parametrize("cell", ["case-1", "t1+t1ce", "'quoted'", "a=b", "", "Phantom_000", "-5", "+1.5e-3", "a; b-c"])
def test_other_names_and_numbers_stay(cell: str):
    assert guarded([cell]) == unguarded([cell]) == [cell]


def test_numbers_are_no_text():
    cells = [-0.5, float("-inf"), None, 3]
    assert guarded(cells) == cells
    assert csv_text([["=x", -0.5, None]]) == "'=x,-0.5,\n"


@given(st.text(st.sampled_from("=+-@'\uff1d;\t\n\r\" a1,."), max_size=12))
def test_every_name_comes_back(name: str):
    [[cell]] = csv.reader(io.StringIO(csv_text([[name]]), newline=""))
    assert unguarded([cell]) == [name]
