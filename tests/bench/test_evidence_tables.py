"""The tables, pictures and words of the evidence say what its rows say."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.evidence.command import evidence
from bench.measure.arms import Arm
from bench.tables import evidence_figures, evidence_page, evidence_words, readme
from bench.tables.advice import findings_csv
from bench.tables.bootstrap import bootstrap, excludes_by_chance
from bench.tables.evidence import ENUMERATE, SURGERY, TaskResults, advice_rows, groups, read_evidence
from gmd.advice.evidence import Finding
from helpers.evidence_cases import ARMS, Alone, task

OTHERS = tuple(Arm(name, {"method": "surgery"}, "joint") for name in SURGERY[1:])
ALL = (*ARMS[:3], *OTHERS, *ARMS[3:])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two data sets, on the first of which gmd gains, and four cells. Do not write into the folder."""
    place = tmp_path_factory.mktemp("evidence")
    cells = [
        task(
            f"knob-{angle}-{ratio}",
            ALL,
            2,
            group="conflict",
            knob={"angle": angle, "ratio": ratio},
            conflicts=angle / 200,
        )
        for angle in (0, 90)
        for ratio in (1, 10)
    ]
    tasks = [*cells, task("digits", ALL, 5, above=2.0, conflicts=0.3), task("mfeat", ALL, 5, above=0.0, conflicts=0.01)]
    for one in tasks:
        (place / one.name).mkdir()
    words = ["--data", str(place), "--work", str(place / "work"), "--out", str(place / "out")]
    assert evidence(words, tasks, lambda out: [], Alone) == 0
    return place / "out"


@pytest.fixture(scope="module")
def tasks(results: Path) -> list[TaskResults]:
    return read_evidence(results)


def named(tasks: list[TaskResults], name: str) -> TaskResults:
    return next(one for one in tasks if one.name == name)


# ---- intervals ----


def test_the_interval_holds_95_per_cent_of_the_resampled_means():
    values = pd.Series([1.0, 2.0, 4.0, 3.0, 7.0])
    gain = bootstrap(values)
    means = values.to_numpy()[np.random.default_rng(7).integers(0, 5, (40_000, 5))].mean(axis=1)
    assert gain.mean == pytest.approx(3.4)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.15)
    assert (gain.sign, gain.seeds) == (1, 5)
    assert bootstrap(-values).sign == -1
    assert bootstrap(values - 3).sign == 0


def test_three_seeds_reach_from_the_lowest_to_the_highest():
    assert bootstrap(pd.Series([1.0, 5.0, 2.0]))[1:3] == (1, 5)


def test_no_difference_at_all_shows_nothing():
    gain = bootstrap(pd.Series([0.0] * 7))
    assert gain == (0, 0, 0, 7)
    assert gain.sign == 0


def test_one_seed_and_none_say_nothing_of_spread():
    one, none = bootstrap(pd.Series([2.0])), bootstrap(pd.Series([], dtype=float))
    assert (one.mean, one.seeds, one.sign) == (2, 1, 0)
    assert (none.seeds, none.sign) == (0, 0)
    assert np.isnan([one.low, one.high, none.mean]).all()


def test_chance_alone_excludes_0_more_often_the_fewer_seeds_there_are():
    """Of three seeds where all have the same sign: in one of four cases."""
    assert excludes_by_chance(3) == pytest.approx(0.25, abs=0.03)
    assert excludes_by_chance(3) > excludes_by_chance(5) > excludes_by_chance(10) > 0.05


# ---- what is read ----


def test_gains_are_paired_within_seeds(tasks: list[TaskResults]):
    digits = named(tasks, "digits")
    table = digits.runs.pivot(index="seed", columns="arm", values="worst")
    gain = digits.gain("gmd", "joint", "worst")
    assert gain.mean == pytest.approx(100 * (table["gmd"] - table["joint"]).mean())
    assert gain.high - gain.low < 2, "the seeds differ by more than their pairs do"
    assert digits.gain("moon").seeds == 0
    assert digits.bases == {arm: "joint" for arm in (ENUMERATE, *SURGERY)} | {"cggm": "joint, late"}
    assert digits.conflicts() == pytest.approx(30)
    assert digits.ratio() == pytest.approx(2.5)
    assert np.isnan(digits.conflicts("joint"))


def test_an_arm_is_compared_on_the_seeds_that_both_have(tasks: list[TaskResults]):
    digits = named(tasks, "digits")
    fewer = digits._replace(runs=digits.runs[~((digits.runs["arm"] == "gmd") & (digits.runs["seed"] > 2))])
    assert fewer.gain("gmd").seeds == 3
    assert fewer.gain("pcd").seeds == 5


