"""Lines of metrics.jsonl that no training writes are named by their number, for the report and for --resume alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.monitor.checked_records import read_records
from gmd.monitor.metrics_file import METRICS, check_metrics, drop_metrics_after, read_metrics
from gmd.report.history import read_history
from helpers.report_cases import START, epoch, step, trained

MODALITIES = ("flair", "t1")


def write(run: Path, lines: list[str]) -> Path:
    (run / METRICS).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return run


def test_the_lines_of_a_training_are_read(tmp_path: Path):
    whole = trained()
    write(tmp_path, [json.dumps(line) for line in whole])
    assert [record for record, _ in read_records(tmp_path / METRICS, MODALITIES)] == whole
    assert sum(length for _, length in read_records(tmp_path / METRICS)) == (tmp_path / METRICS).stat().st_size
    bare = [step(1, cosine=None) | {"losses": {"flair": None}, "loss": None, "finite": False, "dominance": None}]
    old = {key: value for key, value in step(2).items() if key not in ("dominance", "lr", "cosines")}
    write(tmp_path, [json.dumps(line) for line in (*bare, old, epoch(1, None))])
    assert len(list(read_records(tmp_path / METRICS, MODALITIES))) == 3


WRONG = [
    "",
    "null",
    "[]",
    "{}",
    '{"kind": "stop"}',
    '{"kind": ["step"]}',
    "[" * 100_000,
    '{"kind": "step"' + ', "step": 1' * 2 + "}",
    "\x00",
    *(
        json.dumps(step(2) | change)
        for change in (
            {"step": 10**400 // 10**300},
            {"step": 10**18 * 100},
            {"step": 1},  # as the line before: of two trainings
            {"step": 0},
            {"step": True},
            {"step": 2.0},
            {"step": "2"},
            {"epoch": None},
            {"losses": [1.0]},
            {"losses": {}},
            {"losses": {"flair": "low"}},
            {"losses": {"flair": True}},
            {"losses": {"flair": None}},
            {"losses": {"flair": 1e60}},
            {"losses": {"t2": 1.0}},
            {"losses": {"t1+flair": 1.0}},
            {"loss": float("nan")},
            {"loss": float("inf")},
            {"loss": [1]},
            {"lr": {}},
            {"norm": "long"},
            {"finite": 1},
            {"refreshed": 1},
            {"age": -1},
            {"failures": None},
            {"cosines": [[1.0]]},
            {"cosines": [[1.0] * 3] * 2},
            {"cosines": "none"},
            {"cosines": [["a"] * 3] * 3},
            {"conflicts": "many"},
            {"dominance": []},
            {"dominance": {}},
            {"dominance": step(2)["dominance"] | {"norms": {"t2": 1.0}}},
            {"dominance": step(2)["dominance"] | {"norms": {"t1": "big"}}},
            {"dominance": step(2)["dominance"] | {"projected": "all"}},
            {"dominance": step(2)["dominance"] | {"modality": {"norm": 5}}},
            {"dominance": step(2)["dominance"] | {"modality": {"norm": {"t2": 1.0}}}},
        )
    ),
    '{"kind": "step", "epoch": 1, "step": 1' + "0" * 400 + "}",
    *(
        json.dumps(START | change)
        for change in ({"parameters": "many"}, {"device": 5}, {"threads": -1}, {"time": None}, {"parameters": 10**30})
    ),
    *(
        json.dumps(epoch(1) | change)
        for change in (
            {"validation": "high"},
            {"validation": True},
            {"epoch": 0},
            {"metrics": [1]},
            {"metrics": {"WT": "x"}},
            {"seconds": "long"},
            {"memory_MB": []},
            {"skipped": -1},
        )
    ),
]


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line[:50])
def test_a_line_that_no_training_writes_is_named(tmp_path: Path, line: str):
    write(tmp_path, [json.dumps(step(1)), line, json.dumps(step(3))])
    before = (tmp_path / METRICS).read_bytes()
    readers: list[Callable] = [read_history, check_metrics]
    for read in readers:
        with pytest.raises(UserError, match=r"metrics\.jsonl: line 2: not a line that gmd train writes .*Restore it"):
            read(tmp_path, MODALITIES)
    if "t2" not in line and "t1+flair" not in line:
        for read in (lambda: read_metrics(tmp_path / METRICS), lambda: drop_metrics_after(tmp_path, 9, 9)):
            with pytest.raises(UserError, match=r"metrics\.jsonl: line 2: "):
                read()
    assert (tmp_path / METRICS).read_bytes() == before


def test_what_a_kill_leaves_of_the_last_line_is_left_out(tmp_path: Path):
    for cut in ('{"kind": "st', "\x00", json.dumps(step(2)), "["):
        write(tmp_path, [json.dumps(step(1))])
        with open(tmp_path / METRICS, "a", encoding="utf-8") as file:
            file.write(cut)
        assert read_history(tmp_path, MODALITIES).steps == 1
        assert drop_metrics_after(tmp_path, 1, 9) == [step(1)]
        assert (tmp_path / METRICS).read_text() == json.dumps(step(1)) + "\n"


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path):
    with open(tmp_path / METRICS, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1: "):
        read_history(tmp_path, MODALITIES)
