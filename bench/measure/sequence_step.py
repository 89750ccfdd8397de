"""A whole training step on the transformer of Dynamic Sharing: ours beside the published procedure, T = 7.

Every way starts from one network that has been trained for a while, as in bench.measure.step, and takes the same batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.memory import with_peak_memory
from bench.measure.peers import published
from bench.measure.phases import time_phases
from bench.measure.sequences import BATCH, LENGTH, make_batch, make_network, subset_losses, tensors_of
from bench.measure.step import Stopwatch
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import all_subsets
from gmd.surgery import GMD, MeanGradient
from gmd.surgery._passes import Row, gradients_of
from gmd.training.tasks.criteria import absolute_error

PHASES = ("forward", "gradients", "optimizer")
SEED = 0
TOL = 0.1


Surgeon = GMD | MeanGradient


class Way(NamedTuple):
    """How a step is computed.

    Attributes:
        surgeon: takes the optimizer and the generator of the projection orders; None for the published way.
        outputs: whether the surgeon's backward pass is told the modalities' outputs.
        tolerance: of the merged gradient's relative distance from the published way's, or of the mean gradient's from
            the mean of the published way's gradients, in norm, over the parameters that all modalities share.
    """

    surgeon: Callable[[torch.optim.Optimizer, torch.Generator], Surgeon] | None
    outputs: bool
    tolerance: float


def _gmd(
    optimizer: torch.optim.Optimizer, generator: torch.Generator, tol: float = 0.0, by_sample: bool = False
) -> GMD:
    return GMD(optimizer, generator=generator, tol=tol, by_sample=by_sample)


PUBLISHED, MEAN, PLAIN, EXACT, BY_SAMPLE, COMPRESSED = (
    "published",
    "mean of the losses",
    "exact without outputs",
    "exact",
    "exact by sample",
    f"compressed to {TOL}",
)
WAYS = {
    PUBLISHED: Way(None, False, 0.0),
    MEAN: Way(lambda optimizer, generator: MeanGradient(optimizer), False, 1e-3),
    PLAIN: Way(_gmd, False, 1e-3),
    EXACT: Way(_gmd, True, 1e-3),
    BY_SAMPLE: Way(partial(_gmd, by_sample=True), True, 1e-3),
    COMPRESSED: Way(partial(_gmd, tol=TOL), True, 3 * TOL),
}


@dataclass
class Step:
    """A network with its optimizer, and a batch of sequences that have all modalities.

    Equal arguments make equal steps.
    """

    way: str
    width: int
    layers: int
    network: SharedTransformer = field(init=False)

    def __post_init__(self):
        self.network = make_network(SharedTransformer, self.width, self.layers)
        self.params = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-4)
        self.inputs, self.scores = make_batch(seed=1)
        self.generator = torch.Generator().manual_seed(SEED)  # of the projection orders, one a step
        make = WAYS[self.way].surgeon
        self.surgeon = None if make is None else make(self.optimizer, self.generator)

    def run(self, watch: Stopwatch) -> "StepResult":
        """Takes one training step, with a lap of the watch at the end of each phase."""
        return published_step(self, watch) if self.surgeon is None else our_step(self, self.surgeon, watch)


class StepResult(NamedTuple):
    """What a step leaves to be judged.

    Attributes:
        merged: the merged gradients, P tensors.
        passes: how many times a backward pass went through the path of one modality.
        rows: [T][P] gradients of the objectives, of the published way alone.
        discarded: the largest share of the energy that compression left out.
    """

    merged: Row
    passes: int
    rows: Sequence[Row] = ()
    discarded: float = 0.0


def our_step(step: Step, surgeon: Surgeon, watch: Stopwatch) -> StepResult:
    """Takes a step as a user of `gmd.GMD`, or of the mean of the losses, writes it."""
    outputs = run_modalities(step.network, step.inputs)
    losses = subset_losses(step.network, outputs, step.scores)
    watch.lap("forward")
    step.optimizer.zero_grad()
    report = surgeon.backward(losses, outputs=tensors_of(outputs) if WAYS[step.way].outputs else None)
    watch.lap("gradients")
    merged = [p.grad for p in step.params]
    step.optimizer.step()
    watch.lap("optimizer")
    one_pass = len(step.network.modalities) if step.way == MEAN else sum(map(len, all_subsets(step.network.modalities)))
    discarded = 0.0 if report.discarded is None else float(report.discarded.max())
    return StepResult(merged, sum(report.directions or [one_pass]), discarded=discarded)


def published_step(step: Step, watch: Stopwatch) -> StepResult:
    """Takes a step as published: each subset's loss masks the outputs of the modalities that are absent.

    So every backward pass goes through the paths of all modalities, and the private parameters of an absent modality
    get zeros instead of no gradient.
    """
    network, modalities = step.network, step.network.modalities
    outputs = torch.stack([network(step.inputs.values[m], k) for k, m in enumerate(modalities)])
    masks = [[m in subset for m in modalities] for subset in all_subsets(modalities)]
    losses = [absolute_error(network.head(outputs[mask].mean(dim=0)), step.scores) for mask in masks]
    watch.lap("forward")
    rows = gradients_of(losses, step.params)
    merged = published(rows, gk.projection_order(len(losses), step.generator))
    for param, gradient in zip(step.params, merged, strict=True):
        param.grad = gradient
    watch.lap("gradients")
    step.optimizer.step()
    watch.lap("optimizer")
    return StepResult(merged, len(losses) * len(modalities), rows)


def measure_sequence_step(width: int, layers: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each way and phase ("total" among them); errors instead of times if the gradients differ."""
    steps = {name: Step(name, width, layers) for name in WAYS}
    rows = _check(steps)
    if any(row["error"] for row in rows):
        return rows
    times = time_phases(steps, rounds, on_round)
    timed = [row | {"phase": phase} | taken for row in rows for phase, taken in times[row["contestant"]].items()]
    theirs = {row["phase"]: row["median_ms"] for row in timed if row["contestant"] == PUBLISHED}
    return [row | {"times_faster": theirs[row["phase"]] / row["median_ms"]} for row in timed]


