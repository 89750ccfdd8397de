"""Tables of many subsets are folded by size, the worst first; what matters is seen at once, and nothing is lost."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gmd.report import write_report
from gmd.report.subset_groups import AT_A_GLANCE, FEW, between, ends, is_long, is_one_of_many
from gmd.report.subset_table import SubsetTable, rows_of
from gmd.scoring.table_text import lines_csv
from gmd.subsets import Subset, all_subsets, subset_name
from helpers.report_cases import Page
from helpers.subset_runs import NAMES, made_up_lines, run_of, score_of

COUNTS = {2: 3, 3: 7, 4: 15, 6: 63}


def made_up(modalities: Subset, main: int = 0, absent: tuple[Subset, ...] = ()) -> SubsetTable:
    columns = ["accuracy", "ECE"]
    rows = rows_of(made_up_lines(modalities, absent), columns, modalities)
    return SubsetTable(Path("table.csv"), "", modalities, "samples", columns, main, rows)


class Rows(HTMLParser):
    """`seen`: the subsets of the rows of heat maps that nothing folds; `folded`: of each fold its summary and rows."""

    def __init__(self, text: str):
        super().__init__()
        self.seen: list[str] = []
        self.folded: list[tuple[str, list[str]]] = []
        self._in_summary = self._in_fold = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "details" and known.get("class") == "folded":
            assert "open" not in known
            self._in_fold = True
            self.folded.append(("", []))
        self._in_summary |= tag == "summary"
        if tag == "tr" and "title" in known:
            (self.folded[-1][1] if self._in_fold else self.seen).append(known["title"])

    def handle_endtag(self, tag: str) -> None:
        self._in_summary &= tag != "summary"
        self._in_fold &= tag != "details"

    def handle_data(self, data: str) -> None:
        if self._in_summary and self._in_fold:
            summary, rows = self.folded[-1]
            self.folded[-1] = (" ".join(f"{summary} {data}".split()), rows)


def subsets_section(run: Path) -> tuple[Rows, str]:
    text = write_report(run).read_text(encoding="utf-8")
    section = re.search(r'<section id="subsets">.*?</section>', text, re.DOTALL)[0]
    return Rows(section), Page(text).text()


@pytest.mark.parametrize("count", COUNTS)
def test_every_subset_has_one_row(tmp_path: Path, count: int):
    rows, _ = subsets_section(run_of(tmp_path / "run", count))
    found = Counter([*rows.seen, *(name for _, names in rows.folded for name in names)])
    assert found == Counter(subset_name(subset) for subset in all_subsets(NAMES[:count]))
    assert len(found) == COUNTS[count]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_what_one_sees_at_a_glance_is_not_folded(tmp_path: Path, count: int):
    rows, text = subsets_section(run_of(tmp_path / "run", count))
    assert rows.seen == [subset_name(subset) for subset in all_subsets(NAMES[:count])], "in the usual order"
    assert not rows.folded
    assert "mean of the subsets" in text


def test_sixty_three_are_folded_by_size_and_what_matters_is_seen(tmp_path: Path):
    rows, text = subsets_section(run_of(tmp_path / "run", 6))
    alone = sorted(NAMES, key=lambda name: score_of((name,)))
    assert rows.seen == ["+".join(NAMES), *alone]
    assert [len(names) for _, names in rows.folded] == [6, 15, 20, 15], "of 5, 4, 3 and 2 modalities"
    for summary, names in rows.folded:
        scores = [score_of(tuple(name.split("+"))) for name in names]
        assert scores == sorted(scores), "the worst first"
        size, mean = len(names[0].split("+")), sum(scores) / len(scores)
        assert summary == (
            f"{size} of 6 modalities {len(names)} subsets mean {mean:.3f} worst {scores[0]:.3f} {names[0]} "
            f"best {scores[-1]:.3f} {names[-1]}"
        )
    worst = min(all_subsets(NAMES), key=score_of)
    assert f"worst: {subset_name(worst)}" in text
    assert "mean of the 63 subsets" in text
    assert "worst first, by accuracy" in text


def test_small_errors_are_good_ones():
    """In ECE the largest is the worst; it stands first."""
    table = made_up(NAMES, main=1)
    first, *alone = ends(table)
    assert first.label == "+".join(NAMES)
    for rows in (alone, *(group.rows for group in between(table))):
        errors = [row.cells[1].value for row in rows]
        assert len(errors) >= 6, "this test would see nothing"
        assert errors == sorted(errors, reverse=True)


def test_subsets_that_nothing_has_are_last_and_not_in_the_mean():
    pairs = [subset for subset in all_subsets(NAMES) if len(subset) == 2]
    group = between(made_up(NAMES, absent=tuple(pairs[:3])))[-1]
    assert group.judged == 12
    assert {row.label for row in group.rows[12:]} == {subset_name(pair) for pair in pairs[:3]}
    scored = [score_of(pair) for pair in pairs[3:]]
    assert group.mean == f"{sum(scored) / 12:.3f}"
    nothing = between(made_up(NAMES, absent=tuple(pairs)))[-1]
    assert (nothing.judged, nothing.mean, len(nothing.rows)) == (0, "", 15)


def test_a_size_that_nothing_has_says_so(tmp_path: Path):
    run = run_of(tmp_path / "run", 6)
    pairs = tuple(subset for subset in all_subsets(NAMES) if len(subset) == 2)
    lines = lines_csv(made_up_lines(NAMES, pairs), NAMES, "samples", ["accuracy", "ECE"])
    (run / "evaluation" / "table.csv").write_text(lines)
    rows, _ = subsets_section(run)
    assert rows.folded[-1][0] == "2 of 6 modalities 15 subsets none of them was scored"
    assert len(rows.folded[-1][1]) == 15


@pytest.mark.parametrize(
    ("count", "long", "one_of_many"), [(2, False, False), (3, False, False), (4, False, True), (6, True, True)]
)
def test_where_the_lines_are_drawn(count: int, long: bool, one_of_many: bool):
    table = made_up(NAMES[:count])
    assert (is_long(table), is_one_of_many(table)) == (long, one_of_many)
    assert FEW < AT_A_GLANCE
    assert len(ends(table)) + sum(len(group.rows) for group in between(table)) == COUNTS[count]


@pytest.mark.parametrize("count", [3, 4])
def test_further_tables_are_folded_one_by_one(tmp_path: Path, count: int):
    """Each with its figures in its summary, from fifteen subsets on; there can be ten of them."""
    rows, text = subsets_section(run_of(tmp_path / "run", count, further=True))
    assert "Further scores of the subsets" in text
    if count == 3:
        assert not rows.folded
        assert len(rows.seen) == 3 * 7
        return
    assert [len(names) for _, names in rows.folded] == [15, 15]
    first = rows.folded[0][0]
    mean_f1 = 1 - score_of(NAMES[:4])
    assert first.startswith(f"lesion_f1 all 4 modalities {mean_f1:.3f} mean of 15 subsets ")
    worst = max(all_subsets(NAMES[:4]), key=score_of)
    assert first.endswith(f"worst subset {1 - score_of(worst):.3f} {subset_name(worst)}")
    errors = rows.folded[1][0]
    worst = min(all_subsets(NAMES[:4]), key=score_of)
    assert errors.startswith("error_ml all 4 modalities ")
    assert errors.endswith(f"worst subset {1 - score_of(worst):.3f} {subset_name(worst)}"), "the largest error"


def test_the_sentences_of_a_table_stand_where_they_belong(tmp_path: Path):
    """A bug: those on the Shapley values stood above the heat map, with Markdown's marks of code."""
    run = run_of(tmp_path / "run", 2)
    (run / "evaluation" / "table.md").write_text(
        "40 samples.\n\n| a |\n\nECE: the rule.\n\nShapley value of each modality. `nothing` is a guess.\n\n| b |\n"
    )
    csv = f"score,scored,nothing,{','.join(NAMES[:2])},all\naccuracy,40,0.25,0.25,0.25,0.75\n"
    (run / "evaluation" / "shapley.csv").write_text(csv)
    text = subsets_section(run)[1]
    parts = ["40 samples. Colours", "○ missing", "ECE: the rule.", "What each modality adds", "+0.250", "value of each"]
    assert sorted(parts, key=text.index) == parts
    assert 'Shapley value of each modality. "nothing" is a guess.' in text
