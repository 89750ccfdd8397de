"""Files of somebody else in the way of what gmd writes: nothing of theirs is lost, nor anything reached by links."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from helpers.attacks import BRATS, SENTIMENT, content, done, ended_well, left_over, refused

pytestmark = pytest.mark.slow

THESIS = b"three years of work\n"
OURS = ("config.yaml", "splits.json", "metrics.jsonl", "best.pt", "last.safetensors", "report.html", "curves.png")
LINKED = (("last.pt", "best.safetensors", "metrics.jsonl"), ("config.yaml", "splits.json", "gmd_run.json"))
LINKED += (("curves.png", "dominance.txt", "report.html"), (".gmd-lock",), (".gmd-lock-evaluation", "tensorboard"))
OURS += ("dominance.txt", "gmd_run.json", "best.safetensors", "evaluation", "tensorboard", ".gmd-lock")


def write(path: Path, text: bytes = THESIS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return path


def foreign(folder: Path, name: str) -> None:
    write(folder / name / "thesis.csv" if name in ("evaluation", "tensorboard") else folder / name)


def train(gmd, made, out, *more, task="brats"):
    data, options = (made / "cases", BRATS) if task == "brats" else (made / "sequences.npz", SENTIMENT)
    return gmd("train", task, "--data", data, "--out", out, *options, *more)


# A training's folder


def test_a_folder_with_names_like_ours_but_no_run_is_left_as_it_is(gmd, made, tmp_path):
    for name in ("config.yaml", "report.html", "best.pt", "evaluation"):
        foreign(tmp_path / "f", name)
    before = content(tmp_path)
    refused(train(gmd, made, tmp_path / "f"), str(tmp_path / "f"), "config.yaml", "report.html")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", OURS)
def test_a_single_name_of_ours_is_no_sign_of_a_run(gmd, made, tmp_path, name):
    foreign(tmp_path / "f", name)
    before = content(tmp_path)
    refused(train(gmd, made, tmp_path / "f", task="sentiment"), "--force" if name == ".gmd-lock" else name)
    assert content(tmp_path) == before


def test_a_configuration_of_gmd_alone_is_no_sign_of_a_run(gmd, made, tmp_path):
    """Somebody keeps the configuration, and the thesis beside it."""
    (tmp_path / "f").mkdir()
    shutil.copy(made / "brats" / "config.yaml", tmp_path / "f")
    foreign(tmp_path / "f", "evaluation")
    foreign(tmp_path / "f", "report.html")
    before = content(tmp_path)
    refused(train(gmd, made, tmp_path / "f"), "report.html")
    assert content(tmp_path) == before


def test_links_in_the_way_count_as_what_they_are(gmd, made, tmp_path):
    victim = write(tmp_path / "home" / "victim")
    (tmp_path / "f").mkdir()
    for name in ("config.yaml", "metrics.jsonl", "dangling.pt", "report.html"):
        (tmp_path / "f" / name).symlink_to(victim if "dangling" not in name else tmp_path / "nowhere")
    before = content(tmp_path)
    refused(train(gmd, made, tmp_path / "f"))
    assert content(tmp_path) == before


def test_a_folder_that_holds_other_things_only_is_a_place_for_a_run(gmd, made, tmp_path):
    write(tmp_path / "f" / "README")
    write(tmp_path / "f" / "notes" / "config.yaml")
    done(train(gmd, made, tmp_path / "f", task="sentiment"))
    assert (tmp_path / "f" / "README").read_bytes() == (tmp_path / "f" / "notes" / "config.yaml").read_bytes() == THESIS


def test_the_data_are_no_place_for_a_run(gmd, copied, tmp_path):
    cases = copied("cases")
    before = content(tmp_path)
    case = next(cases.iterdir())
    for out in (cases, case, tmp_path / "cases" / ".." / "cases"):
        refused(gmd("train", "brats", "--data", cases, "--out", out, *BRATS))
        assert content(tmp_path) == before
    (tmp_path / "link").symlink_to(cases)
    refused(gmd("train", "brats", "--data", cases, "--out", tmp_path / "link", *BRATS))
    refused(gmd("train", "brats", "--data", cases, "--out", ".", *BRATS, cwd=cases))
    assert content(cases) == {name[6:]: what for name, what in before.items() if name.startswith("cases/")}


def test_a_project_is_no_place_for_a_run(gmd, made, tmp_path):
    write(tmp_path / "config.yaml", b"project: thesis\n")
    write(tmp_path / "src" / "main.py")
    before = content(tmp_path)
    refused(gmd("train", "brats", "--data", made / "cases", "--out", ".", *BRATS, cwd=tmp_path), "config.yaml")
    assert content(tmp_path) == before


def test_a_cross_validation_takes_no_fold_of_somebody_else(gmd, made, tmp_path):
    write(tmp_path / "f" / "fold0" / "config.yaml")
    write(tmp_path / "f" / "fold1" / "evaluation" / "thesis.csv")
    before = content(tmp_path)
    refused(train(gmd, made, tmp_path / "f", "--folds", 2), "fold")
    assert content(tmp_path) == before


def test_nothing_is_removed_for_data_that_cannot_be_read(gmd, copied, tmp_path):
    """An old run without last.pt, which a new one may replace, but not one that never begins."""
    run, cases = copied("brats"), copied("cases")
    (run / "last.pt").unlink()
    for image in cases.glob("*/*_flair.nii.gz"):
        image.write_bytes(b"no image")
    before = content(run)
    refused(gmd("train", "brats", "--data", cases, "--out", run, *BRATS), "flair")
    assert {name: what for name, what in content(run).items() if not name.startswith(".")} == before


def test_a_run_made_anew_removes_what_gmd_has_written_and_nothing_else(gmd, made, copied):
    run = copied("brats")
    (run / "last.pt").unlink()
    thesis = [write(run / "evaluation" / "thesis.csv"), write(run / "notes.txt"), write(run / "evaluation/mine/x.md")]
    done(train(gmd, made, run))
    assert [path.read_bytes() for path in thesis] == [THESIS] * 3
    assert not (run / "evaluation" / "table.csv").exists(), "scores of another network"
    assert not (run / "report.html").exists()


def test_results_elsewhere_are_not_followed_when_a_run_is_made_anew(gmd, made, copied, tmp_path):
    run = copied("brats")
    (run / "last.pt").unlink()
    (run / "evaluation").rename(tmp_path / "elsewhere")
    (run / "evaluation").symlink_to(tmp_path / "elsewhere")
    before = content(tmp_path / "elsewhere")
    done(train(gmd, made, run))
    assert content(tmp_path / "elsewhere") == before


# Links and guessable names


def test_resuming_a_run_of_somebody_else_overwrites_nothing_outside(gmd, made, copied, tmp_path):
    """Its last.pt says that nothing is done yet, so that all is written."""
    run, victim = copied("brats"), write(tmp_path / "home" / "victim")
    for name in ("last.pt", "best.pt", "best.safetensors", "last.safetensors"):
        (run / f"{name}.tmp").symlink_to(victim)
    torch.save(torch.load(run / "last.pt", weights_only=True) | {"epochs": 0, "steps": 0}, run / "last.pt")
    ended_well(train(gmd, made, run, "--resume"))
    assert victim.read_bytes() == THESIS


@pytest.mark.parametrize("names", LINKED, ids=str)
def test_no_command_writes_through_a_link_in_a_run(gmd, made, copied, tmp_path, names):
    run, home = copied("sentiment"), tmp_path / "home"
    home.mkdir()
    for name in names:
        (run / name).rename(home / name) if (run / name).exists() else write(home / name)
        (run / name).symlink_to(home / name)
    before = content(home)
    ended_well(train(gmd, made, run, "--resume", task="sentiment"))
    ended_well(gmd("evaluate", run))
    (run / "last.pt").unlink(missing_ok=True)
    ended_well(train(gmd, made, run, task="sentiment"))
    after = content(home)
    # the owner may have led these on to a larger disk
    kept = [name for name in before if not name.startswith(("tensorboard", "metrics.jsonl"))]
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}


def test_a_guessed_name_of_an_unfinished_file_is_not_followed(gmd, made, tmp_path):
    """The number of the process is known beforehand to whoever shares the folder; here all that may come."""
    victim, shared = write(tmp_path / "home" / "victim"), tmp_path / "shared"
    shared.mkdir()
    case = made / "cases" / "Phantom_000_00000" / "Phantom_000_00000"
    command = gmd.start("--help")
    command.wait()
    for pid in range(command.pid, command.pid + 60):
        for name in (
            f".o.nii.{pid}.gz",
            f".o.{pid}.gz",
            f".o.{pid}.nii.gz",
            f".o.nii.gz.{pid}",
            f".o.nii.gz.{pid}.tmp",
        ):
            (shared / name).symlink_to(victim)
    done(gmd("predict", made / "brats", "--flair", f"{case}_flair.nii.gz", "-o", shared / "o.nii.gz"))
    assert victim.read_bytes() == THESIS
    assert not (shared / "o.nii.gz").is_symlink()


# Outputs of other commands


def test_a_prediction_replaces_no_image_that_gmd_has_not_written(gmd, copied, tmp_path):
    cases = copied("cases")
    run = copied("brats")
    case = cases / "Phantom_000_00000"
    flair, seg = case / f"{case.name}_flair.nii.gz", case / f"{case.name}_seg.nii.gz"
    out = tmp_path / "out"
    for victim in (seg, case / f"{case.name}_t2.nii.gz"):
        before = content(cases)
        refused(gmd("predict", run, "--flair", flair, "-o", victim), victim.name)
        assert content(cases) == before
    shutil.copytree(case, out)
    shutil.copy(seg, out / f"{case.name}.nii.gz")
    before = content(out)
    assert ended_well(gmd("predict", run, cases, "-o", out)).status in (0, 1)
    after = content(out)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("text", [THESIS, b"PK\x03\x04 a spreadsheet", b""])
def test_no_other_command_replaces_a_file_of_somebody_else(gmd, made, copied, tmp_path, text):
    victim = write(tmp_path / "f" / "victim.npz", text)
    second = copied("brats", "second")
    refused(gmd("phantom", victim, "--task", "sentiment", "--cases", 60), "victim.npz")
    refused(gmd("convert", made / "sequences.npz", victim), "victim.npz")
    results = tmp_path / "results"
    done(gmd("compare", made / "brats", second, "--out", results))
    shutil.rmtree(tmp_path / "others", ignore_errors=True)
    (tmp_path / "others").mkdir()
    for path in results.iterdir():
        write(tmp_path / "others" / path.name, text)
    before = content(tmp_path / "others")
    refused(gmd("compare", made / "brats", second, "--out", tmp_path / "others"))
    assert content(tmp_path / "others") == before
    assert victim.read_bytes() == text
    done(gmd("compare", made / "brats", second, "--out", results))  # what is its own it replaces


def test_compare_does_not_write_beside_what_is_not_a_run(gmd, made, tmp_path):
    write(tmp_path / "f" / "evaluation" / "cases.csv")
    before = content(tmp_path)
    refused(gmd("compare", tmp_path / "f", made / "brats"))
    refused(gmd("evaluate", tmp_path / "f"))
    refused(gmd("report", tmp_path / "f"))
    refused(gmd("predict", tmp_path / "f", made / "cases", "-o", tmp_path / "o"))
    assert content(tmp_path) == before


# Paths


LONG = "n" * 300
WHERE = {
    "too long a name": LONG,
    "below a file": "file/below",
    "below a file, deeper": "file/below/and/below",
    "in /proc": "/proc/gmd",
    "a device": "/dev/null",
    "below a device": "/dev/null/x",
    "a circle of links": "circle/x",
    "too long a path": "/".join(["d" * 200] * 25),
}


@pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)
def test_places_that_cannot_be_written_are_said_before_any_work(gmd, made, copied, tmp_path, where):
    write(tmp_path / "file")
    (tmp_path / "circle").symlink_to("circle")
    second = copied("brats", "second")
    before = content(tmp_path)
    case, below = made / "cases" / "Phantom_000_00000", where if where != "/dev/null" else "/dev/null/y"
    for words in (
        ("train", "brats", "--data", made / "cases", *BRATS, "--out", where),
        ("phantom", where, "--cases", 2, "--shape", 16, 16, 16),
        ("phantom", where, "--task", "sentiment", "--cases", 60),
        ("phantom", below + ".npz", "--task", "sentiment", "--cases", 60),
        ("convert", made / "sequences.npz", below + ".npz"),
        ("compare", made / "brats", second, "--out", where),
        ("predict", made / "brats", made / "cases", "-o", where),
        ("predict", made / "brats", case, "-o", below + ".nii.gz"),
        ("evaluate", where),
        ("report", where),
        ("evaluate", made / "brats", "--data", where),
    ):
        refused(gmd(*words, cwd=tmp_path))
    assert content(tmp_path) == before


@pytest.mark.parametrize("length", [242, 250, 255, 256])
def test_long_names_that_the_disk_takes_are_written_and_others_refused(gmd, made, tmp_path, length):
    name = "y" * (length - 4) + ".npz"
    outcome = ended_well(gmd("convert", made / "sequences.npz", tmp_path / name))
    assert outcome.status == (0 if length <= 255 else 2), outcome.told
    stem = "y" * (length - 7) + ".nii.gz"
    case = made / "cases" / "Phantom_000_00000"
    outcome = ended_well(gmd("predict", made / "brats", case, "-o", tmp_path / stem))
    assert outcome.status == (0 if length <= 255 else 2), outcome.told
    outcome = ended_well(gmd("predict", made / "brats", case, "-o", tmp_path / ("z" + stem[1:]), "--probabilities"))
    both = os.path.exists(tmp_path / ("z" + stem[1:]))
    assert outcome.status in (0, 2), outcome.told
    assert both == (outcome.status == 0), "a label map was written before its probabilities could not be"
    assert not left_over(tmp_path)


def test_runs_of_long_names_are_compared(gmd, copied, tmp_path):
    first, second = copied("brats", "a" * 150), copied("brats", "b" * 150)
    third = copied("brats", "c" * 255)
    done(gmd("evaluate", third))
    for runs in ((first, second), (first, third), (third, first, second)):
        assert ended_well(gmd("compare", *runs)).status in (0, 2)
        assert ended_well(gmd("compare", *runs, "--out", tmp_path / "out")).status in (0, 2)


@pytest.mark.parametrize("wrong", ["folder", "pipe", "dangling"])
@pytest.mark.parametrize("name", ["report.html", "evaluation", "evaluation/table.csv", "metrics.jsonl"])
def test_results_of_the_wrong_kind_are_said(gmd, made, copied, tmp_path, name, wrong):
    run = copied("brats")
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    {
        "folder": lambda: write(path / "x") if name != "evaluation" else write(path),
        "pipe": lambda: os.mkfifo(path),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[wrong]()
    for words in (("evaluate", run), ("report", run), ("predict", run, made / "cases", "-o", tmp_path / "o")):
        outcome = ended_well(gmd(*words))
        assert words[0] != "predict" or outcome.status == 0, outcome.told
    assert not (tmp_path / "nowhere").exists() or wrong != "dangling" or name == "metrics.jsonl"


def test_a_mark_from_elsewhere_does_not_open_a_folder(gmd, made, tmp_path):
    """A file of the mark's name with other content is somebody else's."""
    for text in (b"", b"null", b"[]", b'{"format": 1}', b'{"format": 99, "id": 5}', b"\xff\xfe", b"[" * 100_000):
        shutil.rmtree(tmp_path / "f", ignore_errors=True)
        write(tmp_path / "f" / "gmd_run.json", text)
        write(tmp_path / "f" / "report.html")
        before = content(tmp_path)
        refused(train(gmd, made, tmp_path / "f", task="sentiment"))
        assert content(tmp_path) == before


def test_a_run_of_an_earlier_version_is_known_by_its_files(gmd, made, copied):
    """It has no mark; it can be resumed, evaluated and reported as before."""
    run = copied("sentiment")
    (run / "gmd_run.json").unlink(missing_ok=True)
    done(train(gmd, made, run, "--resume", task="sentiment"))
    done(gmd("evaluate", run))
    done(gmd("report", run))
    splits = json.loads((run / "splits.json").read_text())
    assert splits["train"]
