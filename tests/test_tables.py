"""The table of all subsets: means over the cases that exist, for people and for programs."""

import csv
import io

from gmd.evaluation.tables import Score, cases_csv, mean_over_subsets, subset_table, table_csv, table_markdown

NAMES = ("x", "y"), ("WT", "TC")
SCORES = [
    Score("a", ("x",), "WT", 0.5),
    Score("b", ("x",), "WT", 1.0),
    Score("a", ("x",), "TC", 0.25),
    Score("b", ("x",), "TC", 0.75),
    Score("a", ("x", "y"), "WT", 0.25),
    Score("a", ("x", "y"), "TC", 0.0),
]


def test_table_has_a_row_for_every_subset_and_means_over_those_that_exist():
    rows = subset_table(SCORES, *NAMES)
    assert [(row.subset, row.cases, row.dice) for row in rows] == [
        (("x",), 2, {"WT": 0.75, "TC": 0.5}),
        (("y",), 0, {}),
        (("x", "y"), 1, {"WT": 0.25, "TC": 0.0}),
    ]
    assert mean_over_subsets(rows) == {"WT": 0.5, "TC": 0.25}
    assert mean_over_subsets(subset_table([], *NAMES)) == {}


def test_table_for_people():
    lines = table_markdown(subset_table(SCORES, *NAMES), *NAMES).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
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
        ["subset", "x", "y", "cases", "WT", "TC", "mean"],
        ["x", "1", "0", "2", "0.75", "0.5", "0.625"],
        ["y", "0", "1", "0", "absent", "absent", "absent"],
        ["x+y", "1", "1", "1", "0.25", "0.0", "0.125"],
        ["mean", "", "", "", "0.5", "0.25", "0.375"],
    ]
    assert cases_csv(SCORES).splitlines()[:2] == ["case,subset,region,dice", "a,x,WT,0.5"]
