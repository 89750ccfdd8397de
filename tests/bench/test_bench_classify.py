"""bench.measure.classify: manifests of real data, by the commands of users; the tables say what the rows say."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.measure import classify, classify_data
from bench.measure.arms import Arm
from bench.measure.classify import DATA, Data
from bench.measure.classify_data import MFEAT, Written
from bench.tables.classify import REFERENCE, sections
from bench.tables.readme import CLASSIFY
from gmd.config import TASKS
from gmd.training.methods import METHODS
from helpers.bench_host import HOST

pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(written: Written) -> list[dict]:
    with written.manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- manifests ----


def write_mosi(folder: Path) -> Path:
    labels = np.float32([-1, 0, 2, -0.2])
    arrays = {"id": ["a_1", "a_2", "b_1", "c_1"], "split": ["train", "train", "validation", "test"], "label": labels}
    np.savez(folder / "mosi.npz", transcript=["GOOD, REALLY", "WELL", "OH", "BAD"], audio=np.zeros((4, 3)), **arrays)
    return folder / "mosi.npz"


def test_a_manifest_of_mosi_has_the_words_and_rows_of_features(tmp_path: Path):
    written = classify_data.mosi(write_mosi(tmp_path), tmp_path / "out", 0)
    assert written.root == tmp_path
    rows = rows_of(written)
    assert [row["label"] for row in rows] == ["negative", "non-negative", "non-negative", "negative"]
    assert [row["split"] for row in rows] == ["train", "train", "validation", "test"]
    assert rows[0]["text:text"] == "GOOD, REALLY"
    assert rows[3]["features:audio"] == "mosi.npz#audio[3]"


def write_mfeat(folder: Path) -> Path:
    values = {m: np.random.default_rng(0).normal(size=(1600, 2)).astype(np.float32) for m in MFEAT}
    np.savez(folder / "mfeat.npz", digit=np.arange(1600) % 10, **values)
    return folder / "mfeat.npz"


def test_splits_of_mfeat_are_those_of_the_study_before_it(tmp_path: Path):
    from bench.measure.mfeat import Setting, draw_split

    rows = rows_of(classify_data.mfeat(write_mfeat(tmp_path), tmp_path / "out", 3))
    split = draw_split(1600, 3, Setting())
    found = {s: [int(row["id"]) for row in rows if row["split"] == s] for s in ("train", "validation", "test")}
    assert found["train"] == split.training.tolist()
    assert found["test"] == split.test.tolist()
    assert len(found["validation"]) == 200
    assert rows[5]["features:mor"] == f"mfeat.npz#mor[{rows[5]['id']}]"
    assert all(int(row["label"]) == int(row["id"]) % 10 for row in rows)


def test_digits_train_on_a_draw_and_are_tested_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(source: Path, folder: Path, seed: int) -> Path:
        lines = ["id,split,label", *(f"{i},{'test' if i % 3 == 0 else 'train'},{i % 10}" for i in range(30))]
        folder.mkdir(parents=True)
        (folder / "manifest.csv").write_text("\n".join(lines))
        return folder / "manifest.csv"

    monkeypatch.setattr(classify_data, "write_digits_manifest", write)
    monkeypatch.setattr(classify_data, "TRAINED_DIGITS", 7)
    drawn = [rows_of(classify_data.digits(tmp_path, tmp_path / str(seed), seed)) for seed in (0, 1)]
    for rows in drawn:
        assert sum(row["split"] == "train" for row in rows) == 7
        assert [row["id"] for row in rows if row["split"] == "test"] == [str(i) for i in range(0, 30, 3)]
    assert drawn[0] != drawn[1]


# ---- the study ----


@pytest.mark.parametrize("name", DATA)
def test_arms_are_options_of_the_command(name: str):
    data = DATA[name]
    fields = TASKS["classify"].__dataclass_fields__
    names = [arm.name for arm in data.arms]
    assert len({*names}) == len(names)
    for arm in data.arms:
        assert {*data.common, *arm.options} <= fields.keys()
        assert arm.method in METHODS
        assert str(arm.method) in arm.name
        assert arm.base in (None, *names)


def test_every_arm_of_mfeat_has_its_reference():
    assert list(REFERENCE) == [arm.name for arm in DATA["mfeat"].arms]


def test_rows_that_are_kept_of_a_run():
    shares = {"a": 0.5, "b": 0.25, "c": 0.75, "a+b": 0.125, "a+c": 0.5, "b+c": 0.5, "a+b+c": 1.0, "mean": 0.5}
    rows = [{"subset": subset, "a": 0, "b": 0, "c": 0, "accuracy": share} for subset, share in shares.items()]
    found = {row["part"]: (row["subset"], row["accuracy"]) for row in classify.summary(rows)}
    assert found == {
        **{f"alone: {m}": (m, shares[m]) for m in "abc"},
        **{"all": ("a+b+c", 1.0), "mean": ("mean", 0.5), "worst": ("a+b", 0.125)},
    }
    assert all("a" not in row for row in classify.summary(rows))


@pytest.mark.slow
def test_a_study_by_the_commands_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is done is not done again, and the rows of another data set stay."""
    small = {"epochs": 1, "width": 8, "layers": 1, "heads": 2, "batch": 64}
    arms = (Arm("ds, joint", {"network": "ds", "method": "joint"}),)
    monkeypatch.setitem(DATA, "mfeat", Data(classify_data.mfeat, small, arms))
    work, out = tmp_path / "work", tmp_path / "classify.csv"
    sources = {"mfeat": write_mfeat(tmp_path)}
    classify.measure(sources, [0], ["ds, joint"], work, out)
    table = pd.read_csv(out)
    assert table["part"].tolist() == [*(f"alone: {m}" for m in MFEAT), "all", "mean", "worst"]
    assert table["accuracy"].between(0, 1).all()
    assert table[list(HOST)].notna().all(axis=None)
    other = work / "mosi" / "seed 0" / "classify" / "late, joint, seed 0" / "rows.json"
    other.parent.mkdir(parents=True)
    rows = [{"arm": "late, joint", "base": None, "seed": 0, "subset": s, "accuracy": 0.5} for s in ("text", "mean")]
    other.write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr("bench.measure.sentiment.call_gmd", lambda *words: pytest.fail(f"called again: {words}"))
    classify.measure(sources, [0], ["ds, joint"], work, out)
    assert pd.read_csv(out)["data"].tolist() == ["mosi"] * 4 + ["mfeat"] * 9


