"""The report shows what a run's folder holds, of every kind of run, and shows as text whatever stands there."""

import base64
import io
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gmd.config import TrainBrats, TrainConfig, TrainDigits, TrainSentiment
from gmd.errors import UserError
from gmd.report import write_report
from gmd.report.configuration import command, options
from gmd.report.conflicts import gradient_conflicts
from gmd.report.downsampling import DownsampledSeries
from gmd.report.facts import Fact
from gmd.report.history import MATRICES, POINTS, History, read_history
from gmd.report.page import OF_A_RUN
from gmd.report.resources import resources
from gmd.report.subset_table import Cell, read_table
from gmd.report.svg_plot import Line, Style, make_plot
from gmd.subsets import all_subsets, subset_name
from helpers.report_cases import START, Page, brats, epoch, step, trained, write_run, write_table

MODALITIES = ("flair", "t1")


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def embedded(run: Path) -> dict:
    text = (run / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="conflict-data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_sentences_that_cannot_be_read_cost_no_report(tmp_path: Path, make: Callable, capsys: pytest.CaptureFixture):
    run = write_run(tmp_path, brats(), trained())
    make(run / "dominance.txt")
    assert page_of(run).text()
    assert "gmd: the report lacks a sentence: " in capsys.readouterr().err


def test_a_trained_and_evaluated_run_has_everything(tmp_path: Path):
    run = write_run(tmp_path, brats(), trained())
    figures = write_table(run)
    (run / "dominance.txt").write_text("t1 dominates.\nMeasured: so and so.\n")
    page = page_of(run)
    assert all(page.section(section.id) for section in OF_A_RUN)
    text = page.text()
    for row in figures:
        assert all(figure in text for figure in (f"{row[0]:.3f}", f"{row[1]:.1f}", f"{row[2]:.3f}"))
    values = [float(attributes["data-value"]) for _, attributes in page.elements if "data-value" in attributes]
    assert values == [value for row in figures for value in row], "sorting and programs get all digits"
    assert "Hard Dice, mean over 5 cases. Colours" in text
    assert "HD95 in mm: the rule." in text.partition("○ missing")[2], "below the table"
    assert "HD95 WT, mm" in text
    assert "worst subset 0.750 flair" in text, "small subsets score least here"
    assert "all 2 modalities 0.781" in text
    assert "best validation 0.750 hard Dice, epoch 2" in text
    assert "Trained for all 2 epochs." in text
    assert "t1 dominates." in text
    assert "not recorded" not in text
    for known in ("4,321 MB", "a processor of 2 cores", "1,234,567", "gmd 0.1.0, torch 2.13.0", "3 min", "90 s"):
        assert known in text.replace("2 min", "90 s"), known


def test_nothing_comes_from_elsewhere(tmp_path: Path):
    run = write_run(tmp_path, brats(), trained())
    write_table(run)
    matplotlib.image.imsave(run / "evaluation" / "case_worst.png", np.zeros((40, 60, 3)))
    page = page_of(run)
    links = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert sum(link.startswith("data:image/webp") for link in links) == 1, "the picture of the case"
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")


EVIL = "</script><script>alert(1)</script>"


def test_what_stands_in_the_files_is_shown_as_text(tmp_path: Path):
    """Names of cases, of modalities and of folders, and the words of other files."""
    modalities = (f"t1{EVIL}", "<b>flair")
    config = TrainBrats(data=Path(f"<img src=x>{EVIL}"), modalities=modalities, epochs=1)
    names = tuple(map(subset_name, all_subsets(modalities)))
    lines = [step(1, names=names), epoch(1, metrics={EVIL: 0.5}), START | {"device": EVIL}]
    run = write_run(tmp_path / "<i>run", config, lines, {"train": [{"name": EVIL, "patient": EVIL}]})
    write_table(run, modalities)
    (run / "evaluation" / "table.md").write_text(EVIL)
    (run / "dominance.txt").write_text(EVIL)
    page = page_of(run)
    assert sum(tag == "script" for tag, _ in page.elements) == 2, "the page's own, and its data"
    assert not any(tag == "i" and not attributes for tag, attributes in page.elements)
    assert not any(attributes.get("src") == "x" for _, attributes in page.elements)
    assert page.text().count("alert(1)") >= 6, "all of them are shown"
    assert embedded(run)["names"] == list(names)


def test_an_untrained_run_says_what_to_do(tmp_path: Path):
    text = page_of(write_run(tmp_path, brats())).text()
    assert "0 of 2 epochs are finished" in text
    assert "--resume" in text
    assert "No step has been recorded yet" in text
    assert f"gmd evaluate {tmp_path}" in text
    assert "not recorded" in text


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path):
    run = write_run(tmp_path, brats(), [step(1), epoch(1, 0.5), step(2, 2)])
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps(step(3, 2))[:100])
    assert "1 of 2 epochs are finished" in page_of(run).text()
    assert read_history(run, MODALITIES).steps == 2


