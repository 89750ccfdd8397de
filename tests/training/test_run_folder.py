"""Nobody's files are lost: a training overwrites and removes what gmd has written, in folders that gmd has marked."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import gmd.cli
import gmd.training.folds
import gmd.training.loop
from gmd.config import TrainBrats, TrainSentiment
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.results_folder import results_folder
from gmd.evaluation.segmentation.case_scores import CASES, OF_ALL_CASES
from gmd.evaluation.segmentation.single_run import SCORED_RECORD
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.training.folds import train_folds
from gmd.training.loop import train
from gmd.training.run_files import OF_A_COMPARISON, OF_A_RUN, OF_AN_EVALUATION, PAGE_MARK
from gmd.training.run_folder import check_folder, open_run
from gmd.training.run_lock import LOCK, locked
from gmd.training.run_mark import MARK, why_unknown, write_mark
from helpers.nifti_cases import error_of
from helpers.run_cases import tiny_sentiment, tree, write

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


@pytest.fixture
def unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainBrats:
    """A run whose data are not looked at, since its folder is refused before that."""

    def read(config: TrainBrats) -> None:
        raise AssertionError("read before the folder was refused")

    monkeypatch.setattr(gmd.training.loop, "open_task", read)
    monkeypatch.setattr(gmd.training.folds, "BratsTask", read)
    (tmp_path / "data").mkdir()
    return TrainBrats(data=tmp_path / "data", out=tmp_path / "out", device="cpu")


# ---- what somebody else has there ----


@pytest.mark.parametrize("name", [name for name in OF_A_RUN if name != MARK])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_name_that_training_writes_is_refused_in_a_folder_that_is_not_marked(
    unread: TrainBrats, tmp_path: Path, name: str, kind: str
):
    if kind == "link":
        unread.out.mkdir()
        (unread.out / name).symlink_to(tmp_path / "nothing")
    else:
        write(unread.out / name if kind == "file" else unread.out / name / "a.txt")
    before = tree(tmp_path)
    assert error_of(train, unread).startswith(
        f"{unread.out}: holds {name}, which training would overwrite or remove, but it is not the folder of a run "
        f"(it has no {MARK}); move them away, or choose another --out"
    )
    assert tree(tmp_path) == before


def test_all_of_them_are_named(unread: TrainBrats):
    """A bug: the first one was taken for a sign of an old run, whose `evaluation` was removed as a whole."""
    for name in ("config.yaml", "report.html", "best.pt", "evaluation/thesis.csv"):
        write(unread.out / name)
    before = tree(unread.out)
    assert f"{unread.out}: holds config.yaml, best.pt, evaluation, report.html, which" in error_of(train, unread)
    assert tree(unread.out) == before


ID = "0" * 32
NO_MARKS = {
    "a thing of somebody": "{}",
    "no object": "[]",
    "deep": "[" * 4000,
    "long": json.dumps({"format": 1, "id": ID, "text": "x" * 5000}),
    "true": json.dumps({"format": True, "id": ID}),
    "no id": json.dumps({"format": 1}),
    "a short id": json.dumps({"format": 1, "id": "0" * 31}),
    "of another kind": json.dumps({"format": 1, "id": 0}),
    "no JSON": "format: 1",
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("content", NO_MARKS.values(), ids=NO_MARKS)
def test_what_is_called_like_the_mark_is_none(unread: TrainBrats, content: str | bytes):
    write(unread.out / MARK).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert f"holds {MARK}, " in (said := error_of(train, unread))
    assert f"(its {MARK} is none that gmd has written)" in said


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_no_mark_blocks_or_never_ends(unread: TrainBrats, make):
    unread.out.mkdir()
    make(unread.out / MARK)
    assert f"its {MARK} is none that gmd has written" in error_of(train, unread)


def test_the_mark_of_a_later_gmd_is_told(unread: TrainBrats):
    write(unread.out / MARK, json.dumps({"format": 2, "id": "?"}))
    assert f"its {MARK} is that of a later gmd" in error_of(train, unread)


def test_among_the_data_is_no_place_for_a_run(unread: TrainBrats, tmp_path: Path):
    case = write(tmp_path / "data/case/t1.nii.gz").parent
    (tmp_path / "link").symlink_to(case)
    for out in (unread.data[0], case, tmp_path / "link", tmp_path / "data/../data"):
        before = tree(tmp_path)
        assert f"--out: {out} is among the data of" in error_of(train, replace(unread, out=out))
        assert f"--out: {out} is among the data of" in error_of(train_folds, replace(unread, out=out, folds=2))
        assert tree(tmp_path) == before
    check_folder(replace(unread, out=tmp_path / "data/runs"))


def test_a_link_to_nothing_is_no_folder(unread: TrainBrats, tmp_path: Path):
    unread.out.symlink_to(tmp_path / "nothing")
    assert "is a link to nothing; expected a folder" in error_of(train, unread)
    assert "is a link to nothing; expected a folder" in error_of(train_folds, replace(unread, folds=2))


def test_beside_other_things_a_run_finds_its_place(tmp_path: Path, capsys: pytest.CaptureFixture):
    """As that of the demo, which holds the data and another run."""
    data, other = tmp_path / "run/data/sentiment.npz", write(tmp_path / "run/README.md")
    write_sentiment_phantom(data, samples=40, seed=0)
    run = train(replace(tiny_sentiment(data, tmp_path / "run"), epochs=1))
    assert other.read_text() == "somebody's"
    assert data.exists()
    assert why_unknown(run) is None
    mark = json.loads((run / MARK).read_text())
    assert (mark["format"], mark["gmd"], len(mark["id"])) == (1, gmd.__version__, 32)
    assert "removed" not in capsys.readouterr().out
    assert LOCK not in os.listdir(run)


# ---- a run that begins anew in its folder ----


def test_what_gmd_wrote_is_removed_and_what_others_wrote_is_not(
    trained: TrainSentiment, tmp_path: Path, capsys: pytest.CaptureFixture
):
    run, other = trained.out, shutil.copytree(trained.out, tmp_path / "other")
    others = tmp_path / "others.npz"
    write_sentiment_phantom(others, samples=40, seed=1)
    data = json.loads((run / "splits.json").read_text())
    for each in (run, other):
        evaluate_run(each, absent=MissingInEvaluation(("0.3",), missing_curve=(0.0, 0.5)))
    with pytest.MonkeyPatch.context() as patch:  # of names that training has seen, in other data
        patch.setattr("gmd.evaluation.sequences.single_run._test_samples", lambda run, found, _: found.splits["test"])
        evaluate_run(run, others)
    compare([run, other])
    names = {path.name for path in (run / "evaluation").rglob("*") if path.is_file()}
    assert names - {*OF_A_COMPARISON} <= set(OF_AN_EVALUATION)
    assert len(list((run / "evaluation").rglob("table.csv"))) == 2
    kept = [write(run / name) for name in ("notes.txt", "evaluation/thesis.csv", "evaluation/compare_me/mine.txt")]
    kept.append(write(run / "evaluation/others/figure.png"))
    (run / "last.pt").unlink()
    capsys.readouterr()
    train(trained)
    said = capsys.readouterr().out
    assert all(path.read_text() == "somebody's" for path in kept)
    assert {path for path in (run / "evaluation").rglob("*") if path.is_file()} == set(kept[1:])
    first = next(line for line in said.splitlines() if "removed" in line)
    assert first.startswith(f"{run}: removed what an earlier run has left there: ")
    assert all(name in first for name in ("evaluation/others/data.txt", "evaluation/table.csv", "best.pt"))
    assert json.loads((run / "splits.json").read_text()) == data


def test_pages_of_cases_go_and_what_only_has_their_name_stays(
    trained: TrainSentiment, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """A bug: the page of an old run's case passed for one of the new run."""
    run, page = trained.out, f"{PAGE_MARK}its voxels"
    ours = [write(run / f"view_{name}.html", page) for name in ("case 1", "[2]")]
    kept = [write(run / "view_x.html"), write(run / "view_.html", PAGE_MARK[:-2]), write(run / "other.html", page)]
    (run / "view_folder.html").mkdir()
    os.mkfifo(run / "view_pipe.html")
    (run / "view_link.html").symlink_to(write(tmp_path / "page.html", page))
    (run / "last.pt").unlink()
    capsys.readouterr()
    train(trained)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in kept)
    assert {"view_folder.html", "view_pipe.html", "view_link.html"} <= set(os.listdir(run))
    assert "view_[2].html, view_case 1.html" in capsys.readouterr().out


