"""The knob: a generated task whose objectives conflict as much as is set, to see when surgery pays.

A hidden number t ~ N(0, 1) is to be told from two modalities, x_m = t u_m + 0.5 noise in 16 dimensions. The network's
first layer is shared, and the best parameters of a unit that sees one modality alone are along u_m. So:

    angle: between u_loud and u_quiet. While the shared weights are near zero, the gradient of the squared error of the
        objective m is along u_m: the cosine of the two gradients is that of the angle, on average over the noise.
    ratio: the loss of `loud` alone is multiplied by its root, that of `quiet` alone divided by it, that of both left
        as it is: the gradients at the start differ in length by the ratio, and the best parameters stay what they are.
    capacity: "small" has one shared unit and nothing that belongs to a modality: what serves one modality costs the
        other. "large" has 32 units, each with a scale and a shift of each modality's own, the layout of `gmd.share`:
        it can serve both, and conflicts are those on the way.

The score is the accuracy of the sign of t. It is not R2, which would have to be cut off at 0: then a modality whose
predictions point the wrong way would cost no more than one that tells nothing.

The loss is what an unequal precision or unit of objectives makes of it, and `enumerate` is a fair contestant: its
learning rate is tuned as that of all, and among the settings of `enumerate, weighted` are weights that undo the ratio.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from math import cos, radians, sin, sqrt
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.evidence.arms import Settings, arms_on_one_network
from bench.evidence.task import Outcome, Request, Task
from bench.measure.mfeat import make_backward
from gmd.data.modality_dropout import drop_modalities
from gmd.data.pairs import Pairs
from gmd.models.multimodal import FeatureNetwork, run_modalities
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.surgery.report import Report
from gmd.training.objectives import full_objective, subset_objectives

LOUD, QUIET = MODALITIES = ("loud", "quiet")
ANGLES, RATIOS = (0, 60, 90, 120, 150, 170), (1, 10)  # degrees
UNITS = {"small": 1, "large": 32}  # shared units of the first layer
DIMENSIONS, NOISE = 16, 0.5
TRAINING, VALIDATION, TEST = 64, 2000, 2000  # samples
BATCH, STEPS = 16, 200
SEEDS = 10
PAIRS = tuple(product((0.01, 0.03, 0.1), (0.01, 1.0)))
# of `enumerate, weighted`: equal weights, and those that undo a ratio of 10 whichever modality has the long gradient
TILTS = (1.0, 0.1, 10.0)
WEIGHTED = tuple(
    product(((0.01, 0.01), (0.01, 1.0)), ({(LOUD,): t, (QUIET,): 1.0, MODALITIES: sqrt(t)} for t in TILTS))
)


class Knob(NamedTuple):
    """What is set: degrees, the ratio of the lengths, "small" or "large"."""

    angle: float
    ratio: float
    capacity: str


class Split(NamedTuple):
    """Samples of one use: their modalities, [n, 16] each, and what is to be told, [n]."""

    inputs: Mapping[str, Tensor]
    targets: Tensor


class Network(FeatureNetwork):
    """Shared units, tanh of a product with the inputs, and one linear head behind the mean of the modalities."""

    def __init__(self, capacity: str):
        super().__init__()
        units = UNITS[capacity]
        self.modalities = MODALITIES
        self.shared = nn.Linear(DIMENSIONS, units, bias=False)
        self.head = nn.Linear(units, 1, bias=False)
        nn.init.normal_(self.shared.weight, std=0.01)  # near zero, where the angle is exact
        nn.init.constant_(self.head.weight, 1 / sqrt(units))
        own = MODALITIES if capacity == "large" else ()
        self.scales = nn.ParameterList(torch.ones(units) for _ in own)
        self.shifts = nn.ParameterList(torch.zeros(units) for _ in own)

    def forward(self, values: Tensor, index: int) -> Tensor:
        """Returns the features [n, units] of the values [n, 16] of a modality."""
        units = self.shared(values)
        return torch.tanh(units * self.scales[index] + self.shifts[index] if len(self.scales) else units)


def predict(network: Network, outputs: Pairs[Tensor], subset: Subset | None) -> tuple[Tensor, list[int]]:
    """Returns predictions [b, 1] of the samples that have all of `subset`, or of all samples, and which these are."""
    fused, samples = network.fuse(outputs, subset)
    return network.head(fused), samples


def squared_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """Returns half of the mean squared error of the predictions [n, 1]."""
    return F.mse_loss(predicted.squeeze(-1), targets) / 2


def loss_factors(ratio: float) -> dict[Subset, float]:
    """Returns what the loss of each subset is multiplied by."""
    return {(LOUD,): sqrt(ratio), (QUIET,): 1 / sqrt(ratio), MODALITIES: 1.0}


def directions(angle: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws the unit vectors u_m [16], with this angle between them."""
    first, other = np.linalg.qr(rng.normal(size=(DIMENSIONS, 2)))[0].T
    return {LOUD: first, QUIET: cos(radians(angle)) * first + sin(radians(angle)) * other}


