"""What docs/methods.md and the first pages say of which method to take is what the evidence's rows say."""

import pytest

from bench.tables.bootstrap import Gain
from bench.tables.evidence import DROPOUT, ENUMERATE, GMD, JOINT, WEIGHTED, TaskResults, groups, read_evidence
from helpers.places import ROOT


def page(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


METHODS = page("docs/methods.md")


@pytest.fixture(scope="module")
def sets() -> dict[str, TaskResults]:
    found = {task.name: task for task in read_evidence() if not task.group}
    assert len(found) == 7
    return found


@pytest.fixture(scope="module")
def cells() -> list[TaskResults]:
    [(_, found)] = groups(read_evidence()).items()
    return found


def compared(sets: dict[str, TaskResults], arm: str, base: str = ENUMERATE, score: str = "mean") -> dict[str, Gain]:
    """The gains of an arm over another on all data sets that have both."""
    gains = {name: task.gain(arm, base, score) for name, task in sets.items()}
    return {name: gain for name, gain in gains.items() if gain.seeds}


def names(gains: dict[str, Gain], sign: int) -> set[str]:
    return {name for name, gain in gains.items() if gain.sign == sign}


def test_every_arm_has_the_seeds_that_the_page_says(sets, cells):
    seeds = {task.gain(arm).seeds for task in (*sets.values(), *cells) for arm in task.arms}
    assert (min(seeds), max(seeds)) == (5, 10)
    assert "five to ten seeds" in METHODS


def test_where_nothing_is_missing_and_where_something_may_be(sets):
    full = compared(sets, ENUMERATE, JOINT, "full")
    assert (names(full, 1), names(full, -1)) == ({"digits"}, set())
    assert f"had more once (digits {full['digits'].mean:+.1f} points), and less on none of 7" in METHODS
    mean = compared(sets, ENUMERATE, JOINT)
    assert (names(mean, 1), names(mean, -1)) == ({"phantoms", "digits", "mfeat"}, set())
    told = f"phantoms {mean['phantoms'].mean:+.1f}, digits {mean['digits'].mean:+.1f}, mfeat {mean['mfeat'].mean:+.1f}"
    assert f"more than `joint` on 3 of 7 ({told}), less on none" in METHODS
    random = compared(sets, DROPOUT)
    assert (len(names(random, -1)), names(random, 1)) == (3, set())
    assert "had less than `enumerate` on 3, more on none" in METHODS
    for name in ("README.md", "docs/README.md"):
        assert "subsets had more on [one data set of seven]" in page(name)
    assert "subsets had more than `joint` on three, less on none" in page("README.md")


def test_tuned_weights(sets):
    gains = compared(sets, WEIGHTED)
    assert (names(gains, 1), names(gains, -1)) == ({"phantoms", "lesions"}, {"digits", "mfeat"})
    more = f"phantoms {gains['phantoms'].mean:+.1f} over `enumerate`, lesions {gains['lesions'].mean:+.1f}"
    less = f"digits {gains['digits'].mean:+.1f}, mfeat {gains['mfeat'].mean:+.1f}"
    assert f"{more}; but {less}," in METHODS


def spread(cells: list[TaskResults], arm: str) -> str:
    """From the smallest gain to the largest, all of them shown."""
    gains = [cell.gain(arm) for cell in cells]
    assert all(gain.sign == 1 for gain in gains)
    return f"{min(gain.mean for gain in gains):+.1f} to {max(gain.mean for gain in gains):+.1f}"


def test_surgery(sets, cells):
    gains = compared(sets, GMD)
    assert not names(gains, 1) | names(gains, -1)
    assert "`gmd` had neither more nor less than `enumerate` on any of 7" in METHODS
    assert "beat the mean of the same losses on none of seven data sets" in page("docs/README.md")
    hard = [cell for cell in cells if cell.knob["units"] == 1 and cell.knob["ratio"] == 10 and cell.knob["angle"] >= 90]
    conflicts = [cell.conflicts() for cell in hard]
    share = f"at {min(conflicts):.0f} to {max(conflicts):.0f} % of pairs in conflict"
    assert f"ten times as long: {spread(hard, GMD)}, {share}" in METHODS
    others = f"gained {spread(hard, WEIGHTED)} there, `fairgrad` without them {spread(hard, 'fairgrad')}"
    assert others in METHODS
    elsewhere = [cell.gain(GMD).mean for cell in cells if cell not in hard]
    assert max(elsewhere) < 0.25, "only there"
    large = [cell.gain(arm).mean for cell in cells if cell.knob["units"] == 32 for arm in (GMD, WEIGHTED, "fairgrad")]
    assert f"with 32 units nobody gained more than {max(large):.1f}" in METHODS


def test_networks_of_their_own(sets):
    mla = compared(sets, "mla", "joint, branches")
    assert (names(mla, 1), names(mla, -1)) == ({"digits", "mfeat"}, {"mosi-text-audio"})
    told = f"digits {mla['digits'].mean:+.1f}, mfeat {mla['mfeat'].mean:+.1f}"
    assert f"{told}; MOSI's transcripts and audio {mla['mosi-text-audio'].mean:+.1f}" in METHODS
    for arm in ("cggm", "ogm-ge"):
        gains = compared(sets, arm, "joint, late")
        assert (len(gains), names(gains, 1)) == (4, set())