def test_an_evaluation_of_gmd_alone_goes_as_a_whole(trained: TrainSentiment):
    evaluate_run(trained.out)
    (trained.out / "last.pt").unlink()
    train(trained)
    assert not (trained.out / "evaluation").exists()


def test_the_list_has_all_that_an_evaluation_of_segmentation_writes():
    assert {*OF_ALL_CASES, CASES, SCORED_RECORD, "data.txt"} <= set(OF_AN_EVALUATION)


def test_links_are_removed_and_not_followed(trained: TrainSentiment, tmp_path: Path):
    """A bug: rmtree of a link is an error, in a traceback."""
    run, victims = trained.out, tmp_path / "victims"
    for name in ("table.csv", "data.txt", "last", "config"):
        write(victims / name)
    (run / "last.pt").unlink()
    os.unlink(run / "config.yaml")
    (run / "last.pt.tmp").symlink_to(victims / "last")
    (run / "config.yaml").symlink_to(victims / "config")
    (run / "evaluation").symlink_to(victims)
    before = tree(victims)
    train(trained)
    assert tree(victims) == before
    assert not [path for path in run.rglob("*") if path.is_symlink()]


def test_a_linked_folder_of_other_data_is_no_folder_of_ours(trained: TrainSentiment, tmp_path: Path):
    victims = write(tmp_path / "victims/data.txt").parent
    (trained.out / "evaluation").mkdir()
    (trained.out / "evaluation/mosi").symlink_to(victims)
    (trained.out / "last.pt").unlink()
    train(trained)
    assert tree(victims) == {"data.txt": b"somebody's"}
    assert not (trained.out / "evaluation").exists()