def test_a_damaged_line_is_named(tmp_path: Path):
    cosines = json.dumps(step(2) | {"cosines": [[1.0]]})
    score = json.dumps(epoch(1) | {"validation": "high"})
    for damage in ('{"kind": "st', "{}", cosines, "[]", score, '{"kind": "step", "epoch": 1}', "\x00"):
        run = write_run(tmp_path, brats(), [step(1), step(2)])
        lines = (run / "metrics.jsonl").read_text().splitlines()
        (run / "metrics.jsonl").write_text("\n".join([lines[0], damage, lines[1]]) + "\n")
        with pytest.raises(UserError, match=r"metrics\.jsonl: line 2: not a line that gmd train writes"):
            write_report(run)
        assert not (run / "report.html").exists()


def test_no_run_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="not the folder of a run"):
        write_report(tmp_path)


def test_other_data_have_tables_of_their_own(tmp_path: Path):
    """Only the run's own test cases make headlines."""
    run = write_run(tmp_path, brats(), trained())
    write_table(run, cells=(0.5, 1.5, 0.5))
    (run / "evaluation").rename(run / "other")
    (run / "evaluation").mkdir()
    (run / "other").rename(run / "evaluation" / "other hospital")
    text = page_of(run).text()
    assert "other hospital/table.csv" in text
    assert "0.531" in text, "the highest of it"
    assert "worst subset" not in text
    assert "Not evaluated yet" not in text


def test_a_picture_has_all_of_its_pixels(tmp_path: Path):
    """At a click; else as many as there is room for, but never so few that its letters, 11 pixels high, are lost."""
    run = write_run(tmp_path, brats(), trained())
    path = run / "evaluation" / "case_best.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, dpi=(200, 200))
    page = page_of(run)
    shown = next(attributes for tag, attributes in page.elements if tag == "img" and "webp" in attributes["src"])
    with Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    assert (shown["width"], shown["height"]) == ("600", "300")
    assert shown["style"] == "--least: 183px; --whole: 600px"
    assert "Show all 600 \u00d7 300 pixels" in page.text()
    box = next(attributes for tag, attributes in page.elements if attributes.get("type") == "checkbox")
    labels = [attributes["for"] for tag, attributes in page.elements if tag == "label"]
    assert labels == [box["id"]] * 2, "the words, and the picture itself"