def test_cells_are_of_a_group_and_data_sets_of_none(tasks: list[TaskResults]):
    assert [one.name for one in tasks if not one.group] == ["digits", "mfeat"]
    assert {name: len(cells) for name, cells in groups(tasks).items()} == {"conflict": 4}
    assert tasks[0].knob == {"angle": 0, "ratio": 1}


def test_nothing_is_read_where_no_run_has_been_made(tmp_path: Path):
    assert read_evidence(tmp_path) == advice_rows(tmp_path) == evidence_figures.draw_all(tmp_path) == []
    sections = evidence_page.sections(tmp_path)
    assert set(sections.values()) == {evidence_page.NO_RUN}
    assert sections.keys() == evidence_page.sections(tmp_path).keys()
    assert not list(tmp_path.iterdir())


# ---- the page ----


def test_the_page_has_a_place_for_each_part(results: Path):
    marked = re.findall("<!-- (evidence .*) -->", readme.EVIDENCE.read_text(encoding="utf-8"))
    assert marked == list(evidence_page.sections(results))


def test_tables_say_what_the_rows_say(tasks: list[TaskResults]):
    digits = named(tasks, "digits")
    lines = evidence_page.differences_markdown(digits).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| `{arm.name}`" for arm in ALL if arm.name != ENUMERATE]
    gain = digits.gain("gmd")
    shown = f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"
    assert lines[3].startswith(f"| `gmd` | 5 | **{shown}** |")
    assert lines[2].endswith("|  |"), "joint is compared with enumerate alone"
    assert lines[-1].endswith("**, `joint, late` |")
    scores = evidence_page.scores_markdown(digits).splitlines()
    rows = digits.runs[digits.runs["arm"] == "gmd"]
    mean = f"{100 * rows['mean'].mean():.1f} ± {100 * rows['mean'].std():.1f}"
    assert scores[4].startswith(f"| `gmd` | 5 | {mean} |")
    assert scores[4].endswith("| lr 0.01, weight decay 0.0 | 30.0 % | 2.5 |")
    assert scores[2].endswith("|  |  |")


def test_no_time_is_in_a_table(tasks: list[TaskResults]):
    """So that two runs on the same machine give the same page."""
    later = [one._replace(runs=one.runs.assign(date="2040-01-01 00:00", cpu_s=1e6)) for one in tasks]
    assert evidence_page.tasks_markdown(later) == evidence_page.tasks_markdown(tasks)
    assert [evidence_page.task_section(one) for one in later] == [evidence_page.task_section(one) for one in tasks]


def test_cells_are_one_row_each_in_a_table_of_their_group(results: Path):
    text = evidence_page.sections(results)["evidence knob"]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| angle | ratio | seeds | pairs in conflict | ratio measured | `enumerate` | `gmd` |")
    assert [line.split(" | ")[:4] for line in lines[2:]] == [
        ["| 0", "1", "2", "0 %"],
        ["| 0", "10", "2", "0 %"],
        ["| 90", "1", "2", "45 %"],
        ["| 90", "10", "2", "45 %"],
    ]
    assert "(../bench/results/evidence_conflict_cells.png)" in text


def test_a_setting_of_many_weights_is_cut():
    text = '{"lr": 0.01, "weighting_options": ["weights=' + " ".join(["0.0159"] * 63) + '"]}'
    told = evidence_page.setting_text(text)
    assert told.startswith("lr 0.01, weighting options weights=0.0159 0.0159")
    assert told.endswith("...")
    assert len(told) < 110


def test_numbers_as_they_are_shown():
    gain = bootstrap(pd.Series([-0.001, 0.001, 0.0]))
    assert evidence_page.gain_text(gain) == "+0.00 (+0.00 to +0.00)"
    assert evidence_page.gain_text(bootstrap(pd.Series([2.0]))) == "+2.00 (one seed)"
    assert evidence_page.gain_text(bootstrap(pd.Series([], dtype=float))) == ""


# ---- the words ----


def test_the_words_tell_what_was_shown_and_what_was_not(tasks: list[TaskResults]):
    told = evidence_words.answer(tasks, "gmd", ENUMERATE)
    gain = named(tasks, "digits").gain("gmd")
    assert gain.sign == 1
    assert f"Of 2 data sets, more on 1: the digits ({evidence_words.points(gain)})." in told
    assert "Nothing was found on the mfeat." in told
    assert "Of the 4 cells of conflict: more in" in told
    assert "less on 1: the digits" in evidence_words.answer(tasks, ENUMERATE, "gmd")
    sets = [one for one in tasks if one.name == "mfeat"]
    assert evidence_words.answer(sets, "gmd", ENUMERATE) == "Nothing was found on any of 1 data set: the mfeat."
    assert evidence_words.answer(sets, "moon", ENUMERATE) == "Not measured."


