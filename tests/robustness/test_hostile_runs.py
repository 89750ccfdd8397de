"""The folder of a run from somebody else, or one that an editor or a disk has damaged: commands say so in a line."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.attacks import BRATS, commands, done, ended_well, huge, refused, rewrite

pytestmark = pytest.mark.slow

MOST = 1_500_000_000  # bytes at the peak of a command on a small run, torch included


RUBBISH: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x81" * 50),
    "huge": huge,
    "circle": lambda path: path.symlink_to(path.name),
    "empty": lambda path: path.write_bytes(b""),
}
# a file, and the command that cannot do without it
NEEDED = {
    "config.yaml": "evaluate",
    "splits.json": "evaluate",
    "best.pt": "evaluate",
    "last.pt": "resume",
    "metrics.jsonl": "report",
    "evaluation/table.csv": "report",
    "evaluation/cases.csv": "compare",
    "evaluation/checkpoint.txt": None,
    "evaluation/case_median.png": None,
    "dominance.txt": None,
    "gmd_run.json": None,
}

# a last line without an end is what a kill leaves; and a link that leads nowhere is no file
AS_IF_ABSENT = {("metrics.jsonl", rubbish) for rubbish in ("deep", "bytes", "empty", "circle")}
AS_IF_ABSENT |= {("evaluation/table.csv", "circle")}


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", NEEDED)
def test_rubbish_in_the_place_of_a_file(gmd, made, copied, name, rubbish):
    run, needed = copied("brats"), NEEDED[name]
    path = run / name
    path.unlink(missing_ok=True)
    RUBBISH[rubbish](path)
    outcome = ended_well(gmd(*commands(made, run, made / "brats", "brats")[needed or "report"]))
    assert outcome.peak < MOST, outcome.peak
    if needed is not None and (name, rubbish) not in AS_IF_ABSENT:
        refused(outcome, path.name)


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", ["splits.json", "metrics.jsonl", "evaluation/predictions.csv", "evaluation/table.csv"])
def test_rubbish_in_the_place_of_a_file_of_sequences(gmd, made, copied, name, rubbish):
    run = copied("sentiment")
    (run / name).unlink()
    RUBBISH[rubbish](run / name)
    found = commands(made, run, made / "sentiment", "sentiment")
    command = {"splits.json": "evaluate", "metrics.jsonl": "resume", "evaluation/predictions.csv": "compare"}.get(name)
    assert ended_well(gmd(*found[command or "report"])).peak < MOST


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_rubbish_as_a_file_of_options(gmd, made, tmp_path, rubbish):
    path = tmp_path / "options.yaml"
    RUBBISH[rubbish](path)
    out = tmp_path / "run"
    refused(gmd("train", "brats", "--config", path, "--data", made / "cases", "--out", out, *BRATS), "options.yaml")
    assert not out.exists()


# Edited: what is inside is of the wrong kind


def json_edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        values = json.loads(path.read_text())
        changed = change(values)
        path.write_text(json.dumps(values if changed is None else changed))

    return edit


SPLITS = {
    "a list": "[]",
    "null": "null",
    "nothing": "{}",
    "a number": "5",
    "text": '"train"',
    "depth": '{"train": ' + "[" * 5000 + "]" * 5000 + "}",
    "no train": json_edit(lambda values: values.pop("train") and None),
    "no test cases": json_edit(lambda values: values.update(test=[])),
    "text for cases": json_edit(lambda values: values.update(test="Phantom_000_00000")),
    "text in the place of a case": json_edit(lambda values: values.update(test=["Phantom_000_00000"])),
    "a list for a name": json_edit(lambda values: values["test"][0].update(name=["x"])),
    "a number for a name": json_edit(lambda values: values["test"][0].update(name=5)),
    "an empty name": json_edit(lambda values: values["test"][0].update(name="")),
    "a name that leads out": json_edit(lambda values: values["test"][0].update(name="../../../etc/passwd")),
    "a number for data": json_edit(lambda values: values.update(data=5)),
    "a case in two splits": json_edit(lambda values: values["test"].extend(values["train"])),
    "a case twice": json_edit(lambda values: values["test"].extend(values["test"])),
    "checksums of odd kinds": json_edit(lambda values: values["test"][0].update(checksums=5, files=[5])),
}


@pytest.mark.parametrize("edit", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("task", ["brats", "sentiment"])
def test_edited_splits(gmd, made, copied, edit, task):
    run = copied(task)
    path = run / "splits.json"
    edit(path) if callable(edit) else path.write_text(edit)
    found = commands(made, run, made / task, task)
    called = ("evaluate", "report", "resume") if task == "brats" else ("evaluate",)
    statuses = [ended_well(gmd(*found[command])).status for command in called]
    # sequences are found in their file, and named for people only
    assert 2 in statuses or task == "sentiment" or "checksums" in path.read_text()


LINE = (
    '{"kind": "step", "epoch": 1, "step": %s, "lr": 0.1, "loss": 1.0, "losses": %s, "conflicts": 0.0, "finite": true}'
)
METRICS = {
    "a step of 10^400": LINE % ("1" + "0" * 400, "{}"),
    "a step of 10^5000": LINE % ("1" + "0" * 5000, "{}"),
    "a step of text": LINE % ('"one"', "{}"),
    "a step of infinity": LINE % ("Infinity", "{}"),
    "a negative step": LINE % ("-5", "{}"),
    "losses in a list": LINE % ("1", "[1, 2]"),
    "losses of text": LINE % ("1", '{"flair": "much"}'),
    "losses of nobody": LINE % ("1", '{"nobody": 1.0}'),
    "depth": LINE % ("1", "[" * 5000 + "]" * 5000),
    "parameters in words": '{"kind": "start", "epoch": 0, "step": 0, "device": "CPU", "parameters": "many"}',
    "a device of 5": '{"kind": "start", "epoch": 0, "step": 0, "device": 5, "parameters": 5}',
    "an epoch without a number": '{"kind": "epoch", "validation": 0.5}',
    "another kind": '{"kind": ["step"], "epoch": 1}',
    "a list": "[1, 2, 3]",
    "null": "null",
    "a blank line": "",
    "a damaged line": '{"kind": "step", ',
    "no line": "\x00\x00\x00",
    "half of a letter": "\udcc3",
}


@pytest.mark.parametrize("where", ["first", "in the middle"])
@pytest.mark.parametrize("line", METRICS.values(), ids=METRICS)
def test_edited_metrics(gmd, made, copied, line, where):
    run = copied("brats")
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines.insert(0 if where == "first" else 2, line.encode("utf-8", "surrogateescape"))
    path.write_bytes(b"\n".join(lines))
    found = commands(made, run, made / "brats", "brats")
    outcome = ended_well(gmd(*found["report" if where == "first" else "resume"]))
    assert outcome.status in (0, 2)
    assert outcome.status == 0 or "metrics.jsonl" in outcome.err


def yaml_edit(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    return edit


CONFIGURATIONS = {
    "deep": lambda path: path.write_text("modalities: " + "[" * 5000 + "]" * 5000),
    "deep, in another way": lambda path: path.write_text("\n".join(" " * i + "a:" for i in range(3000))),
    "many anchors": lambda path: path.write_text(
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    ),
    "a python object": lambda path: path.write_text("data: !!python/object/apply:os.system ['touch /tmp/gmd-owned']"),
    "a set": lambda path: path.write_text("? data\n? out\n"),
    "a date": yaml_edit(width="2020-01-01"),
    "no labels": yaml_edit(labels=["nonsense"]),
    "no patch": yaml_edit(patch=[0, 0, 0]),
    "a patch of text": yaml_edit(patch=["a", "b", "c"]),
    "a negative patch": yaml_edit(patch=[-16, 16, 16]),
    "an immense patch": yaml_edit(patch=[2**40, 16, 16]),
    "an immense width": yaml_edit(width=300.0),
    "a width of NaN": yaml_edit(width=float("nan")),
    "no modalities": yaml_edit(modalities=[]),
    "many modalities": yaml_edit(modalities=[f"m{i}" for i in range(100_000)]),
    "a modality twice": yaml_edit(modalities=["flair", "flair"]),
    "modalities that lead out": yaml_edit(modalities=["../../x", "t1"]),
    "a device of elsewhere": yaml_edit(device="cuda:99"),
    "an odd device": yaml_edit(device=5),
    "an immense seed": yaml_edit(seed=2**200),
    "a number for the method": yaml_edit(method=7),
    "another task": yaml_edit(task="sentiment"),
    "a task of nobody": yaml_edit(task="../x"),
    "data of numbers": yaml_edit(data=[5]),
    "epochs beyond number": yaml_edit(epochs=float("inf")),
}


@pytest.mark.parametrize("edit", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("agrees", [False, True], ids=["alone", "checkpoint too"])
def test_edited_configurations(gmd, made, copied, edit, agrees):
    """The checkpoint may say the same nonsense."""
    run = copied("brats")
    edit(run / "config.yaml")
    if agrees:
        try:
            config = yaml.safe_load((run / "config.yaml").read_text())
        except (yaml.YAMLError, RecursionError):
            pytest.skip("no checkpoint can say that")
        if not isinstance(config, dict) or "labels" not in config:
            pytest.skip("no checkpoint can say that")
        rewrite(run / "best.pt", lambda state: state.update(config=config))
    for command, words in commands(made, run, made / "brats", "brats").items():
        if command in (("evaluate",) if agrees else ("report", "evaluate")):
            outcome = ended_well(gmd(*words))
            assert outcome.peak < 2 * MOST, outcome.peak
    assert not Path("/tmp/gmd-owned").exists()


# Scores


SCORES = {"nan", "inf", "-inf", "7.5", "-0.1", "1e400", "much", "", "0x1", "1_0", "0.5,0.5"}


@pytest.mark.parametrize("score", sorted(SCORES))
def test_scores_out_of_their_range_are_not_compared(gmd, made, copied, score):
    run = copied("brats")
    path = run / "evaluation" / "cases.csv"
    rows = path.read_text().splitlines()
    cells = rows[1].split(",")
    path.write_text("\n".join([rows[0], ",".join([*cells[:3], score, *cells[4:]]), *rows[2:]]) + "\n")
    refused(gmd("compare", made / "brats", run, "--out", run / "out"), "cases.csv")
    assert not (run / "out").exists()


@pytest.mark.parametrize("edit", ["a row twice", "no rows", "a column less", "other names", "quotes", "a zero"])
def test_tables_of_scores_that_no_evaluation_writes(gmd, made, copied, edit):
    run = copied("brats")
    path = run / "evaluation" / "cases.csv"
    rows = path.read_text().splitlines()
    changed = {
        "a row twice": [*rows, rows[1]],
        "no rows": rows[:1],
        "a column less": [row.rpartition(",")[0] for row in rows],
        "other names": ["a,b,c,d,e", *rows[1:]],
        "quotes": [rows[0], '"' + rows[1], *rows[2:]],
        "a zero": [rows[0], rows[1].replace("Phantom", "Phan\0tom"), *rows[2:]],
    }[edit]
    path.write_text("\n".join(changed) + "\n")
    refused(gmd("compare", made / "brats", run, "--out", run / "out"), "cases.csv" if edit != "no rows" else "")


@pytest.mark.parametrize("value", ["nan", "inf", "5e9", "word"])
def test_predictions_of_sequences_that_are_no_numbers(gmd, made, copied, value):
    run = copied("sentiment")
    path = run / "evaluation" / "predictions.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], ",".join([*rows[1].split(",")[:-1], value]), *rows[2:]]) + "\n")
    outcome = ended_well(gmd("compare", made / "sentiment", run, "--out", run / "out"))
    assert outcome.status == 2 or value == "5e9", outcome.told
    assert "nan" not in outcome.out.lower()


# Pictures


def png_bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**7))))


@pytest.mark.parametrize("kind", ["bomb", "cut", "text", "script", "gif"])
def test_a_picture_that_cannot_be_shown_leaves_the_page(gmd, copied, kind):
    run = copied("brats")
    path = run / "evaluation" / "case_median.png"
    whole = path.read_bytes()
    {
        "bomb": lambda: png_bomb(path),
        "cut": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "text": lambda: path.write_text("no picture"),
        "script": lambda: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        "gif": lambda: path.write_bytes(b"GIF89a" + bytes(20)),
    }[kind]()
    (run / "report.html").unlink()
    outcome = done(gmd("report", run))
    assert outcome.peak < MOST
    page = (run / "report.html").read_text()
    assert "case_median.png cannot be shown" in page
    assert "alert(1)" not in page


def test_options_of_a_run_are_values_whatever_they_look_like(gmd, made, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    base = {"task": "brats", "data": str(made / "cases")}
    for values in (
        {"modalities": ["flair", "--out", str(elsewhere)]},
        {"modalities": ["flair", f"--out={elsewhere}"]},
        {"modalities": ["flair", "--resume"]},
        {"labels": ["brats2018", "--force"]},
        {"patterns": ["flair=*", "--config", "/etc/passwd"]},
        {"channels": ["-h"]},
        {"method": "--help"},
        {"data": ["--out", str(elsewhere)]},
        {"config": "/etc/passwd"},
        {"resume": True, "force": True, "modalities": ["flair", "--resume"]},
    ):
        path = tmp_path / "options.yaml"
        path.write_text(yaml.safe_dump(base | values))
        outcome = ended_well(gmd("train", "brats", "--config", path, "--out", tmp_path / "run"))
        assert outcome.status == 2, (values, outcome.told)
        assert "usage" not in outcome.out
        assert not elsewhere.exists()
        assert not (tmp_path / "run").exists()


def test_a_value_that_begins_with_a_hyphen_can_be_said(gmd, made, tmp_path):
    """A folder of data, say; a list takes it for what it is in another spelling, and says which."""
    shutil.copytree(made / "cases", tmp_path / "-data")
    path = tmp_path / "options.yaml"
    small = [word for word in BRATS if word not in ("--modalities", "flair", "t1")]
    words = ("train", "brats", "--config", path, *small, "--out", "run")
    path.write_text(yaml.safe_dump({"data": ["-data"], "modalities": ["flair", "t1"]}))
    outcome = ended_well(gmd(*words, cwd=tmp_path))
    if outcome.status:
        refused(outcome, "./-data")
        path.write_text(yaml.safe_dump({"data": ["./-data"], "modalities": ["flair", "t1"]}))
        done(gmd(*words, cwd=tmp_path))
    assert "-data" in (tmp_path / "run" / "config.yaml").read_text()


def test_bytes_of_weights_alone_are_read_by_nobody(gmd, made, copied):
    """best.safetensors is for others; a damaged one disturbs nothing here."""
    run = copied("brats")
    for name in ("best.safetensors", "last.safetensors"):
        (run / name).write_bytes(struct.pack("<Q", 2**62) + b"{}")
    for command, words in commands(made, run, made / "brats", "brats").items():
        assert command == "resume" or done(gmd(*words))
