"""Optimizers, schedules and clipping: what each does to a step, that defaults change nothing, and that runs go on."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import gmd.training.loop
import gmd.training.tasks.samples
from gmd.config import TrainSentiment, config_from_dict, differences
from gmd.config.optimisation import ADDED
from gmd.errors import UserError
from gmd.monitor.log import Log
from gmd.subsets import all_subsets
from gmd.surgery import MeanGradient
from gmd.training.checked_state import check_state
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import batches_of_steps, logged_step, train
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, Validation, open_task
from gmd.training.tasks.criteria import absolute_error
from helpers.run_cases import Killed, assert_same_run, kill_before, tiny_sentiment
from helpers.training_cases import equal, overflowing, read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

SCHEDULES = {
    "poly": {},
    "cosine": {"warmup": 0.5},
    "step": {"milestones": (1, 2), "decay": 0.5, "warmup": 0.25},
    "plateau": {"plateau_patience": 0, "decay": 0.5, "warmup": 0.5},
    "constant": {},
}


@pytest.fixture
def config(sentiment: Path, tmp_path: Path) -> TrainSentiment:
    """4 steps an epoch."""
    return replace(tiny_sentiment(sentiment, tmp_path / "run"), batch=8, epochs=3, method="enumerate", missing=())


def prepared(config: TrainSentiment) -> tuple[Training, Task]:
    task = open_task(config)
    return Training.prepare(task), task


def go_on(training: Training, task: Task, steps: int, scores: Callable[[int], float] = lambda epoch: -epoch) -> None:
    """So many steps more, with what the loop does at the end of each epoch. The score falls by default."""
    for _ in range(steps):
        done = training.steps - training.epochs * task.steps_per_epoch
        (inputs, targets), *more = next(iter(batches_of_steps(task, training.epochs + 1, done)))
        training.network.train()
        train_step(training, task, inputs, targets, more)
        if done + 1 == task.steps_per_epoch:
            training.epochs += 1
            if training.plateau is not None:
                training.plateau.step(scores(training.epochs))


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ---- what was before ----


def test_defaults_are_adamw_and_poly_bit_for_bit(config: TrainSentiment):
    """The training as it was before there were options, by hand."""
    training, task = prepared(config)
    go_on(training, task, 5)

    torch.manual_seed(config.seed)
    network = task.build_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=12, power=0.9)
    surgeon = MeanGradient(optimizer)
    batches = [*task.batches(1), *task.batches(2)][:5]
    for inputs, targets in batches:
        outputs = task.outputs(network, inputs)
        losses = [
            task.criterion(task.predict(network, outputs, subset)[0], targets)
            for subset in all_subsets(config.modalities)
        ]
        optimizer.zero_grad()
        surgeon.backward(losses, outputs=outputs.values)
        optimizer.step()
        scheduler.step()
    assert equal(training.network.state_dict(), network.state_dict())
    assert equal(training.optimizer.state_dict(), optimizer.state_dict())
    assert equal(training.scheduler.state_dict(), scheduler.state_dict())
    assert "plateau" not in training.state_dict()


def test_a_run_of_before_the_options_is_read_and_goes_on(config: TrainSentiment):
    values = config.to_dict()
    for name in (*ADDED, "preset"):
        del values[name]
    assert config_from_dict(values, "old.yaml") == config


# ---- optimizers and schedules ----


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"optimizer": "adam"}, torch.optim.Adam),
        ({"optimizer": "adamw"}, torch.optim.AdamW),
        ({"optimizer": "sgd", "momentum": 0.5}, torch.optim.SGD),
    ],
    ids=["adam", "adamw", "sgd"],
)
def test_options_arrive_at_the_optimizer(config: TrainSentiment, options: dict, expected: type):
    training, _ = prepared(replace(config, lr=0.25, weight_decay=0.125, **options))
    assert type(training.optimizer) is expected
    [group] = training.optimizer.param_groups
    assert (group["initial_lr"], group["weight_decay"]) == (0.25, 0.125)
    assert group.get("momentum", 0.5) == 0.5


def rates(config: TrainSentiment) -> list[float]:
    """The learning rate of each step, relative to --lr; the score rises once, then never again."""
    training, task = prepared(config)
    found = []
    for _ in range(12):
        found.append(training.optimizer.param_groups[0]["lr"] / config.lr)
        go_on(training, task, 1, scores=lambda epoch: 0.0)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "constant"}, [1] * 12),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * k / 12)) / 2 for k in range(12)]),
        ({"schedule": "step", "milestones": (1, 2), "decay": 0.5}, [1] * 4 + [0.5] * 4 + [0.25] * 4),
        ({"schedule": "plateau", "plateau_patience": 0, "decay": 0.5}, [1] * 8 + [0.5] * 4),
        ({"schedule": "plateau", "plateau_patience": 1, "decay": 0.5}, [1] * 12),
        ({"schedule": "poly", "warmup": 0.5}, [1 / 3, 2 / 3, *((1 - k / 10) ** 0.9 for k in range(10))]),
        ({"schedule": "cosine", "warmup": 0.01}, [0.5, *((1 + math.cos(math.pi * k / 11)) / 2 for k in range(11))]),
        ({"schedule": "constant", "warmup": 0.75}, [0.25, 0.5, 0.75, *[1] * 9]),
        (
            {"schedule": "step", "milestones": (2,), "warmup": 0.75},
            [0.25, 0.5, 0.75, *[1] * 5, *[0.1] * 4],
        ),
        (
            {"schedule": "plateau", "plateau_patience": 0, "warmup": 0.75},
            [0.25, 0.5, 0.75, *[1] * 5, *[0.1] * 4],
        ),
        ({"schedule": "poly", "accumulate": 2}, [(1 - k / 6) ** 0.9 for k in range(6)]),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_learning_rates_step_by_step(config: TrainSentiment, options: dict, expected: list[float]):
    config = replace(config, epochs=6 if "accumulate" in options else 3, **options)
    expected = [(1 - k / 12) ** 0.9 for k in range(12)] if "accumulate" in options else expected
    assert rates(config) == pytest.approx(expected)


def test_a_plateau_follows_the_validations_of_a_run(config: TrainSentiment, monkeypatch: pytest.MonkeyPatch):
    scores = [0.5, 0.4, 0.5, 0.6]
    monkeypatch.setattr(gmd.training.loop, "validate", lambda _, training, __: Validation(scores[training.epochs], {}))
    config = replace(config, batch=28, epochs=4, schedule="plateau", plateau_patience=1, decay=0.5)
    train(config)
    assert [step["lr"] / config.lr for step in read_metrics(config.out, "step")] == [1, 1, 1, 0.5]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_training_goes_on_from_its_state_bit_for_bit(config: TrainSentiment, optimizer: str, schedule: str):
    """From within an epoch, in the warm-up where there is one, and after the learning rate has fallen."""
    options = {"optimizer": optimizer, "schedule": schedule, "accumulate": 2, "clip": 1.0, **SCHEDULES[schedule]}
    config = replace(config, method="gmd", **options)
    straight, task = prepared(config)
    states = []
    for steps in (1, 4):
        go_on(straight, task, steps)
        states.append(through_a_file(straight.state_dict()))
    go_on(straight, task, 1)
    for state in states:
        resumed, _ = prepared(config)
        check_state(state, resumed, task.steps_per_epoch, Path("last.pt"))
        resumed.load_state_dict(state)
        go_on(resumed, task, 6 - resumed.steps)
        assert equal(straight.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("every", [3, "auto"])
def test_weights_that_are_taken_now_and_then_go_on_with_batches_that_add_up(config: TrainSentiment, every: int | str):
    """Weights are taken at batches, and a step of the optimizer can begin between."""
    config = replace(config, method="gmd", every=every, accumulate=2, clip=1.0, missing=("0.3",))
    straight, task = prepared(config)
    go_on(straight, task, 3)
    state = through_a_file(straight.state_dict())
    go_on(straight, task, 3)
    resumed, _ = prepared(config)
    check_state(state, resumed, task.steps_per_epoch, Path("last.pt"))
    resumed.load_state_dict(state)
    go_on(resumed, task, 3)
    assert equal(straight.state_dict(), resumed.state_dict())


@pytest.mark.slow
def test_a_killed_run_with_all_options_ends_with_the_same_bits(config: TrainSentiment, monkeypatch: pytest.MonkeyPatch):
    options = {"optimizer": "sgd", "schedule": "plateau", "plateau_patience": 0, "warmup": 0.5, "accumulate": 3}
    config = replace(config, method="gmd", missing=("0.3",), clip=0.5, **options)
    straight = train(replace(config, out=config.out.with_name("straight")))
    monkeypatch.setattr(gmd.training.loop, "SAVE_EVERY", 0)
    with monkeypatch.context() as patched:
        kill_before(patched, "last.pt", 6)
        with pytest.raises(Killed):
            train(config)
    assert load_checkpoint(config.out / "last.pt")["steps"] == 3  # in the second epoch, of two steps each
    train(replace(config, resume=True))
    assert_same_run(straight, config.out)


SGD = {"optimizer": "sgd", "schedule": "step", "milestones": (1,), "warmup": 0.5}
PLATEAU = {"optimizer": "adam", "schedule": "plateau", "plateau_patience": 2}


@pytest.mark.parametrize(
    ("options", "where", "value"),
    [
        (SGD, ("optimizer", "state", 0, "momentum_buffer"), torch.zeros(1)),
        (SGD, ("optimizer", "state", 0, "momentum_buffer"), None),
        (SGD, ("optimizer", "state", 0, "exp_avg"), torch.zeros(1)),
        (SGD, ("optimizer", "param_groups", 0, "momentum"), 0.5),
        (SGD, ("scheduler", "_milestones"), [3]),
        (SGD, ("scheduler", "last_epoch"), 4),
        (SGD, ("scheduler", "_schedulers"), []),
        (SGD, ("scheduler", "_schedulers", 0, "total_iters"), 0),
        (SGD, ("scheduler", "_schedulers", 1, "gamma"), float("nan")),
        (SGD, ("scheduler", "_schedulers", 1, "milestones"), {1: 1}),
        (SGD, ("scheduler", "_schedulers", 1, "last_epoch"), -2),
        (PLATEAU, ("plateau",), None),
        (PLATEAU, ("plateau", "best"), float("inf")),
        (PLATEAU, ("plateau", "best"), "good"),
        (PLATEAU, ("plateau", "num_bad_epochs"), -5),
        (PLATEAU, ("plateau", "mode"), "min"),
        (PLATEAU, ("plateau", "factor"), 2.0),
        (PLATEAU, ("optimizer", "state", 0, "exp_avg_sq"), 1),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_damaged_state_is_refused(config: TrainSentiment, options: dict, where: tuple, value: object):
    config = replace(config, **options)
    training, task = prepared(config)
    go_on(training, task, 3)
    state = through_a_file(training.state_dict())
    check_state(state, prepared(config)[0], task.steps_per_epoch, Path("last.pt"))
    part = state
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(UserError, match=r"last\.pt: .*Restore it"):
        check_state(state, prepared(config)[0], task.steps_per_epoch, Path("last.pt"))


def test_validations_count_as_a_setting_where_the_schedule_follows_them(config: TrainSentiment):
    other = replace(config, validate_every=2, preset="cggm-mosi")
    assert differences(config, other) == []
    plateau = replace(config, schedule="plateau")
    assert differences(plateau, replace(plateau, validate_every=2)) == ["validate_every: 1 here, 2 there"]


# ---- clipping ----


def gradients(training: Training) -> list[Tensor]:
    return [param.grad.clone() for param in training.network.parameters() if param.grad is not None]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", ["joint", "gmd", "ogm-ge", "cggm"])
def test_clipping_is_torch_s_and_its_norm_is_recorded(config: TrainSentiment, method: str, accumulate: int):
    config = replace(config, method=method, accumulate=accumulate)
    training, task = prepared(config)
    go_on(training, task, 1)
    norm = float(clip_grad_norm_(training.network.parameters(), math.inf))
    for most, factor in ((norm / 2, 0.5), (norm * 2, 1.0)):
        clipped, task = prepared(replace(config, clip=most))
        clipped.network.train()
        config.out.mkdir(exist_ok=True)
        with Log(config.out, 0, 0) as log:
            _, record = logged_step(clipped, task, next(iter(batches_of_steps(task, 1))), log)
        assert record["norm"] == pytest.approx(norm, rel=1e-5)
        for ours, theirs in zip(gradients(clipped), gradients(training), strict=True):
            torch.testing.assert_close(ours, factor * theirs, rtol=1e-4, atol=1e-8)


def test_each_turn_of_mla_is_clipped(config: TrainSentiment):
    config = replace(config, method="mla", network="branches", clip=1e-3, optimizer="sgd", momentum=0.0)
    training, task = prepared(replace(config, weight_decay=0.0, lr=1.0))
    before = [param.detach().clone() for param in training.network.parameters()]
    turns = train_step(training, task, *next(iter(task.batches(1))))
    assert all(float(turn.report.squared_norm) > 1e-6 for turn in turns)
    moved = [(a - b.detach()).double() for a, b in zip(before, training.network.parameters(), strict=True)]
    length = math.sqrt(sum(float(difference.square().sum()) for difference in moved))
    assert 0 < length <= 3e-3 * 1.001, "three turns of a step of 1e-3 each"


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", ["joint", "gmd", "cggm"])
def test_an_overflow_in_fp16_is_skipped_and_never_clipped_into_a_step(
    config: TrainSentiment, monkeypatch: pytest.MonkeyPatch, method: str, accumulate: int
):
    _, *others = gmd.training.tasks.samples.REGRESSION
    criteria = (overflowing(absolute_error, above=1000.0), *others)
    monkeypatch.setattr(gmd.training.tasks.samples, "REGRESSION", criteria)
    options = {"precision": "fp16", "clip": 0.1, "accumulate": accumulate, "schedule": "constant"}
    training, task = prepared(replace(config, method=method, **options))
    taken = 0
    for _ in range(12):
        before = [param.detach().clone() for param in training.network.parameters()]
        skipped = training.skipped
        go_on(training, task, 1)
        assert equal(before, list(training.network.parameters())) == (training.skipped > skipped)
        taken += training.skipped == skipped
    assert training.skipped > 0
    assert taken > 0
    assert training.skipped_in_a_row == 0
    assert all(param.isfinite().all() for param in training.network.parameters())
    assert float(clip_grad_norm_(training.network.parameters(), math.inf)) <= 0.1 * 1.001


# ---- bad input ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 0.5}, r"--momentum: got 0\.5, expected --optimizer sgd with it; it means nothing to adamw"),
        ({"optimizer": "sgd", "momentum": 1.0}, r"--momentum: got 1\.0, expected less than 1"),
        ({"optimizer": "sgd", "momentum": -0.1}, r"--momentum: got -0\.1, expected 0 or more"),
        ({"clip": 0.0}, r"--clip: got 0\.0, expected a number above 0"),
        ({"clip": -1.0}, r"--clip: got -1\.0, expected a number above 0"),
        ({"clip": math.nan}, r"--clip: got nan, expected a number above 0"),
        ({"accumulate": 0}, r"--accumulate: got 0, expected a number above 0"),
        ({"warmup": 3.0}, r"--warmup: got 3\.0, expected less than --epochs, .* \(3\)"),
        ({"warmup": -1.0}, r"--warmup: got -1\.0, expected 0 or more"),
        ({"schedule": "step"}, r"--milestones: got nothing, expected the epochs after which .* such as 60 80"),
        ({"milestones": (1,)}, r"--milestones: got 1, expected --schedule step with it; it means nothing to poly"),
        ({"schedule": "step", "milestones": (2, 1)}, r"--milestones: got 2 1, expected ascending"),
        ({"schedule": "step", "milestones": (1, 3)}, r"--milestones: got 1 3, expected epochs after the warm-up \(0\)"),
        ({"schedule": "step", "milestones": (0,)}, r"--milestones: got 0, expected epochs after the warm-up"),
        ({"schedule": "step", "milestones": (1,), "warmup": 1.5}, r"--milestones: got 1, .*the warm-up \(1\.5\)"),
        ({"decay": 0.5}, r"--decay: got 0\.5, expected --schedule step or plateau with it"),
        ({"schedule": "plateau", "decay": 1.0}, r"--decay: got 1\.0, expected less than 1"),
        ({"schedule": "cosine", "plateau_patience": 3}, r"--plateau-patience: got 3, expected --schedule plateau"),
        ({"schedule": "plateau", "patience": 10}, r"--patience: got 10, expected more than --plateau-patience \(10\)"),
        ({"preset": "gmd-brats"}, r"--preset: got gmd-brats, expected one of cggm-mosi, or none"),
    ],
    ids=str,
)
def test_options_that_cannot_work_or_mean_nothing_are_named(config: TrainSentiment, change: dict, message: str):
    with pytest.raises(UserError, match=message):
        train(replace(config, **change))
    assert not config.out.exists()