def test_a_folder_under_a_name_of_ours_stays(trained: TrainSentiment):
    (trained.out / "last.pt").unlink()
    (trained.out / "report.html").mkdir()
    kept = write(trained.out / "report.html/a.txt")
    train(trained)
    assert kept.exists()


def test_nothing_is_removed_before_the_data_are_read(trained: TrainSentiment, tmp_path: Path):
    (trained.out / "last.pt").unlink()
    evaluate_run(trained.out)
    before = tree(trained.out)
    for data in (tmp_path / "absent.npz", write(tmp_path / "damaged.npz")):
        error_of(train, replace(trained, data=data))
        assert tree(trained.out) == before


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.touch(), lambda path: path.symlink_to("nowhere")])
def test_what_cannot_hold_the_scalars_is_told_before_anything_is_removed(trained: TrainSentiment, make: Callable):
    shutil.rmtree(trained.out / "tensorboard")
    make(trained.out / "tensorboard")
    (trained.out / "last.pt").unlink()
    before = sorted(os.listdir(trained.out))
    assert error_of(train, trained).endswith("take it away, or choose another --out")
    assert sorted(os.listdir(trained.out)) == before


@pytest.mark.parametrize("name", ["config.yaml", "splits.json", "metrics.jsonl", "best.pt", "last.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_cannot_be_replaced_is_told_before_anything_is_removed(trained: TrainSentiment, name: str, make: Callable):
    (trained.out / name).unlink()
    make(trained.out / name)
    (trained.out / "last.pt").unlink()
    before = sorted(os.listdir(trained.out))
    assert f"{name}: is a " in error_of(train, trained)
    assert sorted(os.listdir(trained.out)) == before


def test_nothing_is_removed_while_an_evaluation_writes_there(trained: TrainSentiment):
    (trained.out / "last.pt").unlink()
    evaluate_run(trained.out)
    before = tree(trained.out)
    with locked(trained.out / "evaluation"):
        assert f"{trained.out / 'evaluation'}: in use by" in error_of(train, trained)
    assert tree(trained.out) == before


def test_two_evaluations_do_not_write_into_one_folder(trained: TrainSentiment):
    evaluate_run(trained.out)
    results = trained.out / "evaluation"
    before = tree(results)
    with locked(results):
        assert f"{results}: in use by process {os.getpid()} on" in error_of(evaluate_run, trained.out)
        train(replace(trained, resume=True))  # nothing is left to train, but it may go on
    assert tree(results) == before


def test_a_killed_evaluation_of_other_data_leaves_their_folder_to_the_next(trained: TrainSentiment, tmp_path: Path):
    write(trained.out / "evaluation/mosi" / LOCK)
    assert results_folder(trained.out, write(tmp_path / "mosi.npz")).name == "mosi"
    write(trained.out / "evaluation/mosi/table.csv")
    assert results_folder(trained.out, write(tmp_path / "mosi.npz")).name == "mosi-2"


# ---- runs of before there was a mark ----


def test_a_run_of_before_is_known_and_marked_when_it_goes_on(trained: TrainSentiment):
    (trained.out / MARK).unlink()
    assert why_unknown(trained.out) is None
    evaluate_run(trained.out)
    assert "already holds a run; go on with it by --resume" in error_of(train, trained)
    assert not (trained.out / MARK).exists()
    train(replace(trained, resume=True))
    assert (trained.out / MARK).exists()
    (trained.out / MARK).unlink()
    (trained.out / "last.pt").unlink()
    train(trained)
    assert (trained.out / MARK).exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", "x", "config.yaml: "),
        ("config.yaml", "task: sentiment", "config.yaml: "),
        ("splits.json", "{}", "splits.json: "),
        ("splits.json", '{"train": [1], "validation": [], "test": []}', "splits.json: "),
        ("metrics.jsonl", "x\n", "metrics.jsonl: "),
        ("metrics.jsonl", '{"kind": "note"}\n', "metrics.jsonl: "),
        ("metrics.jsonl", "[" * 100_000 + "\n", "metrics.jsonl: "),
        ("metrics.jsonl", None, "it has no gmd_run.json)"),
    ],
)
def test_a_run_of_before_is_known_by_all_of_its_files(
    trained: TrainSentiment, name: str, content: str | None, says: str
):
    (trained.out / MARK).unlink()
    (trained.out / name).unlink()
    if content is not None:
        write(trained.out / name, content)
    before = tree(trained.out)
    for resume in (False, True):
        said = error_of(train, replace(trained, resume=resume))
        assert f"is not the folder of a run (it has no {MARK}" in said
        assert says in said
    assert tree(trained.out) == before