def make_data(angle: float, seed: int) -> tuple[Split, Split, Split]:
    """Draws the samples that train, validate and test: at each angle the same but for the angle."""
    rng = np.random.default_rng([seed, 1])
    along = directions(angle, rng)
    splits = []
    for count in (TRAINING, VALIDATION, TEST):
        told = rng.normal(size=count)
        noise = {m: NOISE * rng.normal(size=(count, DIMENSIONS)) for m in MODALITIES}
        inputs = {m: torch.from_numpy(np.outer(told, along[m]) + noise[m]).float() for m in MODALITIES}
        splits.append(Split(inputs, torch.from_numpy(told).float()))
    training, validation, test = splits
    return training, validation, test


def run(request: Request, *, knob: Knob) -> Outcome:
    """Trains and scores one network. It needs no data, and writes nothing."""
    training, validation, test = make_data(knob.angle, request.seed)
    torch.manual_seed(request.seed)
    network = Network(knob.capacity)
    start = time.process_time()
    reports = train(network, training, request, knob.ratio)
    seconds = time.process_time() - start
    compared = [report for report in reports if report.refreshed and len(report.gram) > 1]
    return Outcome(
        fmean(score(network, validation).values()),
        score(network, test),
        fmean(float(report.conflicts) for report in compared) if compared else None,
        geometric_mean(map(ratio_of, compared)) if compared else None,
        len(reports),
        seconds,
    )


def train(network: Network, training: Split, request: Request, ratio: float) -> list[Report]:
    """Trains with a learning rate that decays to 0, as `gmd train` does. Returns a report for each step."""
    arm, setting = request.arm, dict(request.setting)
    lr, decay = setting.pop("lr"), setting.pop("weight_decay")
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=STEPS, power=0.9)
    generator = torch.Generator().manual_seed(request.seed)
    backward = make_backward({**arm.options, **setting}, optimizer, generator)
    make_objectives = full_objective if arm.method in ("joint", "dropout") else subset_objectives
    factors = loss_factors(ratio)  # of both modalities it is 1
    order, reports = np.random.default_rng([request.seed, 2]), []
    for _ in range(STEPS):
        members = order.choice(TRAINING, BATCH, replace=False)
        inputs = batch_of(training, members)
        outputs = run_modalities(network, drop_modalities(inputs, generator) if arm.method == "dropout" else inputs)
        losses = make_objectives(outputs, training.targets[members], squared_error, partial(predict, network))
        optimizer.zero_grad()
        reports.append(backward({subset: factors[subset] * loss for subset, loss in losses.items()}, outputs))
        optimizer.step()
        scheduler.step()
    return reports


def batch_of(split: Split, members: Sequence[int] | np.ndarray) -> Pairs[Tensor]:
    """Returns these samples, which have both modalities."""
    everybody = {m: list(range(len(members))) for m in MODALITIES}
    return Pairs(len(members), everybody, {m: values[members] for m, values in split.inputs.items()})


@torch.no_grad()
def score(network: Network, split: Split) -> dict[str, float]:
    """Returns the accuracy of the sign with each subset of the modalities: its name -> share of the samples."""
    outputs = run_modalities(network, batch_of(split, range(len(split.targets))))
    positive = split.targets > 0
    told = {subset: predict(network, outputs, subset)[0].squeeze(-1) > 0 for subset in all_subsets(MODALITIES)}
    return {subset_name(subset): float((signs == positive).double().mean()) for subset, signs in told.items()}


def ratio_of(report: Report) -> float:
    """Returns the longest gradient of an objective by the shortest."""
    lengths = report.gram.diagonal().clamp(min=0).sqrt()
    return float(lengths.max() / lengths.min().clamp(min=1e-12))


def needs_nothing(data: Path) -> str | None:
    """Returns nothing that is lacking: the task is generated."""
    del data
    return None


def task(knob: Knob, seconds: Mapping[str, float]) -> Task:
    """Returns one cell of the knob."""
    return Task(
        name=f"conflict-{knob.capacity}-{knob.angle:g}-{knob.ratio:g}",
        title=f"conflict: {knob.capacity} network, {knob.angle:g} degrees, ratio {knob.ratio:g}",
        modalities=MODALITIES,
        score="accuracy of the sign",
        arms=arms_on_one_network(MODALITIES),
        settings=Settings(PAIRS, WEIGHTED),
        run=partial(run, knob=knob),
        lacking=needs_nothing,
        seeds=SEEDS,
        seconds=seconds,
        group="conflict",
        knob={"angle": knob.angle, "ratio": knob.ratio, "units": UNITS[knob.capacity]},
    )


_ARMS = tuple(arm.name for arm in arms_on_one_network(MODALITIES))
SECONDS = {
    "small": dict(zip(_ARMS, (0.4, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.5), strict=True)),
    "large": dict(zip(_ARMS, (0.5, 0.5, 0.5, 0.5, 0.7, 0.7, 0.6, 0.7), strict=True)),
}
TASKS = tuple(
    task(Knob(angle, ratio, capacity), SECONDS[capacity]) for capacity, ratio, angle in product(UNITS, RATIOS, ANGLES)
)
