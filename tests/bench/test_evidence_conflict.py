"""The knob of the evidence: angle, ratio and capacity are what they are set to, at the start and in training."""

import pickle
from math import cos, radians
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evidence.arms import WEIGHTED
from bench.evidence.task import Request
from bench.evidence.tasks import conflict
from bench.evidence.tasks.conflict import LOUD, MODALITIES, QUIET, Knob, Network
from gmd.models.multimodal import run_modalities
from gmd.training.objectives import subset_objectives

BY_NAME = {arm.name: arm for arm in conflict.TASKS[0].arms}
SUBSETS = {"loud", "quiet", "loud+quiet"}

pytestmark = pytest.mark.usefixtures("one_thread")


def request_of(name, seed=0, number=0):
    arm = BY_NAME[name]
    return Request(arm, conflict.TASKS[0].settings(arm)[number], seed, Path(), Path(), Path())


def gradients(network, split, ratio):
    """The gradients of the three objectives over a split, subset -> [N], and their losses' factors in them."""
    outputs = run_modalities(network, conflict.batch_of(split, range(len(split.targets))))
    losses = subset_objectives(
        outputs,
        split.targets,
        conflict.squared_error,
        lambda outputs, subset: conflict.predict(network, outputs, subset),
    )
    factors, params = conflict.loss_factors(ratio), list(network.parameters())
    found = {}
    for subset, loss in losses.items():
        grads = torch.autograd.grad(factors[subset] * loss, params, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)]
        found[subset] = torch.cat([g.flatten() for g in flat])
    return found


@pytest.mark.parametrize("capacity", conflict.UNITS)
@pytest.mark.parametrize("angle", conflict.ANGLES)
def test_gradients_at_the_start_have_the_angle_and_the_ratio(angle, capacity):
    _, _, many = conflict.make_data(angle, seed=3)
    torch.manual_seed(3)
    found = gradients(Network(capacity), many, ratio=10)
    loud, quiet = found[LOUD,], found[QUIET,]
    assert float(loud @ quiet / (loud.norm() * quiet.norm())) == pytest.approx(cos(radians(angle)), abs=0.05)
    assert float(loud.norm() / quiet.norm()) == pytest.approx(10, rel=0.1)  # of 2000 samples


def test_best_parameters_of_one_modality_are_along_its_direction():
    _, _, many = conflict.make_data(120, seed=1)
    best = {m: torch.linalg.lstsq(many.inputs[m], many.targets[:, None]).solution[:, 0] for m in MODALITIES}
    loud, quiet = best[LOUD], best[QUIET]
    assert float(loud @ quiet / (loud.norm() * quiet.norm())) == pytest.approx(cos(radians(120)), abs=0.05)
    assert float(loud.norm() / quiet.norm()) == pytest.approx(1, abs=0.05)


def test_one_shared_unit_cannot_serve_both_and_many_with_parts_of_their_own_can():
    assert sum(p.numel() for p in Network("small").parameters()) == 17
    large = Network("large")
    assert len(large.scales) == len(large.shifts) == 2


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(conflict, "STEPS", 40)


def outcome(knob, name="gmd", seed=0, number=2):
    return conflict.run(request_of(name, seed, number), knob=knob)


def test_in_training_more_pairs_conflict_the_wider_the_angle(few_steps):
    narrow, wide = (outcome(Knob(angle, 1, "small"), "upgrad").conflicts for angle in (0, 120))
    assert wide > narrow + 0.1


def test_in_training_the_lengths_differ_by_more_where_the_ratio_is_larger(few_steps):
    equal, unequal = (outcome(Knob(60, ratio, "small"), "upgrad").ratio for ratio in (1, 10))
    assert 1 < equal < 3 < unequal < 20


def test_weights_undo_the_ratio():
    """The mean is a fair contestant: a setting of `enumerate, weighted` makes the gradient that there is at ratio 1."""
    arm = BY_NAME[WEIGHTED]
    [text] = conflict.TASKS[0].settings(arm)[1]["weighting_options"]
    weights = {name: float(value) for name, value in (word.split(":") for word in text[len("weights=") :].split(","))}
    undone = {subset: weights["+".join(subset)] * factor for subset, factor in conflict.loss_factors(10).items()}
    assert max(undone.values()) == pytest.approx(min(undone.values()), rel=1e-4)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_arm_trains_and_is_scored(name, few_steps):
    found = outcome(Knob(90, 10, "large"), name)
    assert set(found.scores) == SUBSETS
    assert all(0 <= score <= 1 for score in found.scores.values())
    assert found.steps == 40
    several = name not in ("joint", "dropout", "enumerate")
    assert (found.conflicts is not None) == (found.ratio is not None) == several
    again = outcome(Knob(90, 10, "large"), name)
    assert (again.scores, again.validation, again.ratio) == (found.scores, found.validation, found.ratio)


def test_arms_of_a_seed_have_the_same_data_and_seeds_others():
    first, other = conflict.make_data(60, 0), conflict.make_data(60, 1)
    assert torch.equal(first[0].targets, conflict.make_data(150, 0)[0].targets)
    assert not torch.equal(first[0].targets, other[0].targets)
    assert [len(split.targets) for split in first] == [conflict.TRAINING, conflict.VALIDATION, conflict.TEST]


def test_cells_have_names_of_their_own_and_can_be_sent_to_a_process():
    assert len({cell.name for cell in conflict.TASKS}) == len(conflict.TASKS) == 24
    cell = pickle.loads(pickle.dumps(conflict.TASKS[-1]))
    assert cell.knob == {"angle": 170, "ratio": 10, "units": 32}
    assert cell.lacking(Path("nowhere")) is None
    assert all(cell.seconds[arm.name] > 0 for arm in cell.arms)


def test_who_points_the_wrong_way_scores_below_chance():
    _, _, test = conflict.make_data(150, 0)
    network = conflict.Network("small")
    along = torch.from_numpy(conflict.directions(150, np.random.default_rng([0, 1]))["loud"]).float()
    with torch.no_grad():
        network.shared.weight.copy_(along[None])
    scores = conflict.score(network, test)
    assert scores["loud"] > 0.8
    assert scores["quiet"] < 0.25