def _check(steps: dict[str, Step]) -> list[dict]:
    """Returns a row for each way, of its first step: memory, and how far its gradients are from the published."""
    results: dict[str, StepResult] = {}
    memory: dict[str, float | None] = {}
    for name, step in steps.items():
        results[name], memory[name] = with_peak_memory(partial(step.run, Stopwatch()))
    theirs = results[PUBLISHED]
    gram = oracle.exact_gram(theirs.rows)
    expected = dict.fromkeys(results, theirs.merged) | {MEAN: _mean(theirs.rows)}
    return [
        _described(steps[name], result, shared_difference(steps[name].network, result.merged, expected[name]), gram)
        | {"peak_extra_MB": memory[name]}
        for name, result in results.items()
    ]


def _mean(rows: Sequence[Row]) -> list[Tensor]:
    """Returns the mean gradient of all objectives, which reach every parameter: P tensors."""
    gradients = [[g for g in row if g is not None] for row in rows]
    return [torch.stack(column).mean(dim=0) for column in zip(*gradients, strict=True)]


def _described(step: Step, result: StepResult, distance: float, gram: Tensor) -> dict:
    """Returns the columns of a way that do not change from step to step, and whether its gradients are right."""
    wrong = not distance <= WAYS[step.way].tolerance  # NaN is wrong too
    return {
        "case": f"width {step.width}, {step.layers} layers",
        "contestant": step.way,
        "width": step.width,
        "layers": step.layers,
        "batch": BATCH,
        "length": LENGTH,
        "T": len(gram),
        "N": sum(p.numel() for p in step.params),
        "tensors": len(step.params),
        "conflicts": oracle.conflict_rate(gram),
        "passes": result.passes,
        "discarded": result.discarded,
        "value_error": distance,
        "error": f"merged gradient differs by {distance:.1e}" if wrong else "",
    }


def shared_difference(network: SequenceNetwork, ours: Row, theirs: Row) -> float:
    """Returns |ours - theirs| / |theirs| over the shared parameters, which every way has gradients for.

    The projections and the norms' affines differ by design: the published way takes zeros for gradients, so it divides
    their sum by T.
    """
    differences, norms = [], []
    for (name, _), mine, other in zip(network.named_parameters(), ours, theirs, strict=True):
        if not name.startswith("inputs.") and "norm" not in name:
            assert mine is not None
            assert other is not None
            differences.append((mine - other).norm())
            norms.append(other.norm())
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())