@pytest.mark.parametrize("name", ["config.yaml", "splits.json", "metrics.jsonl"])
def test_no_pipe_is_waited_for(trained: TrainSentiment, name: str):
    (trained.out / MARK).unlink()
    (trained.out / name).unlink()
    os.mkfifo(trained.out / name)
    assert f"{name}: is a named pipe" in error_of(train, trained)


# ---- resumed runs of somebody else ----


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_metrics_are_not_cut_or_lengthened_through_a_link(
    trained: TrainSentiment, tmp_path: Path, link, monkeypatch: pytest.MonkeyPatch
):
    """As in a run that was copied by `cp -al`, or one that is kept by git-annex."""
    run, victim = trained.out, tmp_path / "victim"
    (run / "metrics.jsonl").rename(victim)
    link(victim, run / "metrics.jsonl")
    before = victim.read_bytes()
    train(replace(trained, resume=True))
    assert (run / "metrics.jsonl").read_bytes() == before
    write(run / "metrics.jsonl", before.decode() + '{"kind": "st')
    assert victim.read_bytes() == before


def test_metrics_that_lead_to_nothing_make_no_file_there(trained: TrainSentiment, tmp_path: Path):
    (trained.out / "metrics.jsonl").unlink()
    (trained.out / "metrics.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    train(replace(trained, resume=True))
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_what_earlier_versions_left_unfinished_goes_and_no_link_is_followed(trained: TrainSentiment, tmp_path: Path):
    """A bug: a checkpoint was written through last.pt.tmp, whatever that led to."""
    victim = write(tmp_path / "victim")
    for name in ("last.pt.tmp", "best.safetensors.tmp"):
        (trained.out / name).symlink_to(victim)
    write(trained.out / "best.pt.tmp")
    kept = write(trained.out / "notes.tmp")
    train(replace(trained, resume=True))
    assert victim.read_text() == "somebody's"
    assert list(trained.out.glob("*.tmp")) == [kept]


# ---- folds ----


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a training of each fold there is its mark and its checkpoint."""

    def begin(config: TrainBrats) -> Path:
        check_folder(config)
        open_run(config, {split: [] for split in ("train", "validation", "test")})
        return write(config.out / "last.pt").parent

    monkeypatch.setattr(gmd.training.folds, "train", begin)


@pytest.mark.parametrize(
    "name", ["report.html", "evaluation/thesis.csv", "config.yaml", "fold1/config.yaml", "fold0/last.pt", MARK]
)
def test_folds_spare_what_somebody_has_there(unread: TrainBrats, name: str):
    write(unread.out / name)
    before = tree(unread.out)
    for resume in (False, True):
        said = error_of(train_folds, replace(unread, folds=2, resume=resume))
        assert "which training would overwrite or remove, but it is not the folder of a run" in said
    assert tree(unread.out) == before


def test_folds_that_begin_anew_show_no_scores_of_the_old_ones(config: TrainBrats, begun: None):
    folds = replace(config, folds=2)
    train_folds(folds)
    assert why_unknown(config.out) is None
    kept = [write(config.out / name) for name in ("evaluation/thesis.csv", "notes.txt")]
    gone = [write(config.out / name) for name in ("evaluation/cases.csv", "report.html")]
    kept.append(write(config.out / "view_x.html"))
    gone.append(write(config.out / "view_case 1.html", f"{PAGE_MARK}its voxels"))
    train_folds(replace(folds, resume=True))
    assert all(path.exists() for path in [*kept, *gone])
    for fold in range(2):
        (config.out / f"fold{fold}/last.pt").unlink()
    train_folds(folds)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert LOCK not in os.listdir(config.out)


def test_folds_of_before_are_known_by_one_that_is(config: TrainBrats, begun: None):
    folds = replace(config, folds=2)
    train_folds(folds)
    (config.out / MARK).unlink()
    report = write(config.out / "report.html")
    train_folds(replace(folds, resume=True))
    assert (config.out / MARK).exists()
    (config.out / MARK).unlink()
    for fold in range(2):
        (config.out / f"fold{fold}/last.pt").unlink()
    assert f"{config.out}: holds report.html, which" in error_of(train_folds, folds)
    assert report.exists()


def test_two_do_not_train_the_same_folds(unread: TrainBrats):
    with locked(unread.out):
        assert "in use by" in error_of(train_folds, replace(unread, folds=2))


def test_where_folds_are_is_no_run_by_itself(config: TrainBrats, begun: None):
    train_folds(replace(config, folds=2))
    assert f"{config.out}: holds folds, as fold" in error_of(train, config)


def test_the_command_says_so_in_one_line(tmp_path: Path, phantoms: Path, capsys: pytest.CaptureFixture):
    write(tmp_path / "f/config.yaml", "x\n")
    assert gmd.cli.main(["train", "brats", "--data", str(phantoms), "--out", str(tmp_path / "f")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"gmd: error: {tmp_path / 'f'}: holds config.yaml, which training would" in line


def test_a_mark_is_written_once(tmp_path: Path):
    write_mark(tmp_path)
    first = (tmp_path / MARK).read_text()
    write_mark(tmp_path)
    assert (tmp_path / MARK).read_text() == first


def test_errors_of_users_are_all_there_are(tmp_path: Path):
    """Whatever lies in a folder, looking at it raises nothing."""
    for name in ("config.yaml", "splits.json", "metrics.jsonl"):
        (tmp_path / name).symlink_to(tmp_path / name)  # in a circle
    assert why_unknown(tmp_path).startswith(f"it has no {MARK}, and ")
    with pytest.raises(UserError):
        check_folder(TrainBrats(data=tmp_path / "data", out=tmp_path))
