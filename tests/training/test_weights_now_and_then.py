"""Trainings that take weights now and then: records, resumes, checkpoints, pages, and what cannot be asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gmd.config import TASKS, TrainBrats, TrainSentiment, config_from_dict
from gmd.errors import UserError
from gmd.monitor.metrics_file import METRICS
from gmd.report.history import read_history
from gmd.report.page import write_report
from gmd.surgery import GMD, Surgeon
from gmd.training.checked_state import check_state
from gmd.training.checkpoint import load_checkpoint, save_checkpoint
from gmd.training.loop import train
from gmd.training.messages import EpochMeans
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import open_task
from helpers.changed_state import changed
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import equal, read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

PACED: list[dict[str, Any]] = [
    {"every": 4},
    {"every": "auto"},
    {"every": 3, "fraction": 0.3},
    {"every": 2, "tol": 0.1},
    {"every": 4, "method": "cggm-gmd"},
    {"every": 3, "method": "surgery", "weighting": "gradvac", "weighting_options": ("smooth=0.5",)},
    {"method": "surgery", "weighting": "gradvac", "granularity": "module", "weighting_options": ("smooth=0.5",)},
    {"method": "dropout"},
    {"every": 3, "accumulate": 2},
    {"method": "surgery", "weighting": "pcd", "every": 2, "weighting_options": ("tau=0.1", "smooth=0.5")},
    *({"method": "scalarised", "weighting": rule} for rule in ("stch", "famo", "dwa", "uw", "rlw", "gls")),
]


def steps(training: Training, task: Any, first: int, count: int) -> list[dict]:
    """Weights and losses of some steps, each on another batch, whose modalities differ."""
    found = []
    for step in range(first, first + count):
        [turn] = train_step(training, task, *next(iter(task.batches(step))))
        report = turn.report
        found.append({"losses": report.losses, "weights": report.weights, "age": report.age, "names": turn.subsets})
    return found


@pytest.mark.parametrize("options", PACED, ids=str)
def test_what_goes_on_in_the_middle_of_an_interval_ends_with_the_same_bits(
    sentiment: Path, tmp_path: Path, options: dict
):
    task = open_task(replace(tiny_sentiment(sentiment, tmp_path), batch=8, missing=("0.5",), **options))
    straight = Training.prepare(task)
    steps(straight, task, 0, 5)
    save_checkpoint(tmp_path / "last.pt", straight.state_dict() | {"config": {}})
    expected = steps(straight, task, 5, 6)
    resumed = Training.prepare(task)
    resumed.epochs, resumed.steps = 0, 0
    state = load_checkpoint(tmp_path / "last.pt")
    check_state(state, resumed, 5, tmp_path / "last.pt")
    resumed.load_state_dict(state)
    assert equal(expected, steps(resumed, task, 5, 6))
    assert equal(straight.network.state_dict(), resumed.network.state_dict())
    if options.get("every", 1) != 1:
        assert {step["age"] for step in expected} > {0}


def test_options_arrive(sentiment: Path, tmp_path: Path):
    config = tiny_sentiment(sentiment, tmp_path)
    surgeon = Training.prepare(open_task(replace(config, every="auto", tol=0.25))).surgeon
    assert type(surgeon) is GMD
    assert (surgeon.every, surgeon.tol) == ("auto", 0.25)
    inner = Training.prepare(open_task(replace(config, every=8, method="cggm-gmd"))).surgeon.surgeon
    assert inner.every == 8
    options = {"weighting": "cagrad", "weighting_options": ("c=0.75", "smooth=0.5"), "every": 8}
    training = Training.prepare(open_task(replace(config, method="surgery", **options)))
    assert type(training.surgeon) is Surgeon
    weighting = training.surgeon._weighting
    assert (weighting.name, weighting.options, weighting.smooth) == ("cagrad", {"c": 0.75}, 0.5)
    drawing = Training.prepare(open_task(replace(config, method="surgery", weighting="pcgrad")))
    assert drawing.surgeon._weighting.generator is drawing.generator
    primary = Training.prepare(open_task(replace(config, method="surgery", weighting="pcd")))
    assert primary.surgeon._weighting.options == {"primary": -1}, "the objective of the most modalities comes last"


def test_a_part_of_the_batch_is_run_at_a_refresh_only(sentiment: Path, tmp_path: Path):
    task = open_task(replace(tiny_sentiment(sentiment, tmp_path), missing=(), every=3, fraction=0.25))
    training, rows = Training.prepare(task), []
    training.network.inputs[0].register_forward_hook(lambda *given: rows.append(len(given[-1])))
    steps(training, task, 0, 4)
    assert rows == [16, 4, 16, 16, 16, 4]
    whole = open_task(replace(task.config, missing=("0.8",), batch=2))
    training, rows[:] = Training.prepare(whole), []
    training.network.inputs[0].register_forward_hook(lambda *given: rows.append(len(given[-1])))
    steps(training, whole, 0, 1)
    assert len(rows) <= 1, "a part that is the whole batch is not run again"


def test_steps_between_say_what_is_known_of_them(sentiment: Path, tmp_path: Path):
    run = train(replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, missing=(), every=3, tol=0.1))
    lines = read_metrics(run, "step")
    assert [(line["refreshed"], line["age"]) for line in lines] == [(s % 3 == 0, s % 3) for s in range(8)]
    for line in lines:
        assert (line["conflicts"] is None) == (line["cosines"] is None) == (not line["refreshed"])
        assert (line["directions"] is None) == (not line["refreshed"])
        told = line["dominance"]
        assert bool(told["norms"]) == ("objective norm" in told["modality"]) == line["refreshed"]
        assert (told["projected"] is None) == (not line["refreshed"])
        assert set(told["modality"]["gradient norm"]) == {"text", "audio", "vision"}
        assert len(told["weights"]) == 7
    history = read_history(run, ("text", "audio", "vision"))
    assert (history.paced, history.refreshed) == (8, 3)
    for key in (("conflicts",), ("projected",), ("modality", "objective norm", "text")):
        at, values = history.series(key)
        assert at.tolist() == [1, 4, 7]
        assert not any(value != value for value in values)
    assert len(history.series(("loss",))[0]) == len(history.series(("modality", "gradient norm", "text"))[0]) == 8
    page = " ".join(write_report(run).read_text(encoding="utf-8").split())
    assert "The weights were taken at 3 of 8 steps, every 2.7 steps on average" in page


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_segmentation_takes_weights_now_and_then(config: TrainBrats, precision: str):
    """With all options that meet in a step, in each precision: a number comes out, and the ages are right."""
    task = open_task(replace(config, batch=2, every=2, fraction=0.5, clip=1.0, precision=precision))
    training = Training.prepare(task)
    found = steps(training, task, 0, 3)
    assert [step["age"] for step in found] == [0, 1, 0]
    assert all(step["losses"].isfinite().all() for step in found)
    assert all(param.isfinite().all() for param in training.network.parameters())


def test_every_step_is_recorded_as_ever(sentiment: Path, tmp_path: Path):
    run = train(replace(tiny_sentiment(sentiment, tmp_path / "run"), epochs=1))
    assert not any(key in line for line in read_metrics(run, "step") for key in ("refreshed", "age", "failures"))
    assert "weights were taken" not in write_report(run).read_text(encoding="utf-8")


def test_the_line_of_an_epoch_tells_how_often_weights_were_taken(sentiment: Path, tmp_path: Path):
    config, means = replace(tiny_sentiment(sentiment, tmp_path), every=2, tol=0.1), EpochMeans()
    seen = {"finite": True, "loss": 1.0, "conflicts": 0.5, "directions": [1, 3], "refreshed": True}
    between = seen | {"conflicts": None, "directions": None, "refreshed": False}
    for record in (seen, between, between):
        means.add(record, config, 0)
    assert means.text == "loss 1.000, conflicts 50 %, directions 2.0, weights taken at 1 of 3 steps"


# ---- checkpoints ----


@pytest.mark.parametrize("method", ["gmd", "cggm-gmd"])
def test_checkpoints_from_before_a_gmd_had_a_state_go_on(sentiment: Path, tmp_path: Path, method: str):
    task = open_task(replace(tiny_sentiment(sentiment, tmp_path), batch=8, method=method))
    straight = Training.prepare(task)
    steps(straight, task, 0, 2)
    save_checkpoint(tmp_path / "last.pt", straight.state_dict() | {"config": {}})
    state = load_checkpoint(tmp_path / "last.pt")
    del (state if method == "gmd" else state["surgeon"])["surgeon"]
    expected, resumed = steps(straight, task, 2, 4), Training.prepare(task)
    state = resumed.completed(state)
    check_state(state, resumed, 5, tmp_path / "last.pt")
    resumed.load_state_dict(state)
    assert equal(expected, steps(resumed, task, 2, 4))


@pytest.fixture(scope="module")
def paced(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict]:
    """A task of a surgeon with the most to remember, and the state of a training of it."""
    options = {"method": "surgery", "weighting": "gradvac", "every": 3, "weighting_options": ("smooth=0.5",)}
    config = replace(tiny_sentiment(sentiment, tmp_path_factory.mktemp("run")), batch=8, missing=("0.5",), **options)
    task = open_task(config)
    training = Training.prepare(task)
    steps(training, task, 0, 5)
    return task, training.state_dict()


NUMBERS = torch.zeros(7, dtype=torch.float64)
WRONG = [
    ("schedule", {}),
    ("schedule/every", 4),
    ("schedule/steps", -1),
    ("schedule/steps", 2.0),
    ("schedule/failures", None),
    ("schedule/params", [0, 0]),
    ("schedule/params", [99999]),
    ("schedule/sets", {}),
    ("schedule/sets/0", {}),
    ("schedule/sets/0/names", []),
    ("schedule/sets/0/names", ["smell"]),
    ("schedule/sets/0/names", ["text", "text"]),
    ("schedule/sets/0/weights", NUMBERS[:1].float()),
    ("schedule/sets/0/weights", NUMBERS[:0]),
    ("schedule/sets/0/gram", NUMBERS),
    ("schedule/sets/0/gram", None),
    ("schedule/sets/0/private", [-1]),
    ("schedule/sets/0/step", 0),
    ("schedule/sets/0/step", 6),
    ("schedule/sets/0/interval", 0),
    ("schedule/sets/0/compiled", 1),
    ("schedule/sets/0/failed", "no"),
    ("weighting", {}),
    ("weighting/weighting", "mgda"),
    ("weighting/kept", {}),
    ("weighting/kept/names", ["smell"]),
    ("weighting/kept/values", NUMBERS),
    ("weighting/kept/values", None),
    ("weighting/smoothed/values", NUMBERS / 0),
    ("weighting/smoothed/values", NUMBERS.float()),
    ("weighting/generator", None),
    ("weighting/generator", torch.zeros(5056)),
]


@pytest.mark.parametrize(("where", "value"), WRONG, ids=lambda value: str(value)[:30].replace("\n", " "))
def test_a_surgeons_state_that_is_none_is_refused(paced: tuple[Any, dict], tmp_path: Path, where: str, value: object):
    task, state = paced
    training = Training.prepare(task)
    check_state(state, training, 5, tmp_path / "last.pt")
    before = str(training.state_dict())
    with pytest.raises(UserError, match=r"last\.pt: surgeon, (schedule|weighting)"):
        check_state(changed(state, f"surgeon/{where}", value), training, 5, tmp_path / "last.pt")
    assert str(training.state_dict()) == before


def test_a_set_of_objectives_comes_once(paced: tuple[Any, dict], tmp_path: Path):
    task, state = paced
    sets = state["surgeon"]["schedule"]["sets"]
    twice = changed(state, "surgeon/schedule/sets", [*sets, sets[0]])
    with pytest.raises(UserError, match="sets of objectives that differ"):
        check_state(twice, Training.prepare(task), 5, tmp_path / "last.pt")


def test_another_every_is_another_run(sentiment: Path, tmp_path: Path):
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), epochs=1, every=3)
    train(config)
    with pytest.raises(UserError, match=r"every: 4 here, 3 there"):
        train(replace(config, every=4, resume=True))


# ---- earlier runs ----


@pytest.mark.parametrize("kind", TASKS.values())
def test_a_run_from_before_these_options_took_weights_at_every_step(kind: type):
    config = kind(data=Path("data"))
    values = config.to_dict()
    for name in ("every", "fraction", "weighting", "weighting_options"):
        del values[name]
    assert config_from_dict(values, "config.yaml") == replace(config, every=1)


# ---- what cannot be asked for ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, r"--every: got 0, expected a number of steps, 1 or more, or auto"),
        ({"every": 4, "granularity": "module"}, r"--every: got 4, expected 1 with --granularity module"),
        ({"every": 4, "method": "joint"}, r"--every: got 4, expected --method gmd .* means nothing to joint"),
        ({"every": "auto", "method": "enumerate"}, r"--every: got auto, expected --method gmd"),
        ({"fraction": 0.5}, r"--fraction: got 0\.5, expected --every with it"),
        ({"fraction": 0.0, "every": 4}, r"--fraction: got 0\.0, expected more than 0, and at most 1"),
        ({"fraction": 1.5, "every": 4}, r"--fraction: got 1\.5, expected more than 0, and at most 1"),
        ({"weighting": "mgda"}, r"--weighting: got mgda, expected --method surgery or scalarised with it"),
        ({"weighting_options": ("c=1",)}, r"--weighting-options: got c=1, expected --method surgery or scalarised"),
        ({"method": "surgery"}, r"--weighting: got nothing, expected one of mean, .*for --method surgery"),
        ({"method": "scalarised", "weighting": "mgda"}, r"--weighting: got mgda, expected one of stch, famo, "),
        (
            {"method": "scalarised", "weighting": "dwa", "weighting_options": ("steps=3",)},
            r"--weighting-options: got steps, expected some of temperature",
        ),
        (
            {"method": "scalarised", "weighting": "dwa", "weighting_options": ("temperature=0",)},
            r"--weighting-options: temperature: expected a finite number above 0",
        ),
        ({"method": "surgery", "weighting": "x"}, r"--weighting: got x, expected one of mean, "),
        (
            {"method": "surgery", "weighting": "krum", "weighting_options": ("byzantine=5",)},
            r"--weighting krum: byzantine: expected an int from 0 to 4, got 5",
        ),
        (
            {"method": "surgery", "weighting": "krum", "modalities": ("text",)},
            r"--weighting krum: gram: expected 3 objectives or more",
        ),
    ],
)
def test_options_that_cannot_work_are_named(sentiment: Path, tmp_path: Path, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(tiny_sentiment(sentiment, tmp_path / "run"), **change).check_values()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("alpha=1",), "got alpha, expected some of c, smooth"),
        (("generator=1",), "got generator, expected some of c, smooth"),
        (("weighting=mgda",), "got weighting, expected some of c, smooth"),
        (("c=x",), "c: expected a number, got 'x'"),
        (("c=nan",), "c: expected a number, got 'nan'"),
        (("c=true",), "c: expected a number, got True"),
        (("c=-1",), "c: expected a finite number of at least 0"),
        (("c",), "got 'c', expected NAME=VALUE"),
        (("c=",), "got 'c=', expected NAME=VALUE"),
        (("c=1", "c=2"), "got c twice"),
        (("smooth=1",), "smooth: expected at least 0 and below 1, got 1"),
    ],
)
def test_options_of_a_weighting_are_checked(words: tuple[str, ...], message: str):
    config = TrainBrats(data=(Path("d"),), method="surgery", weighting="cagrad", weighting_options=words)
    with pytest.raises(UserError, match=r"--weighting-options: .*" + message):
        config.check_values()


def test_a_weighting_that_a_batch_has_too_few_objectives_for_is_named(sentiment: Path, tmp_path: Path):
    """A sample with one modality is a batch with one objective, of which Krum can choose none."""
    options = {"method": "surgery", "weighting": "krum", "missing": ("0.9",), "batch": 1, "epochs": 1}
    with pytest.raises(UserError, match=r"--weighting krum: gram: expected 3 .*, got 1; the objectives were \w+$"):
        train(replace(tiny_sentiment(sentiment, tmp_path / "run"), **options))


def test_a_resumed_training_reads_its_options_from_json(sentiment: Path, tmp_path: Path):
    given = {"method": "surgery", "weighting": "cagrad", "weighting_options": ("c=0.4",), "every": "auto"}
    config = replace(tiny_sentiment(sentiment, tmp_path), **given)
    assert TrainSentiment.from_dict(json.loads(json.dumps(config.to_dict())), "here") == config
    for wrong in ({"every": 1.5}, {"every": True}, {"every": "often"}, {"weighting_options": "c=1"}, {"weighting": 3}):
        with pytest.raises(UserError, match=rf"here: {next(iter(wrong))}: "):
            TrainSentiment.from_dict(config.to_dict() | wrong, "here")
    assert METRICS == "metrics.jsonl"