def test_a_damaged_picture_is_left_out_and_told(tmp_path: Path):
    run = write_run(tmp_path, brats(), trained())
    path = run / "evaluation" / "case_best.png"
    path.parent.mkdir()
    matplotlib.image.imsave(path, np.random.default_rng(0).random((40, 60, 3)))
    whole = path.read_bytes()
    jpeg, bomb = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "jpeg")
    Image.new("1", (14_000, 14_000)).save(bomb, "png")
    texts = PngInfo()
    texts.add_text("bomb", "0" * 10**7, zip=True)
    text = io.BytesIO()
    Image.new("RGB", (8, 8)).save(text, "png", pnginfo=texts)
    cut = (b"", whole[:3000], whole[:2000] + b"damage" + whole[2006:])
    for damaged in (*cut, jpeg.getvalue(), bomb.getvalue(), text.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        path.write_bytes(damaged)
        page = page_of(run)
        assert "case_best.png cannot be shown: not a picture, or damaged" in page.text()
        assert not any(attributes.get("src", "").startswith("data:image/webp") for _, attributes in page.elements)
        assert "There are no pictures of cases" not in page.text()
    path.unlink()
    os.mkfifo(path)
    assert "case_best.png is a named pipe" in page_of(run).text().replace(f"{path}:", path.name)


def test_a_table_of_something_else_is_an_error(tmp_path: Path):
    run = write_run(tmp_path, brats(), trained())
    write_table(run, ("flair", "t2"))
    with pytest.raises(UserError, match=r"table\.csv: its columns are subset, flair, t2.* expected subset, flair, t1"):
        write_report(run)


@pytest.mark.parametrize("classes", [None, ["zero", "one"]])
def test_runs_on_sequences(tmp_path: Path, classes: list[str] | None):
    kind = TrainDigits if classes else TrainSentiment
    config = kind(data=Path("data.npz"), modalities=("audio", "image"), epochs=1, method="mla", network="branches")
    score = "accuracy" if classes else "Acc-2 neg/non-neg"
    lines = [step(1, cosine=None, names=("audio", "image")), epoch(1, 0.625, metrics={score: 0.625, "MAE": 1.5})]
    about = {"features": {"audio": 3, "image": 64}, "classes": classes, "per_step": False}
    run = write_run(tmp_path, config, lines, {"about": about, "notes": ["two samples are left out"]})
    page = page_of(run)
    assert [section.id for section in OF_A_RUN if not page.section(section.id)] == ["cases"], "there are no pictures"
    text = page.text()
    assert f"best validation 0.625 {score}, epoch 1" in text
    assert "The method mla makes one gradient a step" in text
    assert "two samples are left out" in text
    assert "audio 3, image 64" in text


def test_a_method_with_one_gradient_has_no_matrix(tmp_path: Path):
    lines = [step(1, cosine=None, names=("flair+t1",)), epoch(1)]
    page = page_of(write_run(tmp_path, brats(method="joint"), lines))
    assert "The method joint makes one gradient a step" in page.text()
    assert not page.section("conflict-data")


def test_steps_that_were_skipped_leave_gaps_and_are_counted(tmp_path: Path):
    skipped = step(2, cosine=None) | {"finite": False, "loss": None, "dominance": None}
    skipped["losses"] = dict.fromkeys(skipped["losses"])
    run = write_run(tmp_path, brats(), [step(1), skipped, step(3), epoch(1)])
    assert "1 of 3 steps were skipped" in page_of(run).text()
    steps, losses = read_history(run, MODALITIES).series(("loss",))
    np.testing.assert_array_equal(steps, [1, 2, 3])
    np.testing.assert_array_equal(losses, [1, np.nan, 1])


def test_a_run_that_lost_patience_is_over(tmp_path: Path):
    lines = [line for e in range(1, 5) for line in (step(e, e), epoch(e, 0.5))]
    ended = replace(brats(patience=3), epochs=50)
    assert "Ended by --patience 3 after 4 of 50 epochs" in page_of(write_run(tmp_path, ended, lines)).text()
    patient = replace(ended, patience=4)
    assert "4 of 50 epochs are finished" in page_of(write_run(tmp_path, patient, lines)).text()


def test_scores_that_are_no_numbers_are_out_of_patience_too(tmp_path: Path):
    """A bug: NaN is null in the metrics, as is the score of an epoch that was not validated; both counted as that."""
    nan, ended = {"metrics": {"WT": None}}, replace(brats(patience=3), epochs=50)
    lost = [line for e in range(1, 4) for line in (step(e, e), epoch(e, None, **nan))]
    assert "Ended by --patience 3 after 3 of 50 epochs" in page_of(write_run(tmp_path, ended, lost)).text()
    lines = [epoch(1, 0.5), epoch(2, None), epoch(3, None, **nan), epoch(4, 0.5)]
    assert "4 of 50 epochs are finished" in page_of(write_run(tmp_path, ended, lines)).text()
    lines += [epoch(5, None, **nan)]
    assert "Ended by --patience 3 after 5 of 50 epochs" in page_of(write_run(tmp_path, ended, lines)).text()


def test_a_cpus_peak_is_that_of_the_process():
    """Which in a cross-validation has trained the folds before, too; of a GPU it is that of the training."""
    for device, told in (("CPU (some, 2 cores)", "4,321 MB of the process"), ("Some GPU", "4,321 MB")):
        history = History(MODALITIES)
        for line in (START | {"device": device}, epoch(1, memory_MB=4321.0)):
            history.add(line)
        assert Fact("Peak memory", told) in resources(history)


def test_patients_and_the_fold(tmp_path: Path):
    cases = [{"name": "a-1", "patient": "a"}, {"name": "a-2", "patient": "a"}, {"name": "b-1", "patient": "b"}]
    run = write_run(tmp_path, brats(folds=5, fold=2), trained(), {"train": cases, "folds": 5, "fold": 2})
    text = page_of(run).text()
    assert "3 cases of 2 patients" in text
    assert "2 of 5, counted from 0" in text


def test_a_cross_validation_is_shown_together(tmp_path: Path):
    for fold, score in enumerate((0.25, 0.75)):
        lines = [step(1), epoch(1, score), step(2, 2), epoch(2, None)]
        write_run(tmp_path / f"fold{fold}", brats(folds=2, fold=fold), lines, {"folds": 2, "fold": fold})
    write_table(tmp_path)
    page = page_of(tmp_path)
    text = page.text()
    assert "Cross-validation: 2 of 2 folds are here." in text
    assert "best validation 0.500 hard Dice, mean of the folds" in text
    assert "0.250, epoch 1" in text
    assert "0.750, epoch 1" in text
    assert "mean of 3 subsets" in text
    assert f"--out {tmp_path} --modalities flair t1" in text
    assert "--folds 2" in text
    assert "--fold " not in text, "all of them"
    assert "1 of 2, counted from 0" in Page((tmp_path / "fold1" / "report.html").read_text()).text()


@pytest.mark.parametrize("config", [brats(), TrainSentiment(data=Path("mosi.npz"))], ids=["brats", "sentiment"])
def test_runs_that_are_only_called_folds_are_no_cross_validation(tmp_path: Path, config: TrainConfig):
    """A bug: of sequences a TypeError, since they have no option --fold; of brats a page on "2 of None folds"."""
    for fold in range(2):
        write_run(tmp_path / f"fold{fold}", config, splits={"about": {"classes": None}})
    with pytest.raises(UserError, match=f"fold0: was trained on {config.TASK} as a run by itself, expected a fold"):
        write_report(tmp_path)
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize(
    "config",
    [
        brats(deterministic=True, patience=3, folds=5, fold=0, patch=(32, 32, 48), resume=True),
        TrainBrats(data=Path("a folder's"), patterns=("flair=*f *.nii", "seg=s.nii"), labels="binary"),
        TrainSentiment(data=Path("mosi.npz"), target="sign", missing=("0.3",), method="cggm", rho=0.5, network="late"),
        TrainDigits(data=Path("fsdd.npz"), method="mla", network="branches", alpha=2.0),
    ],
)
def test_the_command_makes_the_run_again(config):
    import shlex

    words = shlex.split(command(config))
    assert words[:3] == ["gmd", "train", config.TASK]
    assert tyro.cli(type(config), args=words[3:]) == replace(config, resume=False)


def test_options_that_differ_come_first():
    told = options(brats(lr=0.5))
    changed = [option.name for option in told if option.changed]
    assert changed == ["data", "modalities", "epochs", "lr"], "data has no default"
    assert [option.name for option in told[: len(changed)]] == changed
    assert {option.name: option.value for option in told}["patience"] == "not set"


def test_a_matrix_is_a_mean_over_an_epoch_and_goes_by_the_names_of_its_losses(tmp_path: Path):
    run = write_run(tmp_path, brats(), trained())
    write_report(run)
    data = embedded(run)
    assert data["names"] == ["flair", "t1", "flair+t1"]
    assert data["when"] == ["epoch 1", "epoch 2"]
    assert data["frames"] == [[25, 25, 25], [-38, -38, -38]]
    other = History(MODALITIES)
    other.add(step(1, names=("flair+t1", "t1"), cosine=0.5))
    found = gradient_conflicts(other)
    assert (found.names, found.frames) == (["t1", "flair+t1"], [[50]])


@settings(max_examples=40)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.integers(1, 6))
def test_thinning_keeps_means_and_places(values: list[float], half: int):
    series = DownsampledSeries(2 * half)
    for place, value in enumerate(values, start=1):
        series.add(place, np.array([value, np.nan]))
    assert len(series.bins) <= 2 * half
    assert len(series.bins) > half or len(values) <= half
    assert [series.bins[0].first, series.bins[-1].last] == [1, len(values)]
    covered = [place for one in series.bins for place in range(one.first, one.last + 1)]
    assert covered == list(range(1, len(values) + 1))
    for one in series.bins:
        np.testing.assert_allclose(one.mean(), [np.mean(values[one.first - 1 : one.last]), np.nan], atol=1e-9)


