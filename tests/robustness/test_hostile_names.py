"""Names from outside: on the terminal, in pictures, tables and pages; and streams that take no text."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.attacks import BRATS, SENTIMENT, content, done, ended_well, half_written, refused
from helpers.places import with_tests_on_path

pytestmark = pytest.mark.slow

NAMES = {
    "a title for the terminal": "\x1b]0;owned\x07\x1b[2J",
    "a forged line": "x\nline: 1 done, 0 failed",
    "from right to left": "abc\u202egpj.exe",
    "nothing to see": "a\u200bb\ufeffc\u00adz",
    "mathtext, worse": r"$\frac{$ ^^_{}$x$$",
    "a formula": "=1+1",
    "a link": '=HYPERLINK("http://evil","x")',
    "a tab": "\t=1+1",
    "a table": "a | b `c` | d",
    "a page": "<img src=x onerror=alert(1)>",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "not UTF-8": os.fsdecode(b"caf\xe9\xff"),
    "letters above letters": "Z" + "\u0310" * 60,
}


def renamed(cases: Path, name: str) -> Path:
    """One of the cases, under another name."""
    case = cases / "Phantom_001_00002"
    new = cases / name.replace("/", "_")
    case.rename(new)
    for path in list(new.iterdir()):
        path.rename(new / path.name.replace(case.name, "case"))
    return new


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_case_of_any_name(gmd, made, copied, tmp_path, name):
    cases, run = copied("other"), copied("brats")
    case = renamed(cases, name)
    out = tmp_path / "o"
    outcome = ended_well(gmd("predict", run, cases, "-o", out))
    assert outcome.status in (0, 1), outcome.told
    assert len(list(out.iterdir())) >= 3
    assert "1 done, 0 failed" not in outcome.out.splitlines()
    (case / "case_flair.nii.gz").write_bytes(b"no image")
    outcome = ended_well(gmd("predict", run, cases, "-o", tmp_path / "o2"))
    assert outcome.status == 1
    shutil.copy(cases / "Phantom_001_00000" / "Phantom_001_00000_flair.nii.gz", case / "case_flair.nii.gz")
    outcome = ended_well(gmd("evaluate", run, "--data", cases))
    assert outcome.status in (0, 1), outcome.told
    assert not half_written(run / "evaluation")
    for path in run.glob("evaluation/*/cases.csv"):
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@", "+", "\t", "\r") or cell.startswith("-=")], cells[
            :9
        ]
    page = done(gmd("report", run)) and (run / "report.html").read_bytes()
    assert b"<img src=x" not in page


@pytest.mark.parametrize("name", ["mathtext, worse", "a forged line", "not UTF-8", "a page"])
def test_a_run_of_any_name(gmd, made, copied, tmp_path, name):
    named = NAMES[name].replace("/", "_")
    run, second = copied("brats", named), copied("brats", f"b{named}")
    done(gmd("compare", run, second))
    done(gmd("evaluate", run))
    done(gmd("predict", run, made / "other", "-o", tmp_path / f"o{named}"))
    assert not half_written(tmp_path)


@pytest.mark.parametrize("name", ["a title for the terminal", "a formula"])
def test_samples_and_notes_of_any_name(gmd, copied, tmp_path, name):
    path = copied("sequences.npz")
    with np.load(path) as arrays:
        found = dict(arrays)
    names = found["name"].astype("U80")
    names[found["split"] == "test"] = [f"{NAMES[name]}{i}" for i in range((found["split"] == "test").sum())]
    np.savez(path, **found | {"name": names, "notes": np.array([NAMES[name], NAMES[name] * 3])})
    run = tmp_path / "run"
    outcome = ended_well(gmd("train", "sentiment", "--data", path, "--out", run, *SENTIMENT))
    ended_well(gmd("convert", path, tmp_path / "new.npz"))
    if outcome.status == 0:
        done(gmd("evaluate", run))
        with (run / "evaluation" / "predictions.csv").open(encoding="utf-8", newline="") as file:
            assert not [cell for row in csv.reader(file) for cell in row if cell.startswith("=")]
        done(gmd("compare", run, shutil.copytree(run, tmp_path / "second")))


def test_numbers_below_zero_stay_numbers(gmd, made):
    with (made / "sentiment" / "evaluation" / "predictions.csv").open(newline="") as file:
        cells = [cell for row in list(csv.reader(file))[1:] for cell in row]
    assert [cell for cell in cells if cell.startswith("-") and float(cell) < 0]


# Options


RESERVED = (
    "a+b",
    "brain",
    "name",
    "target",
    "seg",
    "label",
    "mask",
    "image",
    "affine",
    "mean",
    "all",
    "case",
    "subset",
)
RESERVED += (
    "a/b",
    "a b",
    "a,b",
    "a=b",
    "",
    ".",
    "..",
    "-x",
    "--out",
    "\x1b[2J",
    "a\nb",
    "FLAIR",
    "x" * 300,
    "a.b",
    "None",
)


@pytest.mark.parametrize("name", RESERVED)
def test_modalities_that_cannot_be_are_refused_before_training(gmd, copied, tmp_path, name):
    cases, run = copied("cases"), tmp_path / "run"
    small = BRATS[: BRATS.index("--modalities")]
    patterns = ["--patterns", "flair=*_flair.nii.gz", f"{name}=*_t1.nii.gz", "seg=*_seg.nii.gz"]
    data = ("train", "brats", "--data", cases, "--out", run, *small, "--device", "cpu")
    outcome = ended_well(gmd(*data, "--modalities", "flair", name, *patterns))
    if outcome.status == 0:  # a name like any other, then: all commands work with it
        assert name in ("all", "case", "image", "label", "None", "affine", "mask", "mean", "subset", "a.b")
        done(gmd("evaluate", run))
        done(gmd("predict", run, cases, "-o", tmp_path / "o"))
        done(gmd("compare", run, shutil.copytree(run, tmp_path / "second")))
        done(gmd("report", run))
    else:
        assert outcome.status == 2
        assert not run.exists()


LATE = {
    "predict on a device": ("predict", "{brats}", "{cases}", "-o", "o", "--device", "cuda:9"),
    "predict on no device": ("predict", "{brats}", "{cases}", "-o", "o", "--device", "gpu"),
    "predict from images of nobody": ("predict", "{brats}", "--image", "nobody={cases}", "-o", "o.nii.gz"),
    "predict without a sign": ("predict", "{brats}", "--image", "flair", "-o", "o.nii.gz"),
    "predict into another format": ("predict", "{brats}", "{cases}/Phantom_000_00000", "-o", "o.png"),
    "predict below zero": ("predict", "{brats}", "{cases}", "-o", "o", "--affine-tolerance", "-1"),
    "predict at NaN": ("predict", "{brats}", "{cases}", "-o", "o", "--affine-tolerance", "nan"),
    "evaluate without reason": ("evaluate", "{sentiment}", "--missing", "7"),
    "evaluate at NaN": ("evaluate", "{sentiment}", "--missing", "nan"),
    "no phantoms": ("phantom", "p", "--cases", "0"),
    "phantoms without end": ("phantom", "p", "--cases", "1000000000"),
    "phantoms beyond memory": ("phantom", "p", "--cases", "1", "--shape", "1000000", "1000000", "1000000"),
    "phantoms of 10^4 voxels": ("phantom", "p", "--cases", "1", "--shape", "10000", "10000", "10000"),
    "sequences without end": ("phantom", "p.npz", "--task", "sentiment", "--cases", "1000000000000"),
    "phantoms with a seed below zero": ("phantom", "p", "--seed", "-1"),
    "training for ever": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--epochs", "-1"),
    "training at NaN": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--lr", "nan"),
    "training at infinity": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--weight-decay", "inf"),
    "no heads": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--heads", "0"),
    "layers without end": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--layers", "1000000000"),
    "immense": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--width", str(2**40), "--heads", "2"),
    "an immense seed of training": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--seed", str(10**30)),
    "a batch below zero": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--batch", "-4"),
    "an immense batch": ("train", "sentiment", "--data", "{sequences}", "--out", "p", "--batch", str(10**30)),
    "a fold too many": ("train", "brats", "--data", "{cases}", "--out", "p", "--folds", "2", "--fold", "7"),
    "folds of nothing": ("train", "brats", "--data", "{cases}", "--out", "p", "--folds", "1000"),
    "a cache below zero": ("train", "brats", "--data", "{cases}", "--out", "p", "--cache", "-1"),
}


@pytest.mark.parametrize("words", LATE.values(), ids=LATE)
def test_options_out_of_range_are_refused_before_anything_is_written(gmd, made, copied, tmp_path, words):
    second = copied("brats", "second")
    before = content(tmp_path)
    places = {name: str(made / name) for name in ("brats", "sentiment", "cases")}
    places |= {"sequences": str(made / "sequences.npz"), "second": str(second)}
    refused(gmd(*[word.format(**places) for word in words], cwd=tmp_path, seconds=20))
    assert content(tmp_path) == before


# Streams


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_terminal(gmd, copied, encoding):
    run = copied("brats")
    (run / "report.html").unlink()
    done(gmd("evaluate", run, encoding=encoding))
    assert (run / "report.html").exists()
    for command in ("report", "compare"):
        outcome = ended_well(
            gmd(command, run, *([copied("brats", "x")] if command == "compare" else []), encoding=encoding)
        )
        assert outcome.status == 0
    ended_well(gmd("doctor", encoding=encoding))


@pytest.mark.parametrize("words", [("evaluate", "{run}"), ("predict", "{run}", "{cases}", "-o", "{out}"), ("doctor",)])
def test_a_reader_that_has_gone(gmd, made, copied, tmp_path, words):
    run = copied("brats")
    (run / "report.html").unlink()
    reading, writing = os.pipe()
    os.close(reading)
    places = {"run": str(run), "cases": str(made / "cases"), "out": str(tmp_path / "o")}
    outcome = ended_well(gmd(*[word.format(**places) for word in words], out=writing))
    os.close(writing)
    assert outcome.status in (0, 141)
    if words[0] == "evaluate":
        assert (run / "report.html").exists()
    if words[0] == "predict":
        assert len(list((tmp_path / "o").iterdir())) == 6


def test_a_full_disk_behind_stdout(gmd, copied):
    run = copied("brats")
    (run / "report.html").unlink()
    with open("/dev/full", "wb") as full:
        outcome = ended_well(gmd("evaluate", run, out=full.fileno()))
    assert outcome.status == 2
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    "variables",
    [{"GMD_BACKEND": "evil"}, {"GMD_BACKEND": "\x1b[2J"}, {"GMD_CPU_ISA": "evil"}, {"GMD_MAX_GB": "\x1b[2J"}],
    ids=str,
)
def test_odd_variables_of_the_environment(gmd, made, tmp_path, variables):
    run = tmp_path / "run"
    words = ("train", "brats", "--data", made / "cases", "--out", run, *BRATS)
    refused(gmd(*words, environment=variables), next(iter(variables)))
    assert not run.exists()


def test_closed_streams_and_the_c_locale_of_a_whole_process(copied):
    """Not forked: how Python itself begins is the point."""
    run = copied("brats")
    environment = with_tests_on_path()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *filter(None, sys.path)])
    for settings, redirections in (
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, ""),
        ({"PYTHONIOENCODING": "ascii"}, "2>&-"),
        ({}, ">&- <&-"),
    ):
        (run / "report.html").unlink()
        command = f'exec "{sys.executable}" -m gmd evaluate "{run}" {redirections}'
        ended = subprocess.run(
            ["bash", "-c", command], env=environment | settings, capture_output=True, check=False, timeout=120
        )
        assert b"Traceback" not in ended.stderr, ended.stderr[-2000:]
        assert ended.returncode in (0, 2), ended.stderr[-2000:]
        assert (run / "report.html").exists()


def test_the_version_of_a_checkpoint_is_shown_escaped_and_cut(gmd, copied):
    run = copied("brats")
    state = torch.load(run / "best.pt", weights_only=True)
    torch.save(state | {"format": 9, "version": NAMES["a title for the terminal"]}, run / "best.pt")
    refused(gmd("evaluate", run), "best.pt")


# Pages without names


def test_an_anonymous_page_names_nobody(gmd, made, copied, tmp_path):
    cases = copied("cases", "secret-hospital")
    for case in list(cases.iterdir()):
        new = cases / case.name.replace("Phantom", "Mueller")
        case.rename(new)
        for path in list(new.iterdir()):
            path.rename(new / path.name.replace("Phantom", "Mueller"))
    run = tmp_path / "secret-run"
    done(gmd("train", "brats", "--data", cases, "--out", run, *BRATS))
    done(gmd("evaluate", run))
    done(gmd("evaluate", run, "--data", cases))
    done(gmd("report", run))
    assert b"Mueller" in (run / "report.html").read_bytes()
    done(gmd("report", run, "--anonymous"))
    page = (run / "report.html").read_bytes()
    for token in (b"Mueller", b"secret", os.fsencode(tmp_path), os.uname().nodename.encode() * 2, b"image/png;base64"):
        assert token not in page or token == b"image/png;base64", token
    assert b"nonymous" in page
