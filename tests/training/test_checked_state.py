"""A checkpoint that a training cannot go on from is refused before anything has changed, whatever is wrong with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmd.config import TrainSentiment
from gmd.errors import UserError
from gmd.training.checked_state import check_state
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.state import Training
from gmd.training.tasks import open_task
from helpers.changed_state import changed
from helpers.run_cases import tiny_sentiment

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def trained(data: Path, out: Path, method: str) -> TrainSentiment:
    config = replace(tiny_sentiment(data, out), method=method)
    train(config)
    return config


@pytest.fixture(scope="module")
def run(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSentiment, dict]:
    """A run by cggm, which has the most to remember, and the state of its last.pt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmd.training.loop.draw_pictures", lambda run, task: "not drawn")
        config = trained(sentiment, tmp_path_factory.mktemp("run") / "run", "cggm")
    return config, load_checkpoint(config.out / "last.pt")


WRONG = [
    ("epochs", -1),
    ("epochs", True),
    ("epochs", 3),  # of 4 steps, 2 an epoch
    ("steps", 2.0),
    ("steps", 10**30),
    ("steps", torch.tensor(4)),
    ("skipped", 5),
    ("skipped_in_a_row", 3),
    ("best_epoch", 3),
    ("not_better", None),
    ("best_score", float("nan")),
    ("best_score", "high"),
    ("seconds", float("inf")),
    ("seconds", -1.0),
    ("random", torch.zeros(3, dtype=torch.uint8)),
    ("random", torch.zeros(5056)),
    ("random", torch.full((5056,), 255, dtype=torch.uint8)),
    ("generator", None),
    ("scheduler", {}),
    ("scheduler/last_epoch", "x"),
    ("scheduler/base_lrs", [0.1, 0.1]),
    ("optimizer", []),
    ("optimizer/param_groups", []),
    ("optimizer/param_groups/0/lr", float("nan")),
    ("optimizer/param_groups/0/lr", -0.1),
    ("optimizer/param_groups/0/betas", (0.1, 0.2)),
    ("optimizer/param_groups/0/params", [0]),
    ("optimizer/param_groups/0/foreach", "yes"),
    ("optimizer/state", {99999: {}}),
    ("optimizer/state", {"x": {}}),
    ("optimizer/state/0", {}),
    ("optimizer/state/0/exp_avg", torch.zeros(3)),
    ("optimizer/state/0/exp_avg", 1.0),
    ("optimizer/state/0/exp_avg", torch.nested.nested_tensor([torch.zeros(2), torch.zeros(1)], layout=torch.jagged)),
    ("random", torch.zeros(5056, dtype=torch.uint8).to_sparse()),
    ("optimizer/state/0/step", torch.tensor([1.0, 2.0])),
    ("surgeon", {}),
    ("surgeon/balance", torch.zeros(1)),
    ("surgeon/classifiers", None),
    ("surgeon/classifiers/models", []),
    ("surgeon/classifiers/models/0", {"weight": torch.zeros(1)}),
    ("surgeon/classifiers/optimizer", {"state": {}}),
    ("network", {}),
]


@pytest.mark.parametrize(("where", "value"), WRONG, ids=lambda value: str(value)[:30].replace("\n", " "))
def test_a_state_that_is_none_is_refused(run: tuple[TrainSentiment, dict], where: str, value: object):
    config, state = run
    task = open_task(config)
    training = Training.prepare(task)
    before, random = training.state_dict(), torch.get_rng_state()
    with pytest.raises(UserError, match=r"last\.pt: .*(Restore it|train anew)"):
        check_state(changed(state, where, value), training, task.steps_per_epoch, config.out / "last.pt")
    assert str(training.state_dict()) == str(before)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    "others",
    [
        None,
        {},
        [3],
        [{}],
        [{"random": torch.get_rng_state()}],
        [{"random": torch.get_rng_state(), "generator": torch.zeros(3, dtype=torch.uint8)}],
        [{"random": torch.get_rng_state(), "generator": torch.Generator().get_state(), "surgeon": {}}],
    ],
    ids=["nothing", "a dictionary", "a number", "empty", "without a generator", "no generator", "no surgeon"],
)
def test_what_other_processes_have_saved_is_looked_at_too(run: tuple[TrainSentiment, dict], others: object):
    """The last one's surgeon lacks what that of the training has."""
    config, state = run
    task = open_task(replace(config, resume=True))
    training = Training.prepare(task)
    with pytest.raises(UserError, match=r"last\.pt: (others|surgeon).*damaged"):
        check_state(state | {"others": others}, training, task.steps_per_epoch, config.out / "last.pt")


@pytest.mark.parametrize("lacking", ["epochs", "optimizer", "random", "generator", "scheduler", "surgeon", "seconds"])
def test_what_lacks_is_named(run: tuple[TrainSentiment, dict], lacking: str):
    config, state = run
    task = open_task(config)
    kept = {key: value for key, value in state.items() if key != lacking}
    with pytest.raises(UserError, match=rf"last\.pt: lacks {lacking}; damaged"):
        check_state(kept, Training.prepare(task), task.steps_per_epoch, config.out / "last.pt")


@pytest.mark.parametrize("kind", [torch.int64, torch.float64, torch.complex64], ids=str)
def test_weights_of_another_type_are_not_cast(run: tuple[TrainSentiment, dict], kind: torch.dtype):
    config, state = run
    task = open_task(config)
    weights = {name: value.to(kind) for name, value in state["network"].items()}
    with pytest.raises(UserError, match=rf"last\.pt: trained with .* {str(kind).partition('.')[2]} there"):
        check_state(state | {"network": weights}, Training.prepare(task), task.steps_per_epoch, config.out / "last.pt")


@pytest.mark.parametrize("method", ["gmd", "cggm", "cggm-gmd", "ogm-ge", "mla", "joint"])
def test_a_state_of_each_method_is_taken_over(sentiment: Path, tmp_path: Path, method: str):
    config = trained(sentiment, tmp_path / "run", method)
    task, state = open_task(config), load_checkpoint(config.out / "last.pt")
    check_state(state, Training.prepare(task), task.steps_per_epoch, config.out / "last.pt")
    if method == "ogm-ge":
        wrong = changed(state, "surgeon/owners", {0: "smell"})
        with pytest.raises(UserError, match="surgeon, owners: got"):
            check_state(wrong, Training.prepare(task), task.steps_per_epoch, config.out / "last.pt")
