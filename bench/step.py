"""A whole training step on the U-Net, phase by phase: ours beside the published procedure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as criterion

import gmd_kernels as gk
from bench import oracle
from bench.measure import summary, with_peak_memory
from bench.peers import published
from gmd.methods.objectives import subset_objectives
from gmd.models.dynamic_sharing import Pairs, run_modalities
from gmd.models.unet3d import UNet3d
from gmd.subsets import all_subsets

MODALITIES = ("flair", "t1", "t1ce", "t2")
REGIONS = ("WT", "TC", "ET")
PHASES = ("forward", "backward", "surgery", "optimizer")
# Two ways through a deep network in float32, a batch of four against four batches of one: rounding differs everywhere.
TOLERANCE = 5e-3
SEED = 0


@dataclass
class Step:
    """A network with its optimizer, and one sample that has all modalities. Equal arguments make equal steps."""

    width: float
    size: int
    network: UNet3d = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    volumes: Tensor = field(init=False)  # [M, 1, size, size, size]
    target: Tensor = field(init=False)  # [1, R, size, size, size]

    def __post_init__(self):
        torch.manual_seed(SEED)
        self.network = UNet3d(MODALITIES, REGIONS, self.width)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.volumes = torch.randn(len(MODALITIES), 1, *[self.size] * 3)
        self.target = (torch.randn(1, len(REGIONS), *[self.size] * 3) > 1).float()
        self.params = list(self.network.parameters())
        self.generator = torch.Generator().manual_seed(SEED)  # of the projection orders, one a step


class StepResult(NamedTuple):
    grads: list[tuple[Tensor | None, ...]]  # [T][P]
    merged: list[Tensor | None]  # [P]


@dataclass
class Stopwatch:
    """Milliseconds between one `lap` and the next."""

    laps: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self._last = perf_counter()

    def lap(self, phase: str) -> None:
        now = perf_counter()
        self.laps[phase], self._last = 1e3 * (now - self._last), now


def our_step(step: Step, watch: Stopwatch) -> StepResult:
    """Every modality through the network by itself: a subset's backward pass visits the paths of its own modalities."""
    pairs = Pairs(1, {m: [0] for m in MODALITIES}, {m: step.volumes[i : i + 1] for i, m in enumerate(MODALITIES)})
    losses = _in_conflict(subset_objectives(run_modalities(step.network, pairs), step.target, criterion).values())
    watch.lap("forward")
    grads = _gradients(losses, step.params)
    watch.lap("backward")
    merged = gk.surgery(grads, generator=step.generator).merged
    _finish(step, merged, watch)
    return StepResult(grads, merged)


def published_step(step: Step, watch: Stopwatch) -> StepResult:
    """All modalities through the network as one batch; each subset's loss then masks the outputs of the absent ones.

    So every backward pass goes through the paths of all modalities, and the private parameters of an absent modality
    get zeros instead of no gradient.
    """
    outputs = step.network(step.volumes, range(len(MODALITIES)))
    losses = _in_conflict(criterion(_masked_mean(outputs, subset), step.target) for subset in all_subsets(MODALITIES))
    watch.lap("forward")
    grads = _gradients(losses, step.params)
    watch.lap("backward")
    merged = published(grads, gk.projection_order(len(losses), step.generator))
    _finish(step, merged, watch)
    return StepResult(grads, merged)


OURS, PUBLISHED = "ours", "published"
WAYS = {OURS: our_step, PUBLISHED: published_step}


def measure_step(width: float, size: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """A row for each way and phase ("total" among them); errors instead of times if the merged gradients differ."""
    steps = {name: Step(width, size) for name in WAYS}
    rows = _check(steps)
    if any(row["error"] for row in rows):
        return rows

    laps = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, run in WAYS.items():
            watch = Stopwatch()
            run(steps[name], watch)
            laps[name].append(watch.laps | {"total": sum(watch.laps.values())})
        on_round()
    return [
        row | {"phase": phase} | summary([lap[phase] for lap in laps[row["contestant"]]])
        for row in rows
        for phase in (*PHASES, "total")
    ]


def _check(steps: dict[str, Step]) -> list[dict]:
    """The first step of each: memory, and how far the merged gradients are from each other. A row for each."""
    results, memory = {}, {}
    for name, run in WAYS.items():
        call = partial(run, steps[name], Stopwatch())
        results[name], memory[name] = with_peak_memory(call)
    ours = steps[OURS]
    distance = shared_difference(ours.network, results[OURS].merged, results[PUBLISHED].merged)
    wrong = not distance <= TOLERANCE
    shared = {
        "width": ours.width,
        "size": ours.size,
        "T": len(results[OURS].grads),
        "N": sum(p.numel() for p in ours.params),
        "tensors": len(ours.params),
        "conflicts": oracle.conflict_rate(oracle.exact_gram(results[OURS].grads)),
        "value_error": distance,
        "error": f"merged gradients differ by {distance:.1e}, more than {TOLERANCE:.0e}" if wrong else "",
    }
    return [shared | {"contestant": name, "peak_extra_MB": memory[name]} for name in WAYS]


def shared_difference(network: UNet3d, ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> float:
    """The largest |ours - theirs| / |theirs| over the parameters that all modalities share: the convolutions.

    The norms' affines differ by design: the published way takes zeros for gradients, so it divides their sum by T.
    """
    names = [name for name, _ in network.named_parameters()]
    shared = [p for p, name in enumerate(names) if "norm" not in name]
    return max(float((ours[p] - theirs[p]).norm() / theirs[p].norm()) for p in shared)


def _gradients(losses: Sequence[Tensor], params: Sequence[Tensor]) -> list[tuple[Tensor | None, ...]]:
    """One backward pass for each loss; all but the last keep the graph."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(loss, params, retain_graph=k < last, allow_unused=True) for k, loss in enumerate(losses)
    ]


def _in_conflict(losses: Iterable[Tensor]) -> list[Tensor]:
    """Every second objective is turned around: an untrained network has no conflicts of its own to be projected."""
    return [-loss if k % 2 else loss for k, loss in enumerate(losses)]


def _masked_mean(outputs: Tensor, subset: Sequence[str]) -> Tensor:
    """[M, R, ...] -> [1, R, ...], mean over the modalities of `subset`: the others are multiplied with 0."""
    mask = outputs.new_tensor([m in subset for m in MODALITIES]).view(-1, 1, 1, 1, 1)
    return (outputs * mask).sum(dim=0, keepdim=True) / mask.sum()


def _finish(step: Step, merged: Sequence[Tensor | None], watch: Stopwatch) -> None:
    for param, gradient in zip(step.params, merged, strict=True):
        param.grad = gradient
    watch.lap("surgery")
    step.optimizer.step()
    watch.lap("optimizer")