def test_thinning_takes_what_comes_later():
    series = DownsampledSeries(2)
    for place in range(1, 6):
        series.add(place, np.arange(float(place)))
    steps, table = series.table()
    np.testing.assert_array_equal(steps, [2.5, 5])
    np.testing.assert_array_equal(table[0], [0, 1, 2, 3, np.nan])


def test_a_long_training_is_read_in_little_memory(tmp_path: Path):
    """Lines of 4 modalities, 15 objectives; what is kept does not grow with them."""
    modalities = ("flair", "t1", "t1ce", "t2")
    names = [subset_name(subset) for subset in all_subsets(modalities)]
    text = json.dumps(step(7, names=tuple(names)))
    path = tmp_path / "metrics.jsonl"
    with open(path, "w") as file:
        for number in range(1, 701):
            file.write(
                text.replace('"step": 7', f'"step": {number}').replace('"epoch": 1', f'"epoch": {number}') + "\n"
            )
    tracemalloc.start()
    history = read_history(tmp_path, modalities)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert history.steps == 700
    assert MATRICES // 2 < len(history.cosines.bins) <= MATRICES
    assert POINTS // 2 < len(history.curves.bins) <= POINTS
    assert peak < 2e6, "the lines as Python has them take 6 MB"


def test_a_heat_map_goes_from_the_worst_to_the_best(tmp_path: Path):
    """For distances the smallest is best; and what is written stands out from its background."""
    write_table(write_run(tmp_path, brats()), cells=(0.25, 12.5, 0.75))
    rows = read_table(tmp_path / "evaluation", MODALITIES).rows
    dice, distance = ([row.cells[column].colour for row in rows] for column in (0, 1))
    assert dice[0] == distance[2] != dice[2] == distance[0]
    for row in rows:
        for cell in row.cells:
            assert contrast(cell.colour, cell.ink) >= 4.5, "WCAG AA"