def test_the_summary_asks_of_every_method_and_says_what_chance_would_show(tasks: list[TaskResults]):
    told = evidence_words.summary(tasks)
    for words in ("`gmd`?", "`pcd`?", "`upgrad`?", "`fairgrad`?", "Does `cggm` pay, against `joint, late`?"):
        assert words in told
    assert told.count("\n- **") + 1 == told.count("\n"), "a line for each"
    comparisons = 6 * len(SURGERY)
    assert f"of the {comparisons} comparisons of a surgery" in told.lower()
    assert re.search(r"0 in \d+ % with 2 seeds, \d+ % with 5 seeds", told)
    assert "Rank correlation" in told
    assert "(p = " in told


def test_ranks_are_not_told_of_few(tasks: list[TaskResults]):
    assert evidence_words.ranks(tasks[:3]) == []


# ---- what gmd advise quotes ----


def test_findings_are_of_data_sets_and_of_what_both_have(results: Path):
    found = advice_rows(results)
    assert {finding.data for finding in found} == {"the digits", "the mfeat"}
    pairs = [(finding.method, finding.against) for finding in found if finding.data == "the digits"]
    assert pairs == [
        *(("gmd", ENUMERATE), (ENUMERATE, "joint"), ("pcd", ENUMERATE), ("upgrad", ENUMERATE), ("fairgrad", ENUMERATE)),
        ("cggm", "joint, late"),
    ]
    first = found[0]
    assert first.conflicts == pytest.approx(0.3)
    assert first.mean_low < first.mean < first.mean_high
    assert first.seeds == 5
    assert 0 < first.weakest < 1
    table = findings_csv(found)
    assert table.splitlines()[0] == ",".join(Finding._fields)
    assert readme.advice_section(results) == table


def test_until_there_is_evidence_the_studies_are_quoted(tmp_path: Path):
    for name in ("study", "mfeat", "mosi"):
        (tmp_path / f"{name}.csv").symlink_to(readme.RESULTS / f"{name}.csv")
    assert "phantoms,Dice" in readme.advice_section(tmp_path)


# ---- pictures ----


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_pictures_show_every_arm_and_every_seed(tasks: list[TaskResults]):
    figure = evidence_figures.forest(named(tasks, "digits"))
    assert len(figure.axes) == 3
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [arm.name for arm in ALL if arm.name != ENUMERATE][::-1]
    dots = [dot for dot in figure.axes[0].collections if len(dot.get_offsets()) == 5]
    assert len(dots) == len(labels)


def test_the_maps_have_a_square_for_each_cell(tasks: list[TaskResults]):
    cells = groups(tasks)["conflict"]
    figure = evidence_figures.maps("conflict", cells)
    assert f"{cells[0].gain('gmd').mean:+.1f}" in texts(figure)
    assert sum(" to\n" in text for text in texts(figure)) == len(cells) * len(SURGERY)


def test_the_picture_of_conflicts_has_all_data_sets_and_all_cells(tasks: list[TaskResults]):
    figure = evidence_figures.against_conflicts(tasks)
    assert [ax.get_title() for ax in figure.axes] == list(SURGERY)
    for ax, arm in zip(figure.axes, SURGERY, strict=True):
        points = {tuple(container[0].get_xydata()[0]) for container in ax.containers}
        assert points == {(one.conflicts(), one.gain(arm).mean) for one in tasks}
    [legend] = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["the digits", "the mfeat", "a cell of the generated task"]


@pytest.mark.slow
def test_pictures_are_the_same_bytes_twice(results: Path, tmp_path: Path):
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for csv in results.glob("*.csv"):
            (tmp_path / name / csv.name).symlink_to(csv)
        paths = evidence_figures.draw_all(tmp_path / name)
        drawn.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths})
    assert drawn[0] == drawn[1]
    names = ("digits", "mfeat", "conflict_cells", "conflict")
    assert list(drawn[0]) == [f"evidence_{name}.png" for name in names]


def test_a_single_seed_can_be_drawn(tasks: list[TaskResults]):
    alone = [one._replace(runs=one.runs[one.runs["seed"] == 0]) for one in tasks]
    evidence_figures.forest(named(alone, "digits"))
    evidence_figures.against_conflicts(alone)
    assert " to" not in "".join(texts(evidence_figures.maps("conflict", groups(alone)["conflict"])))
    assert "(one seed)" in evidence_page.task_section(named(alone, "digits"))
    assert "nan" not in evidence_words.summary(alone)