# ---- the tables ----


def test_tables_show_means_spreads_and_differences_within_seeds():
    host = {"date": "2026-01-01 10:00", "cpu": "a processor", "torch": "2.13", "commit": "abc", "scored": 300}
    rows = [
        {"data": "mosi", "arm": f"late, {method}", "base": base, "seed": seed, "part": part, "accuracy": share, **host}
        for method, base, shares in (("joint", None, (0.5, 0.52)), ("cggm", "late, joint", (0.6, 0.62)))
        for seed, share in enumerate(shares)
        for part in ("alone: text", "all", "mean", "worst")
    ]
    unfinished = {**rows[0], "seed": 2, "accuracy": 0.1}
    found = sections(pd.DataFrame([*rows, unfinished]))
    assert "| late, joint | 51.0 ± 1.4 | 51.0 ± 1.4 | 51.0 ± 1.4 | 51.0 ± 1.4 |  |" in found["mosi by manifest"]
    assert "| 61.0 ± 1.4 | **+10.0 ± 0.0** |" in found["mosi by manifest"]
    assert "mean over 2 seeds" in found["mosi by manifest"]
    assert "300 test samples" in found["mosi by manifest"]
    assert found["digits by manifest"].startswith("Not measured yet")


def test_the_page_has_a_place_for_every_table():
    page = CLASSIFY.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in page for name in sections(pd.DataFrame({"data": [], "part": []})))