def test_a_column_of_equals_has_no_colour(tmp_path: Path):
    """All 0 is not all best."""
    run = write_run(tmp_path, brats())
    write_table(run)
    path = run / "evaluation" / "table.csv"
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join([lines[0] + ",mean", *(line + ",0.0" for line in lines[1:])]) + "\n")
    cells = [row.cells for row in read_table(run / "evaluation", MODALITIES).rows]
    assert {row[2] for row in cells} == {Cell(0.0, "0.000")}
    assert all(row[0].colour for row in cells)


def contrast(a: str, b: str) -> float:
    """Of two hexadecimal colours, as WCAG defines it."""
    luminances = []
    for colour in (a, b):
        full = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        linear = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in (int(full[place : place + 2], 16) / 255 for place in (0, 2, 4))
        ]
        luminances.append(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def test_absent_subsets_keep_their_rows(tmp_path: Path):
    run = write_run(tmp_path, brats())
    write_table(run)
    path = run / "evaluation" / "table.csv"
    lines = path.read_text().splitlines()
    lines[2] = "t1,0,1,0,absent,absent,absent"
    path.write_text("\n".join(lines) + "\n")
    table = read_table(run / "evaluation", MODALITIES)
    assert [row.label for row in table.subsets()] == ["flair+t1", "flair"], "best first"
    text = page_of(run).text()
    assert "absent absent absent" in text
    assert "mean of 2 subsets" in text


def test_a_plot_goes_through_its_points_and_leaves_gaps():
    x, y = np.array([0.0, 5.0, 10.0]), np.array([0.0, np.nan, 1.0])
    plot = make_plot("title", [Line(x, y, Style("red"), "a")])
    assert plot.paths[0][1] == "M0 1000h0M1000 0h0", "dots, with nothing between"
    assert (plot.x_range, plot.y_range) == ((0, 10), (0, 1))
    assert [tick.place for tick in plot.y_ticks] == pytest.approx([20 * n for n in range(6)])
    assert make_plot("title", [Line(x, np.full(3, np.nan), Style("red"))]) is None
    level = make_plot("title", [Line(x[:1], np.array([3.0]), Style("red"))])
    assert level.y_range[0] < 3 < level.y_range[1]
    assert [tick.text for tick in level.x_ticks] == ["-1", "0", "1"], "steps are whole"
